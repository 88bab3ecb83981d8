#!/usr/bin/env bash
# Checks the contract (the OpenAPI document) against the code, the template and the running function, with Schemathesis
# and with clients that two generators make from it. Needs Go, Python 3, Node.js and npm. Installs everything else, at
# fixed versions, in .build/contract.
set -euo pipefail
cd "$(dirname "$0")/../../.."
root=$PWD here=$PWD/internal/tooling/contract build=$PWD/.build/contract
mkdir -p "$build/node"

go test ./internal/endpoint -run 'Contract|Catalogue'

command -v npm >/dev/null || { echo 'npm is missing: install Node.js' >&2; exit 1; }
if ! cmp -s "$here/requirements.txt" "$build/installed.txt"; then
  echo 'Installing Python packages ...'
  python3 -m venv --clear "$build/python"
  "$build/python/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$build/installed.txt"
fi
echo 'Installing npm packages ...'
cp "$here"/{package.json,package-lock.json,client.ts,tsconfig.json} "$build/node"
npm ci --silent --prefix "$build/node"

# serve starts make run with the given variables, and stops the previous one.
stop() { [ -z "${program:-}" ] || { pkill -INT -P "$program" || true; wait "$program" || true; }; }
trap stop EXIT
log=$build/run.log port=$((20000 + $$ % 10000)) # below the ports that the kernel gives to clients
export OMNISTART_URL=http://localhost:$port OMNISTART_NODE=$build/node PYTHONDONTWRITEBYTECODE=1
serve() {
  stop
  : >"$log"
  env PORT="$port" "$@" make run >>"$log" 2>&1 &
  program=$!
  timeout 300 grep -q -m1 '  curl ' <(tail -n +1 -f --pid "$program" "$log") || { cat "$log"; exit 1; }
}

serve
"$build/python/bin/python" -m pytest -q -p no:cacheprovider "$here"

# Every request needs claims, and the token below has those of customer-7, who may set the custom fields f1 to f20.
serve ALLOW_UNAUTHENTICATED=false ALLOWED_CUSTOM_FIELDS="$(seq -s, -f f%g 20)"
cd "$build" # Schemathesis writes files to the current directory
PYTHONPATH=$root python/bin/schemathesis --config-file "$here/schemathesis.toml" \
  run "$root/functions/start/docs/openapi.json" --url "$OMNISTART_URL" \
  --header 'Authorization: Bearer e30.eyJzdWIiOiJjdXN0b21lci03In0.x' --max-examples "${EXAMPLES:-200}"
