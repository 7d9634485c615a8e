#!/usr/bin/env bash
# Holds both APIs to their documents: calls made from them, well-formed ones and broken ones, against a demo
# on free ports. No call may be answered with a server error, none otherwise than its document says.
#   scripts/contract.sh [EXAMPLES]    how many calls are made up for each operation and kind (60 by default)
# Needs Python 3 with venv; the tool comes from the Python package index into target/contract.
set -euo pipefail
cd "$(dirname "$0")/.."
examples=${1:-60}
root=$PWD
work=$root/target/contract
mkdir -p "$work"
if ! cmp -s tests/contract/requirements.txt "$work/requirements.txt"; then
  echo "contract: installing $(cat tests/contract/requirements.txt)"
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
      echo "contract: please install: python3-venv" >&2
      exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  fi
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/contract/requirements.txt
  cp tests/contract/requirements.txt "$work/requirements.txt"
fi
cargo build --quiet --locked --package hpns

place=$(mktemp -d)
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; rm -rf "$place"' EXIT
export HPNS_GATEWAY__LISTEN=127.0.0.1:0 HPNS_ADMIN__LISTEN=127.0.0.1:0 HPNS_HEALTH__LISTEN=127.0.0.1:0
hpns=$root/target/debug/hpns
# The log tells that something broke inside although the answer looked well.
(cd "$place" && exec "$hpns" all --demo >out 2>&1) &
demo=$!
until grep -q '^admin token: ' "$place/out"; do kill -0 "$demo" && sleep 0.1; done
said() { sed -n "s/^$1: //p" "$place/out"; }
console=$(said console)
export HPNS_ADMIN_URL=$console HPNS_ADMIN_TOKEN=$(said 'admin token')
# Something to be found, since ids that are made up belong to nobody.
tenant=$("$hpns" tenant create contract --json | sed -n 's/.*"id": *"\(ten_[^"]*\)".*/\1/p')
licence=$("$hpns" licence create "$tenant" --plan test --region us --terms 1 --accepted-by contract --json |
  sed -n 's/.*"id": *"\(lic_[^"]*\)".*/\1/p')
cat >"$place/known.toml" <<TOML
[parameters]
"path.tenant" = "$tenant"
"path.licence" = "$licence"
[checks]
missing_required_header.expected-statuses = [400, 428]
TOML

calls() {
  local name=$1
  shift
  echo "contract: $name"
  (cd "$place" && "$work/venv/bin/schemathesis" "$@" --no-color --generation-deterministic \
    --suppress-health-check all) >"$place/$name" 2>&1 || { cat "$place/$name"; return 1; }
  grep -E 'generated' "$place/$name"
}
# That a call is well-formed says a document; that its values may be, the service: an id that nobody has, a
# cursor of no page. So what is refused although it looks well is no breach, as long as it is refused well.
lenient=ignored_auth,positive_data_acceptance
document=("$console/openapi.json" --phases examples,coverage,fuzzing)
admin=("${document[@]}" --header "Authorization: Bearer $HPNS_ADMIN_TOKEN" --max-examples "$examples"
  --generation-with-security-parameters false)
# One route can end the caller's own token: it comes last.
ends=/v1/admin-tokens/{id}
calls admin-known --config-file known.toml run "${admin[@]}" --exclude-path "$ends" --exclude-checks $lenient
# What does not exist is 404, also where a header is missing.
calls admin-unknown run "${admin[@]}" --exclude-path "$ends" --exclude-checks $lenient,missing_required_header
calls admin-tokens run "${admin[@]}" --include-path "$ends" --exclude-checks $lenient
calls admin-nobody run "${document[@]}" --max-examples 1 --checks ignored_auth
# The protocol answers 200 to all it can read, broken or not, and skips what it does not know.
calls push run "$root/docs/push-api.yaml" --url "$(said 'push URL')" --phases examples,coverage,fuzzing \
  --max-examples "$((examples * 4))" --exclude-checks $lenient,missing_required_header,negative_data_rejection
if grep -aE 'panicked|ERROR' "$place/out"; then
  echo "contract: the service complained" >&2
  exit 1
fi
echo "contract: both APIs do as their documents say"
