#!/usr/bin/env bash
# Release build, then faults under load, on loopback. Two tables; the run fails if a promise is broken.
#   scripts/faults.sh                 every provider fault (docs/FAULTS.md), then the hosted shape's rows
#   scripts/faults.sh providers [NAME]  provider faults only, all or some
#   scripts/faults.sh hosted [--long] [ROW...]  rows of docs/SCORECARD.md only
# With OTHER=COMMIT that commit is built too, and the row of rolling deploys mixes both versions.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
cargo build --release --locked --quiet --package hpns --package system-tests --bins
other=()
[ -z "${OTHER:-}" ] || other=(--other "$(scripts/build-commit.sh "$OTHER")")
case $what in
all) target/release/faults && target/release/scorecard "${other[@]}" ;;
providers) shift && target/release/faults "$@" ;;
hosted) shift && target/release/scorecard "${other[@]}" "$@" ;;
*) echo "faults: providers or hosted, not $what" >&2 && exit 2 ;;
esac
