#!/usr/bin/env bash
# Makes crates/gateway/data/emoji.tsv: emoji short codes and what they stand for, one a line, sorted.
#
# Two packages, both under the MIT licence (crates/gateway/data/LICENSES.txt):
#   emoji-datasource 16.0.0 (npm)           the names that Mattermost's own clients write
#   github.com/kyokomi/emoji/v2 v2.2.8 (Go) the names that mattermost-push-proxy replaces; it uses
#                                           v2.2.4, which the Go proxy no longer serves: this is the next
# Where both know a name, the second holds, so that a phone shows what it showed before.
# Needs npm, go and python3. The table is committed; this runs only when a package is renewed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent emoji-datasource@16.0.0 >/dev/null
tar xzf emoji-datasource-16.0.0.tgz
peer=$(GOFLAGS=-mod=mod go mod download -json github.com/kyokomi/emoji/v2@v2.2.8 | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')

python3 - "$work/package/emoji.json" "$peer/emoji_codemap.go" >"$root/crates/gateway/data/emoji.tsv" <<'PY'
import json, re, sys

def decoded(escaped):
    code = lambda found: chr(int(next(filter(None, found.groups())), 16))
    return re.sub(r"\\U([0-9a-fA-F]{8})|\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})", code, escaped)

table = {}
for emoji in json.load(open(sys.argv[1])):
    for name in emoji["short_names"]:
        table[name] = "".join(chr(int(part, 16)) for part in emoji["unified"].split("-"))
for name, escaped in re.findall(r'^\s*":([^"]+):":\s*"((?:[^"\\]|\\.)*)"', open(sys.argv[2], encoding="utf-8").read(), re.M):
    table[name] = decoded(escaped)
for name in sorted(table):
    if not re.fullmatch("flag-[a-z]{2}", name):
        print(f"{name}\t{table[name]}")
PY

{
  printf 'emoji.tsv is made from two packages by scripts/emoji-table.sh.\n\n== emoji-datasource 16.0.0 ==\n\n'
  cat "$work/package/LICENSE"
  printf '\n== github.com/kyokomi/emoji v2.2.8 ==\n\n'
  cat "$peer/LICENSE"
} >"$root/crates/gateway/data/LICENSES.txt"
wc -l "$root/crates/gateway/data/emoji.tsv"
