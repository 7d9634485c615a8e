#!/usr/bin/env bash
# Release build, then the benchmark: service, simulator and load client in a process each, on loopback.
#   scripts/bench.sh [SECONDS] [COMMIT]
#   scripts/bench.sh scale [COMMIT]    very many apps: what a push costs beside them, what a lane carries and takes while
#                               it is idle, and what a thousand notice of one whose provider is silent (some minutes)
#   scripts/bench.sh growth     what tenants and devices cost as they become many (some minutes, 4 GB of disk)
# SECONDS is the length of each run. With a COMMIT that commit is built too (under target/baseline), every
# run is made with both builds in turn, and ratios are printed.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --package hpns --package system-tests --bin hpns --bin bench
if [ "${1:-}" = growth ]; then
  exec target/release/bench 5 --growth
fi
if [ "${1:-}" = scale ]; then
  exec target/release/bench 5 --scale ${2:+--baseline "$(scripts/build-commit.sh "$2")"}
fi
if [ -z "${2:-}" ]; then
  exec target/release/bench "${1:-10}"
fi
baseline=$(scripts/build-commit.sh "$2")
echo "baseline: $2"
target/release/bench "${1:-10}" --baseline "$baseline"
