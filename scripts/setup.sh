#!/usr/bin/env bash
# Installs what the tests need besides Rust: a C compiler for the crypto back-end and SQLite, make, git,
# curl, PostgreSQL, Redis, Chromium and Node.js (18 or later) for the pages, Python and ssh-keygen for reports, Prometheus for rules, two packages of npm in
# tests/console. As root it uses apt; otherwise it names what is missing. The servers that the packages would start are not started: tests run their own.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A package=([cc]=gcc [make]=make [curl]=curl [git]=git [chromium]=chromium [node]=nodejs [npm]=npm
  [python3]=python3 [ssh-keygen]=openssh-client [promtool]=prometheus)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
command -v redis-server >/dev/null || missing+=(redis-server redis-tools)
command -v redis-cli >/dev/null || missing+=(redis-tools)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v psql >/dev/null || missing+=(postgresql-client)
packages() {
  # What the console's tests in a browser need; as the lock file says, and no newer.
  [ -e tests/console/node_modules/.package-lock.json ] && [ tests/console/node_modules/.package-lock.json -nt tests/console/package-lock.json ] ||
    npm ci --prefix tests/console --silent --no-audit --no-fund --ignore-scripts
}
if [ "${#missing[@]}" -eq 0 ]; then
  packages
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: please install: ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]} with apt-get"
export DEBIAN_FRONTEND=noninteractive
# Neither a database cluster nor a service of the packages' own.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends libc6-dev "${missing[@]}" >/dev/null
packages
