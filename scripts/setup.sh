#!/usr/bin/env bash
# Installs what the tests need besides Rust: a C compiler for the crypto back-end and SQLite, make, git,
# curl, and Chromium for the simulator's page. As root it uses apt; otherwise it names what is missing.
set -euo pipefail

declare -A package=([cc]=gcc [make]=make [curl]=curl [git]=git [chromium]=chromium)
missing=()
for tool in "${!package[@]}"; do
  command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: please install: ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]} with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends libc6-dev "${missing[@]}" >/dev/null
