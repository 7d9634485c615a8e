#!/usr/bin/env bash
# Release build, then every provider fault against a running service: some minutes, on loopback. Prints
# the table of docs/FAULTS.md, and fails if a promise is broken. An argument selects faults by name.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --package hpns --package system-tests --bin hpns --bin faults
target/release/faults "$@"
