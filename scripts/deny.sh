#!/usr/bin/env bash
# Licences, bans and sources of every dependency. Advisories need RustSec's database, which no package brings: before a
# release, run `cargo deny check advisories` where the network can be reached (docs/OPERATIONS.md).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny
cargo deny check licenses bans sources
echo "advisories: not checked; run 'cargo deny check advisories' where the network can be reached" >&2
