#!/usr/bin/env bash
# Format, lints, documentation, and what a machine can measure of the house: nothing may be complained about.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt
cargo fmt --all --check
cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
if ! command -v python3 >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "check: please install: python3" >&2; exit 1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 >/dev/null
fi
scripts/house.py
echo "check: format, lints, documentation and house are clean"
