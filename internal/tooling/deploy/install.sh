#!/usr/bin/env bash
# Installs what prove.sh needs: SAM CLI, moto, AWS CLI and pytest, Checkov, and Incode's Web SDK, at the versions pinned beside this file;
# a Docker engine, started if none runs, a headless Chromium, a JDK and Android's org.json from Debian; the image in which SAM CLI runs functions.
# With the argument emulator: what make test-deploy needs, which is SAM CLI, AWS CLI, pytest and ministack.
# Prints the folder of the programs, for PATH. Keeps everything outside of the clone. A second run installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/omnistart
mkdir -p "$cache"

fail() { echo "install.sh: $*" >&2; exit 1; }

# A virtual environment that holds exactly what a list pins. It is named after the list's content, so another list
# makes another environment.
environment() { # list
  local dir
  dir=$cache/$(sha256sum "$here/$1" | cut -c1-16)
  if [ ! -e "$dir/complete" ]; then
    python3 -m venv --clear "$dir" || fail "python3 cannot make a virtual environment"
    "$dir/bin/pip" install --quiet --no-deps --requirement "$here/$1" >&2 || fail "pip cannot install $1"
    touch "$dir/complete"
  fi
  echo "$dir"
}
tools=$(environment requirements.txt)
if [ "${1-}" = emulator ]; then
  ministack=$(environment requirements-ministack.txt)
  ln -sf "$ministack/bin/ministack" "$tools/bin/ministack"
  echo "$tools/bin"
  exit
fi
# Apart, because it pins a boto3 that SAM CLI does not support.
ln -sf "$(environment requirements-checkov.txt)/bin/checkov" "$tools/bin/checkov"

# Debian serves one version of a package at a time, so these cannot be pinned.
packages=()
command -v dockerd >/dev/null || docker info >/dev/null 2>&1 || packages+=(docker.io iptables)
command -v chromium-headless-shell >/dev/null || packages+=(chromium-headless-shell)
command -v javac >/dev/null || packages+=(default-jdk-headless)
[ -e /usr/share/java/json-android.jar ] || packages+=(libandroid-json-org-java)
if [ ${#packages[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || fail "install ${packages[*]} first: there is no apt-get here to do it with"
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"; } \
    >"$cache/apt.log" 2>&1; then
    tail -n 5 "$cache/apt.log" >&2
    fail "apt-get cannot install ${packages[*]}"
  fi
fi

# Incode's Web SDK with the React that it needs, one file each. Of 2.0 there is no public package.
web_sdk=$cache/web-sdk-$(sha256sum "$here/web-sdk.sha256" | cut -c1-16)
if [ ! -e "$web_sdk" ]; then
  packed=$(mktemp -d)
  trap 'rm -rf "$packed"' EXIT
  (
    cd "$packed"
    npm pack --silent @incodetech/welcome@1.51.0 react@17.0.2 react-dom@17.0.2 >/dev/null || fail "npm cannot get Incode's Web SDK"
    sha256sum --quiet --check "$here/web-sdk.sha256" >&2 || fail "Incode's Web SDK is not the one that was pinned"
    mkdir web-sdk
    tar -xzOf incodetech-welcome-1.51.0.tgz package/dist/onBoarding.umd.js >web-sdk/web-sdk.js
    tar -xzOf react-17.0.2.tgz package/umd/react.production.min.js >web-sdk/react.js
    tar -xzOf react-dom-17.0.2.tgz package/umd/react-dom.production.min.js >web-sdk/react-dom.js
    mv web-sdk "$web_sdk"
  )
  rm -rf "$packed"
fi
ln -sfn "$web_sdk" "$tools/web-sdk"

if ! docker info >/dev/null 2>&1; then
  # What was killed leaves its file, and perhaps a zombie of that number, which is then taken for a running engine.
  ps -C dockerd -o stat= | grep -qv Z || rm -f /var/run/docker.pid
  ps -C containerd -o stat= | grep -qv Z || rm -f /var/run/docker/containerd/containerd.pid
  setsid dockerd >"$cache/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 120); do
    docker info >/dev/null 2>&1 && break
    sleep 0.5
  done
  if ! docker info >/dev/null 2>&1; then
    tail -n 5 "$cache/dockerd.log" >&2
    fail "dockerd does not start"
  fi
fi

# SAM CLI would pull Amazon Linux and add its emulator to it. A static binary needs nothing of Amazon Linux, so the
# emulator, which SAM CLI ships, and a CA bundle where Amazon Linux keeps it make the same image without a registry.
# An image that SAM CLI has made itself is left alone.
case $(uname -m) in
  aarch64 | arm64) arch=arm64 ;;
  *) arch=x86_64 ;;
esac
image=public.ecr.aws/lambda/provided:al2023-rapid-$arch
if ! docker image inspect "$image" >/dev/null 2>&1; then
  root=$(mktemp -d)
  trap 'rm -rf "$root"' EXIT
  install -D "$tools"/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-$arch "$root/var/rapid/aws-lambda-rie"
  install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/pki/tls/certs/ca-bundle.crt"
  mkdir -p "$root/tmp" "$root/var/task"
  tar -C "$root" -c . | docker import - "$image" >/dev/null || fail "docker cannot import $image"
fi

echo "$tools/bin"
