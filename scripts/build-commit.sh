#!/usr/bin/env bash
# Builds the release binary of another commit, once, and prints where it lies.
#   scripts/build-commit.sh COMMIT
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --short "$1^{commit}")
binary=$PWD/target/baseline/hpns-$commit
if [ ! -x "$binary" ]; then
  source=$(mktemp -d)
  trap 'rm -rf "$source"' EXIT
  git archive "$commit" | tar x -C "$source"
  # A target directory of its own, kept for the next comparison.
  BUILD_COMMIT=$commit CARGO_TARGET_DIR=$PWD/target/baseline/target \
    cargo build --release --locked --manifest-path "$source/Cargo.toml" --package hpns >&2
  cp target/baseline/target/release/hpns "$binary"
fi
echo "$binary"
