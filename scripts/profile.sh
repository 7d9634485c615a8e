#!/usr/bin/env bash
# Where the service's CPU goes under the first run of the benchmark: samples it with perf and groups the
# samples by what the code belongs to. Needs perf (Debian: linux-perf) and the right to use it.
#   scripts/profile.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
command -v perf >/dev/null || { echo "profile: please install linux-perf" >&2; exit 1; }
seconds=${1:-10}
cargo build --release --locked --quiet --package hpns --package system-tests --bin hpns --bin bench
data=$(mktemp)
table=$(mktemp)
trap 'rm -f "$data" "$table"' EXIT
target/release/bench "$((seconds + 6))" --only "apns, 64" >"$table" &
bench=$!
service=
for _ in $(seq 100); do
  service=$(pgrep -P "$bench" -f 'hpns all' || true)
  [ -n "$service" ] && break
  sleep 0.1
done
sleep 4 # The warm-up.
perf record --quiet -e cpu-clock -F 999 -p "$service" -o "$data" -- sleep "$seconds" 2>/dev/null
wait "$bench"
sed -n '3,4p' "$table"
cost=$(awk '/^apns, 64/ { print $5 }' "$table")
perf report --stdio --no-children -i "$data" --sort dso,symbol --percent-limit 0 2>/dev/null |
  awk -v cost="$cost" '
    function group(name) {
      if (name ~ /\[k\]|\[kernel/) return "kernel: sockets, epoll, scheduling"
      if (name ~ /(^|[ _])mi_|malloc|cfree|realloc|_int_free|calloc|unlink_chunk|alloc::/) return "allocator"
      if (name ~ /memcpy|memmove|memset|memcmp|memchr/) return "copies"
      if (name ~ /clock_gettime|vdso|Instant|SystemTime/) return "clock"
      if (name ~ /rustls|aws_lc|AES|aes|gcm|GHASH|tokio_rustls|coalesce/) return "TLS towards Apple"
      if (name ~ /sha256|SHA256|HMAC|hmac|crc32/) return "hashes: licence key, device id"
      if (name ~ /apns_sender|h2::|hpack|HeaderMap|http::/) return "APNs: h2, headers, slots"
      if (name ~ /sqlite|sqlx|tenant_registry/) return "device ledger and licences"
      if (name ~ /tracing|crossbeam|fmt::|chrono|Formatter/) return "log: formatting and writer thread"
      if (name ~ /metrics/) return "metrics"
      if (name ~ /gateway|serde|mattermost|emoji/) return "gateway: JSON in, payload out"
      if (name ~ /hyper|axum|http_edge|httparse|tower/) return "HTTP/1.1: hyper, axum, accept loop"
      if (name ~ /dispatch_|SwappableSender|governor|push_domain/) return "dispatch and worker"
      if (name ~ /tokio|mio|futures/) return "tokio: tasks, wake-ups, timers"
      return "other"
    }
    /^ +[0-9.]+%/ { share = $1 + 0; $1 = ""; sum[group($0)] += share; all += share }
    END { for (name in sum) printf "%6.1f µs  %4.1f %%  %s\n", cost * sum[name] / all, 100 * sum[name] / all, name }
  ' | sort -rn
