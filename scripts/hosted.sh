#!/usr/bin/env bash
# The hosted shape on this machine: PostgreSQL, two Redis lanes, two gateways behind one address, two workers
# and the simulator, all on loopback ports of their own. Runs until it is interrupted; needs Debian's postgresql
# and redis-server, which it installs where it may.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cargo build --quiet --locked --package hpns --package system-tests --bin hpns --bin hosted
exec target/debug/hosted
