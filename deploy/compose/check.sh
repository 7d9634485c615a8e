#!/usr/bin/env bash
# Proves compose.yaml.
#   check.sh       reads it as Docker Compose does, with its own loader, and holds every service to rules (check/main.go). Needs Go
#   check.sh up    also starts the whole region with podman, on free ports, and a simulator in place of Apple and Google; sells a
#                  licence, pushes, looks at what the containers may do, and takes everything down again. Images of PostgreSQL and
#                  Redis that cannot be had everywhere are made of Debian packages. Some minutes at the first time. Needs
#                  target/release/hpns and target/image (scripts/image.sh); what else it needs it installs with apt-get and pip.
set -euo pipefail
cd "$(dirname "$0")"
root=$(realpath ../..)
work=$root/target/compose
what=${1:-check}

say() { echo "compose: $*"; }
fail() {
  echo "compose: $*" >&2
  exit 1
}
case $what in
check | up) ;;
*) fail "check or up, not $what" ;;
esac

check() {
  command -v go >/dev/null || fail "please install: Go 1.24 or later"
  mkdir -p "$work"
  say "building the check with Docker Compose's loader"
  (cd check && go build -trimpath -o "$work/check" .)
  "$work/check" compose.yaml .env.example
}

install_tools() {
  local tool missing=()
  declare -A package=([podman]=podman [buildah]=buildah [skopeo]=skopeo [runc]=runc [debootstrap]=debootstrap [iptables]=iptables
    [curl]=curl [openssl]=openssl [nsenter]=util-linux)
  for tool in "${!package[@]}"; do command -v "$tool" >/dev/null || missing+=("${package[$tool]}"); done
  [ -x /usr/lib/podman/netavark ] || missing+=(netavark)
  [ -x /usr/lib/podman/aardvark-dns ] || missing+=(aardvark-dns)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then fail "please install: ${missing[*]}"; fi
    say "installing ${missing[*]} with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  if [ ! -x "$work/venv/bin/podman-compose" ]; then
    say "installing podman-compose with pip"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check podman-compose==1.6.0
  fi
}

# Settings and storage of podman's of our own: nothing of the machine's is touched.
settle() {
  mkdir -p "$work/networks"
  cat >"$work/containers.conf" <<CONF
[network]
network_backend = "netavark"
network_config_dir = "$work/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  cat >"$work/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/running"
CONF
  echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
  export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
}

