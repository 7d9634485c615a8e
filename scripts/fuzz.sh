#!/usr/bin/env bash
# Every fuzz target for some seconds (60 by default), from its committed corpus. What is found on the way
# stays under fuzz/found; an input that breaks a target is printed and kept under fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
seconds=${1:-60}
for target in ${TARGETS:-request apns_answer fcm_answer configuration licence_key entry}; do
  mkdir -p "fuzz/found/$target"
  echo "fuzz: $target for $seconds s"
  # Without a sanitizer the stable compiler will do; there is no unsafe code of ours to watch.
  if ! cargo fuzz run --sanitizer none "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=8192 -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 2>&1 |
    { grep -E '^(error|stat::number_of_executed_units|==|SUMMARY|thread|Failing)|panicked|artifacts/' || true; }; then
    echo "fuzz: $target failed" >&2
    exit 1
  fi
done
echo "fuzz: nothing was found"
