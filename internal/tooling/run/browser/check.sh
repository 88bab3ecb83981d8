#!/usr/bin/env bash
# Uses the page of make run in headless Chromium. With an argument, it also writes a screenshot to that file. Needs Go,
# Node.js with npm, curl and Chromium.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
here=$PWD/internal/tooling/run/browser build=$PWD/.build/browser

command -v npm >/dev/null || { echo 'npm is missing: install Node.js' >&2; exit 1; }
CHROMIUM=$(command -v chromium-headless-shell || command -v chromium || command -v google-chrome) ||
  { echo 'Chromium is missing: apt-get install chromium-headless-shell' >&2; exit 1; }
mkdir -p "$build"
cp "$here"/{package.json,package-lock.json,page.test.mjs} "$build"
npm ci --silent --prefix "$build"
CGO_ENABLED=0 go build -o "$build/bootstrap" ./functions/start
go build -o "$build/run" ./internal/tooling/run
export CHROMIUM SCREENSHOT=${1:+$PWD/$1}
node --test "$build/page.test.mjs"
