#!/usr/bin/env bash
# Licences, bans and sources of every dependency. (Advisories need their database from the network;
# run `cargo deny check advisories` where that can be reached.)
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny
cargo deny check licenses bans sources
