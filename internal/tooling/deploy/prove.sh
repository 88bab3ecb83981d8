#!/usr/bin/env bash
# Proves the deployment with the real tools: lint, policy checks, the transform, the Makefile's targets, and the built
# function in a container under sam local. Nothing is deployed and no account is needed.
set -euo pipefail
cd "$(dirname "$0")/../../.."

command -v npm >/dev/null || { echo 'prove.sh: npm is missing: install Node.js' >&2; exit 1; }
tools=$(internal/tooling/deploy/install.sh)
PATH=$tools:$PATH
export PATH SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 PYTHONDONTWRITEBYTECODE=1
for tool in sam aws checkov moto_server docker chromium-headless-shell java curl go; do
  command -v "$tool" >/dev/null || { echo "prove.sh: $tool cannot run here" >&2; exit 1; }
done
sam --version
docker version --format 'Docker engine {{.Server.Version}}'
chromium-headless-shell --version

sam validate --lint
report=$(checkov --file template.yaml --framework cloudformation --skip-download --quiet --compact) || { echo "$report"; exit 1; }
echo "$report"
grep -q '^Passed checks: [1-9]' <<<"$report" || { echo 'prove.sh: checkov could not read template.yaml' >&2; exit 1; }
python -m pytest -q -p no:cacheprovider --durations=5 --ignore internal/tooling/deploy/test_emulated.py internal/tooling/deploy
