#!/usr/bin/env bash
# All tests: units, conformance suites, whole system. The wire's tables are counted at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT

cargo build --quiet --locked --package hpns
status=0
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$results" || status=$?

count() { grep -cE "^test $1.* \.\.\. ok$" "$results" || true; }
echo
echo "wire contract: $(count 'golden::[afv][0-9]') of 57 golden cases, $(count 'raw_http::h[0-9]') raw HTTP cases," \
  "$(count 'provider_answers::p[0-9]') provider-answer cases, $(count 'acks::k[0-9]') ack cases green"
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$results"
exit "$status"
