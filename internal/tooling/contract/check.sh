#!/usr/bin/env bash
# Checks the contract against the code, the template and the running function: by Schemathesis, and by clients that
# well-known generators make of it. Needs Go, Python 3, Node.js and npm; installs the rest, pinned, into .build/contract.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=internal/tooling/contract
build=$PWD/.build/contract
mkdir -p "$build"

go test ./internal/endpoint -run 'Contract|Catalogue'

command -v npm >/dev/null || { echo 'npm is missing: install Node.js' >&2; exit 1; }
if ! cmp -s $here/requirements.txt "$build/installed.txt"; then
  python3 -m venv --clear "$build/python"
  "$build/python/bin/pip" install --quiet --no-deps --requirement $here/requirements.txt
  cp $here/requirements.txt "$build/installed.txt"
fi
mkdir -p "$build/node"
cp $here/package.json $here/package-lock.json $here/client.ts $here/tsconfig.json "$build/node"
npm ci --silent --prefix "$build/node"

# serve runs the function with these settings, in place of the one before.
log=$build/run.log port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export OMNISTART_URL=http://localhost:$port OMNISTART_NODE=$build/node PYTHONDONTWRITEBYTECODE=1
end() { [ -z "${program:-}" ] || { pkill -INT -P "$program" || true; wait "$program" || true; }; }
trap end EXIT
serve() {
  end
  : >"$log"
  env PORT="$port" "$@" make run >>"$log" 2>&1 &
  program=$!
  timeout 300 grep -q -m1 '  curl ' <(tail -n +1 -f --pid "$program" "$log") || { cat "$log"; exit 1; }
}

serve
"$build/python/bin/python" -m pytest -q -p no:cacheprovider $here

serve REQUIRE_AUTHORIZER=true # which lets nobody in without claims: these are customer-7's
cd "$build" # where it leaves its own files
PYTHONPATH=$OLDPWD python/bin/schemathesis --config-file "$OLDPWD/$here/schemathesis.toml" run "$OLDPWD/functions/start/docs/openapi.json" \
  --url "$OMNISTART_URL" --header 'Authorization: Bearer e30.eyJzdWIiOiJjdXN0b21lci03In0.x' --max-examples "${EXAMPLES:-200}"
