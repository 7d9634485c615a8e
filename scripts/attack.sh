#!/usr/bin/env bash
# Release build, then attacks on a hosted service from outside, on loopback, beside a tenant; as a table. The run fails if
# somebody gains more than docs/SECURITY.md says, or the tenant notices.
#   scripts/attack.sh [SECONDS]   how long each attack goes on
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --package hpns --package system-tests --bins
target/release/attack "$@"
