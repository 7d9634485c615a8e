#!/usr/bin/env bash
# The units of deploy/systemd.
#   scripts/units.sh       whether systemd understands them, alone and with each drop-in; how exposed each is by systemd's own
#                          measure (0 to 10; more than 2.0 fails); whether all are hardened alike. Starts nothing
#   scripts/units.sh run   also boots a systemd in namespaces of its own, on a copy of this machine's files in memory, with a
#                          database, lanes and a simulator: installs the units there, starts them, pushes, stops them. As root, on
#                          Linux with overlays; needs target/release/hpns, PostgreSQL and Redis (scripts/setup.sh)
# Needs systemd-analyze and systemd-sysusers, which it installs where it may.
set -euo pipefail
cd "$(dirname "$0")/.."
threshold=20 # tenths
what=${1:-check}
case $what in
check | run) ;;
*) echo "units: check or run, not $what" >&2 && exit 2 ;;
esac
units=deploy/systemd

if ! command -v systemd-analyze >/dev/null || ! command -v systemd-sysusers >/dev/null; then
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "units: please install: systemd" >&2
    exit 1
  fi
  echo "units: installing systemd with apt-get"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
broken=0 passed=0
fail() {
  echo "units: $*" >&2
  broken=$((broken + 1))
}

# Unit NAME with DROP-INS, in a directory of its own. A binary of this machine stands in for ours, which need not be installed;
# an instance for the template; and the files that systemd would read are there.
lay() {
  local place=$1 unit=$2 dropin
  shift 2
  mkdir -p "$place/$unit.d"
  sed 's#/usr/local/bin/hpns#/bin/true#' "$units/$unit" >"$place/$unit"
  for dropin in "$@"; do cp "$dropin" "$place/$unit.d/"; done
}
instance() {
  case $1 in
  hpns-migrate@*) echo "${1/@/@finish}" ;;
  *@*) echo "${1/@/@1}" ;;
  *) echo "$1" ;;
  esac
}
dropins_of() {
  case $1 in
  hpns.service) ls $units/drop-in/apps-* ;;
  hpns-gateway@*) ls $units/drop-in/gateway-* ;;
  hpns-worker@*) ls $units/drop-in/apps-* ;;
  esac
}

block() { sed -n '/^# From here to the end of the section/,/^$/p' "$1" | grep .; }
first=
printf '%-26s %-40s %s\n' unit "with" "exposure"
for path in "$units"/*.service; do
  unit=$(basename "$path")
  if [ -z "$first" ]; then first=$path; fi
  [ -n "$(block "$path")" ] && diff <(block "$first") <(block "$path") >"$work/diff" ||
    fail "$unit is not hardened as $(basename "$first"): $(cat "$work/diff")"
  for dropin in "" $(dropins_of "$unit"); do
    place=$work/$unit$(basename "$dropin")
    lay "$place" "$unit" $dropin
    name=$(instance "$unit")
    # systemd-analyze says what it minds, and does not always fail for it.
    said=$(SYSTEMD_UNIT_PATH=$place: systemd-analyze verify --man=no --recursive-errors=no "$name" 2>&1) || true
    said=$(grep -F "$unit" <<<"${said//$name/$unit}" || true)
    [ -z "$said" ] || fail "$unit ${dropin:+with $(basename "$dropin")}: $said"
    if ! figure=$(SYSTEMD_UNIT_PATH=$place: systemd-analyze security --offline=true --threshold=$threshold --no-pager "$name" 2>&1); then
      fail "$unit is more exposed than it may be: $(grep -F 'Overall' <<<"$figure")"
    fi
    printf '%-26s %-40s %s\n' "$unit" "${dropin:+$(basename "$dropin")}" "$(grep -oE 'level for .*: [0-9.]+' <<<"$figure" | grep -oE '[0-9.]+$')"
    passed=$((passed + 1))
  done
done

mkdir -p "$work/root/etc"
systemd-sysusers --root="$work/root" "$PWD/$units/hpns.sysusers" >/dev/null 2>&1 || fail "hpns.sysusers is not understood"
for user in $(sed -n 's/^User=//p' "$units"/hpns-*.service | sort -u); do
  grep -q "^$user:" "$work/root/etc/passwd" || fail "hpns.sysusers makes no user $user"
done
[ "$broken" -gt 0 ] || passed=$((passed + 1))
echo "units: $passed passed, $broken failed"
[ "$broken" -eq 0 ]
[ "$what" = run ] || exit 0

[ "$(id -u)" -eq 0 ] || { echo "units: please run it as root" >&2; exit 1; }
[ -x target/release/hpns ] || { echo "units: target/release/hpns is not there: cargo build --release --locked --package hpns" >&2; exit 1; }
for tool in unshare pivot_root ip redis-server psql curl openssl setpriv; do
  command -v "$tool" >/dev/null || { echo "units: please install what brings $tool (scripts/setup.sh)" >&2; exit 1; }
done
[ -x /lib/systemd/systemd ] || { echo "units: please install: systemd" >&2; exit 1; }
# Its groups of processes are made below our own, and stay when it is killed.
groups=/sys/fs/cgroup
if [ -e $groups/systemd ]; then groups=$groups/systemd$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup); fi
find_groups() { find "$groups" -mindepth 1 -maxdepth 1 -type d | LC_ALL=C sort; }
find_groups >"$work/groups"
echo "units: booting a systemd"
mkdir "$work/out"
unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child bash deploy/systemd/check/boot.sh "$PWD" "$work/out" >"$work/console" 2>&1 &
namespaces=$!
ended=
for _ in $(seq 300); do
  ended=$(sed -n 's/^ended with //p' "$work/out/log" 2>/dev/null || true)
  [ -z "$ended" ] && kill -0 "$namespaces" 2>/dev/null || break
  sleep 1
done
# The first process in there; all others end with it.
first=$(cat "/proc/$namespaces/task/$namespaces/children" 2>/dev/null || true)
for process in $first; do kill -KILL "$process" 2>/dev/null || true; done
wait "$namespaces" 2>/dev/null || true
find_groups | LC_ALL=C comm -13 "$work/groups" - | while read -r group; do
  find "$group" -depth -type d -exec rmdir {} + || true
done
grep -v '^ended with' "$work/out/log" 2>/dev/null || cat "$work/console" >&2
if [ "$ended" != 0 ]; then
  echo "units: it ended with ${ended:-nothing}" >&2
  exit 1
fi
