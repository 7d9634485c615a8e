#!/usr/bin/env bash
# Release build, then the benchmark: service, simulator and load client in a process each, on loopback.
# The argument is the seconds of each run.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --package hpns --package system-tests --bin hpns --bin bench
target/release/bench "${1:-10}"