stand_in=localhost/hpns-stand-in:latest
make_images() {
  local store="[overlay@$work/storage+$work/running]"
  say "taking target/image/hpns.oci.tar"
  skopeo --policy "$work/policy.json" copy --quiet "oci-archive:$root/target/image/hpns.oci.tar" "containers-storage:${store}localhost/hpns:check"
  if podman image exists "$stand_in"; then return; fi
  say "making an image of Debian's Redis and PostgreSQL"
  local context=$work/stand-in release
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  rm -rf "$context"
  mkdir -p "$context"
  debootstrap --variant=minbase --include=redis-server,redis-tools,postgresql,wget "$release" "$context/rootfs" >"$work/debootstrap.log" ||
    fail "it failed; see $work/debootstrap.log"
  cp check/stand-in/docker-entrypoint.sh "$context/"
  local rootfs=$context/rootfs
  # The user, the directories and the place of programs that the official image has.
  echo 'pg:x:999:999::/var/lib/postgresql:/bin/sh' >>"$rootfs/etc/passwd"
  local program
  for program in "$rootfs"/usr/lib/postgresql/*/bin/*; do ln -sf "${program#"$rootfs"}" "$rootfs/usr/local/bin/"; done
  install -d -m 777 "$rootfs/var/lib/postgresql/data" "$rootfs/run/postgresql" "$rootfs/docker-entrypoint-initdb.d"
  rm -rf "$rootfs"/var/cache/apt "$rootfs"/var/lib/apt/lists "$rootfs"/usr/share/{doc,man,locale}
  buildah bud --quiet --isolation chroot --signature-policy "$work/policy.json" --file check/stand-in/Containerfile --tag "$stand_in" \
    "$context" >/dev/null
  rm -rf "$context"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The same files in a directory of their own, with secrets of their own and a region that pushes to the simulator.
prepare() {
  place=$work/region/deploy/compose
  rm -rf "$work/region"
  mkdir -p "$work/region"
  cp -r "$root/deploy" "$work/region/deploy"
  rm -rf "$place"/{.env,secrets,tls,apps}
  install -d -o 65532 -g 65532 "$place/apps"
  https=$(free_port) http=$(free_port) admin=$(free_port)
  # The credentials that the simulator takes; it keeps those that are there.
  timeout 2 "$hpns" simulate --directory "$place/apps" --control 127.0.0.1:0 --apns 127.0.0.1:0 --fcm 127.0.0.1:0 --proxy 127.0.0.1:0 \
    >"$work/simulator" 2>&1 || true
  {
    printf 'region = "us"\n[gateway.tls]\ncertificate_file = "tls/fullchain.pem"\nkey_file = "tls/privkey.pem"\n'
    printf '[admin]\npush_url = "https://localhost:%s"\n' "$https"
    sed -n '/^\[development/,$p' "$work/simulator" | sed -e "s#$place/apps#apps#" -e 's#^endpoint = .*#endpoint = "localhost:8070"#' \
      -e 's#"https://localhost:[0-9]*#"https://localhost:8071#'
  } >"$work/region/deploy/regions/check.toml"
  sed -e "s#^IMAGE=.*#IMAGE=localhost/hpns:check#" -e "s#^REGION_FILE=.*#REGION_FILE=../regions/check.toml#" -e "s#^HTTPS_PORT=.*#HTTPS_PORT=$https#" \
    -e "s#^HTTP_PORT=.*#HTTP_PORT=$http#" -e "s#^ADMIN_PORT=.*#ADMIN_PORT=$admin#" -e "s#^\(POSTGRES\|REDIS\)_IMAGE=.*#\1_IMAGE=$stand_in#" \
    .env.example >"$place/.env"
  HPNS=$hpns "$place/setup.sh" --try | sed 's/^/compose: /'
}

compose() { (cd "$place" && "$work/venv/bin/podman-compose" --file compose.yaml --file check/podman.yaml "$@") >>"$work/log" 2>&1; }
down() { compose down --volumes || true; }

# podman asks for a container's health when it is told to; a systemd would tell it.
healthy() {
  local _
  for _ in $(seq 60); do
    ! podman healthcheck run "hpns_$1_1" >/dev/null 2>&1 || return 0
    sleep 1
  done
  podman logs "hpns_$1_1" 2>&1 | tail -20 >&2
  fail "$1 does not become healthy"
}

passed=0
is() {
  [ "$2" = "$3" ] || fail "$1: $2, and not $3"
  say "ok: $1: $2"
  passed=$((passed + 1))
}
of() { podman inspect --format '{{.State.Pid}}' "hpns_$1_1"; }

up() {
  hpns=$root/target/release/hpns
  [ -x "$hpns" ] || fail "target/release/hpns is not there: cargo build --release --locked --package hpns"
  [ -e "$root/target/image/hpns.oci.tar" ] || fail "target/image/hpns.oci.tar is not there: scripts/image.sh"
  [ "$(id -u)" -eq 0 ] || fail "please run it as root"
  install_tools
  settle
  make_images
  prepare
  : >"$work/log"
  trap down EXIT
  say "starting the region; podman-compose's words are in target/compose/log"
  compose up --detach postgres lane-1 lane-2 || fail "it does not start: $(tail -3 "$work/log")"
  for service in postgres lane-1 lane-2; do healthy "$service"; done
  compose up --detach migrate || fail "migrate does not start: $(tail -3 "$work/log")"
  is "migrate ends with" "$(timeout 60 podman wait hpns_migrate_1)" 0
  compose up --detach || fail "it does not start: $(tail -3 "$work/log")"
  healthy probe
  say "the probe says that all are ready"

  for service in gateway worker admin lane-1 lane-2 postgres probe; do
    # Of no user that may do anything, whatever is broken into.
    is "$service: capabilities, no new privileges, system calls" \
      "$(awk '/^(CapEff|CapBnd|NoNewPrivs|Seccomp):/ { printf "%s ", $2 }' "/proc/$(of "$service")/status")" "0000000000000000 0000000000000000 1 2 "
    is "$service: user" "$(awk '/^Uid:/ { print $3 }' "/proc/$(of "$service")/status")" "$([ "$service" = postgres ] && echo 999 || echo 65532)"
    is "$service: root file system" "$(awk '$5 == "/" { print substr($6, 1, 2) }' "/proc/$(of "$service")/mountinfo")" ro
  done
  for service in lane-1 lane-2 postgres; do
    is "$service: ways out" "$(nsenter --target "$(of "$service")" --net ip route | grep -c default || true)" 0
  done

  local token device tenant licence key answer
  token=$(podman exec hpns_admin_1 /usr/bin/hpns first-token --config /run/secrets/admin.toml)
  export HPNS_ADMIN_URL=http://127.0.0.1:$admin HPNS_ADMIN_TOKEN=$token
  id() { sed -n "s/.*\"id\": *\"\($1_[^\"]*\)\".*/\1/p"; }
  tenant=$("$hpns" tenant create Acme --json | id ten)
  licence=$("$hpns" licence create "$tenant" --plan professional --region us --terms 1 --accepted-by Ada --json | id lic)
  key=$("$hpns" key issue "$licence" --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
  push() {
    curl -sS --insecure --max-time 10 "$1/t/$key/api/v1/send_push" -d '{"server_id":"s","platform":"'"$2"'","device_id":"'"$3"'",
      "type":"message","version":"v2","channel_name":"Town Square","sender_name":"ada","message":"hello","badge":1,"ack_id":"a","signature":"s"}'
  }
  device=$(printf 'c0ffee00%.0s' 1 2 3 4 5 6 7 8)
  is "a push over TLS to apple_rn-v2" "$(push "https://127.0.0.1:$https" apple_rn-v2 "$device")" '{"status":"OK"}'
  is "a push over TLS to android_rn-v2" "$(push "https://127.0.0.1:$https" android_rn-v2 demo-android:APA91b-demo_token)" '{"status":"OK"}'
  answer=$(push "http://127.0.0.1:$http" apple_rn-v2 "$device")
  is "a key in the clear from outside is refused" "$(grep -o licence_needs_tls <<<"$answer")" licence_needs_tls
  is "a test push of the admin role" "$(printf '%s\n' "$key" "$device" | "$hpns" app test-push --platform apple_rn-v2 --json |
    sed -n 's/.*"status": *"\([A-Z]*\)".*/\1/p')" OK
  is "notifications that the simulator has" "$(nsenter --target "$(of worker)" --net curl -sS http://127.0.0.1:8069/sim/notifications |
    python3 -c 'import json,sys; print(*sorted(it["provider"] for it in json.load(sys.stdin)))')" "apns apns fcm"

  for service in gateway worker admin; do
    podman stop --time 60 "hpns_${service}_1" >/dev/null
    is "$service ends with" "$(podman inspect --format '{{.State.ExitCode}}' "hpns_${service}_1")" 0
  done
  down
  trap - EXIT
  is "containers that are left" "$(podman ps --all --quiet | wc -l)" 0
  say "$passed passed, 0 failed"
}

check
[ "$what" = check ] || up
