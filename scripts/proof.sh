#!/usr/bin/env bash
# What is too long or too heavy for every change: the chart, the image, compose, the units, both APIs against their documents, the hosted
# shape under attack. Writes docs/PROOF.md: what was run, when, on which commit, how long it took and how it ended.
#   scripts/proof.sh [PART…]    chart, image, compose, units, contract, attack; all of them by default
set -uo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ $# -gt 0 ] || parts=(chart image compose units contract attack)
page=docs/PROOF.md
mkdir -p target/proof
broken=0
rows=()

command_of() {
  case $1 in
  chart) echo scripts/helm.sh ;;
  image) echo scripts/image.sh test ;;
  compose) echo deploy/compose/check.sh up ;;
  units) echo scripts/units.sh run ;;
  contract) echo scripts/contract.sh ;;
  attack) echo scripts/attack.sh ;;
  *) return 1 ;;
  esac
}

# Rows of parts that are not run this time stay as they were.
kept() { [ -e "$page" ] && grep -E "^\| $1 \|" "$page" || true; }

for part in chart image compose units contract attack; do
  if [[ ! " ${parts[*]} " == *" $part "* ]]; then
    row=$(kept "$part")
    [ -z "$row" ] || rows+=("$row")
    continue
  fi
  command=$(command_of "$part")
  echo "proof: $part: $command"
  began=$SECONDS
  $command >"target/proof/$part.log" 2>&1
  status=$?
  last=$(grep . "target/proof/$part.log" | tail -1 | tr -d '|' | cut -c1-120)
  if [ $status -eq 0 ]; then word=passed; else word="FAILED ($status)"; broken=1; fi
  rows+=("| $part | \`$command\` | $word | $((SECONDS - began)) s | $(date -u +%F) | $(git rev-parse --short=9 HEAD) | $last |")
  echo "proof: $part: $word; its output is in target/proof/$part.log"
done

{
  cat <<'PAGE'
# What is proven now and then

For those who release. `make proof` runs what is too long or too heavy for every change, and writes this
page; `scripts/proof.sh PART` does one part again. `make test` is everything else.

| part | command | ended | took | on | commit | its last word |
| --- | --- | --- | ---: | --- | --- | --- |
PAGE
  printf '%s\n' "${rows[@]}"
} >"$page"
exit $broken
