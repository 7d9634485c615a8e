#!/usr/bin/env bash
# The OCI image, without a daemon: glibc and certificates of this machine's Debian, the release binary, a list of what is in it.
#   scripts/image.sh [build]  puts it together twice and compares; target/image/hpns.oci.tar and sbom.json are what comes of it
#   scripts/image.sh run      builds if there is none of this binary, then the demo in a container, until it is interrupted
#   scripts/image.sh test     the same on free ports: pushes through it, looks at what it may do, and ends it
# Needs target/release/hpns: `cargo build --release --locked --package hpns`. Installs buildah, podman, skopeo and runc with
# apt-get where it may. Tried as root.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
what=${1:-build}
work=$PWD/target/image
binary=target/release/hpns
image=localhost/hpns
# glibc and libgcc are what the binary is linked with; the other three are tables that they and TLS look into.
packages=(libc6 libgcc-s1 ca-certificates netbase tzdata)

say() { echo "image: $*"; }
fail() {
  echo "image: $*" >&2
  exit 1
}

case $what in
build | run | test) ;;
*) fail "build, run or test, not $what" ;;
esac

install_tools() {
  local tool missing=()
  declare -A package=([buildah]=buildah [podman]=podman [skopeo]=skopeo [runc]=runc [curl]=curl [python3]=python3
    [objcopy]=binutils [dpkg-deb]=dpkg)
  for tool in "${!package[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
      fail "please install: ${missing[*]}"
    fi
    say "installing ${missing[*]} with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  python3 -c 'import tomllib' 2>/dev/null || fail "please install: Python 3.11 or later"
}

# A storage of our own, so that nothing of the machine's is touched. No overlay file system is needed.
storage=(--root "$work/storage" --runroot "$work/running" --storage-driver vfs)
buildah_() { buildah "${storage[@]}" "$@"; }
podman_() { podman --runtime runc "${storage[@]}" --cgroup-manager cgroupfs "$@"; }

fetch_packages() {
  command -v apt-get >/dev/null || fail "the base comes from Debian packages: please run this on Debian"
  mkdir -p "$work/debs" "$work/empty"
  [ "$(id -u)" -ne 0 ] || apt-get update -qq || say "the list of packages could not be renewed; what apt knows is taken"
  local wanted=("${packages[@]}") candidates
  # Which of GCC's packages holds libgcc's licence; and which Debian this is, for those who look for advisories.
  wanted+=("$(apt-cache depends libgcc-s1 | grep -oE 'gcc-[0-9]+-base' | head -1)" base-files)
  # Asked where none of them lies: apt names only what it would fetch.
  candidates=$(cd "$work/empty" && apt-get download --print-uris "${wanted[@]}" | awk '{ print $2 }')
  [ -n "$candidates" ] || fail "apt knows none of: ${wanted[*]}"
  local deb
  for deb in "$work/debs/"*.deb; do
    grep -qxF "$(basename "$deb")" <<<"$candidates" || rm -f "$deb"
  done
  for deb in $candidates; do
    [ -e "$work/debs/$deb" ] || (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "${deb%%_*}")
  done
  for deb in $candidates; do
    [ -e "$work/debs/$deb" ] || fail "could not be fetched: $deb"
  done
  say "base: $(cd "$work/debs" && echo *.deb)"
}

# The root file system in DIRECTORY/rootfs.
assemble() {
  local context=${1:?} rootfs=$1/rootfs triplet deb name
  triplet=$(uname -m)-linux-gnu
  rm -rf "$context"
  mkdir -p "$rootfs"
  install -d -m 700 "$context/state/hpns"
  for deb in "$work/debs/"*.deb; do
    name=$(dpkg-deb --field "$deb" Package)
    mkdir -p "$context/unpacked"
    dpkg-deb --extract "$deb" "$context/unpacked"
    case $name in
    base-files)
      mkdir -p "$rootfs/usr/lib" "$rootfs/etc"
      cp "$context/unpacked/usr/lib/os-release" "$rootfs/usr/lib/"
      ln -s ../usr/lib/os-release "$rootfs/etc/os-release"
      cp "$context/unpacked/etc/debian_version" "$rootfs/etc/"
      ;;
    gcc-*-base) ;;
    ca-certificates)
      mkdir -p "$rootfs/etc/ssl/certs"
      # As the package itself does when it is installed.
      (cd "$context/unpacked/usr/share/ca-certificates" && find . -name '*.crt' -print0 | LC_ALL=C sort -z | xargs -0 cat) \
        >"$rootfs/etc/ssl/certs/ca-certificates.crt"
      ;;
    *) cp -a "$context/unpacked/." "$rootfs/" ;;
    esac
    # Licences come along, other documents do not. What looks for known holes knows packages by these files.
    [ ! -f "$context/unpacked/usr/share/doc/$name/copyright" ] ||
      install -D -m 644 "$context/unpacked/usr/share/doc/$name/copyright" "$context/copyright/$name/copyright"
    mkdir -p "$rootfs/var/lib/dpkg/status.d"
    { dpkg-deb --field "$deb" && echo "Status: install ok installed"; } >"$rootfs/var/lib/dpkg/status.d/$name"
    rm -rf "$context/unpacked"
  done
  # Programs, character sets, leap seconds in every time zone: nobody calls for them.
  rm -rf "${rootfs:?}"/{bin,sbin,usr/bin,usr/sbin} "${rootfs:?}"/{,usr/}lib/"$triplet"/{gconv,audit} "$rootfs/usr/share/zoneinfo"/{posix,right} \
    "$rootfs"/usr/share/{doc,lintian,man,info,locale,bug} "$rootfs"/etc/{ld.so.conf.d,ca-certificates}
  mkdir -p "$rootfs/usr/share/doc"
  cp -a "$context/copyright/." "$rootfs/usr/share/doc/"
  rm -rf "$context/copyright"

  mkdir -p "$rootfs/usr/bin" "$rootfs/etc/hpns" "$rootfs/usr/share/hpns" "$rootfs/tmp"
  chmod 1777 "$rootfs/tmp"
  printf 'root:x:0:0:root:/:/sbin/nologin\nhpns:x:65532:65532:hpns:/var/lib/hpns:/sbin/nologin\n' >"$rootfs/etc/passwd"
  printf 'root:x:0:\nhpns:x:65532:\n' >"$rootfs/etc/group"
  printf 'hosts: files dns\n' >"$rootfs/etc/nsswitch.conf"
  # Tables of lines for a profiler are two thirds of the binary. They stay here.
  objcopy --strip-debug "$binary" "$rootfs/usr/bin/hpns"
  chmod 755 "$rootfs/usr/bin/hpns"
  install -D -m 644 -t "$rootfs/usr/share/doc/hpns" LICENSE crates/gateway/data/LICENSES.txt
  python3 deploy/image/sbom.py --binary "$rootfs/usr/bin/hpns" --version "$version" --commit "$commit" \
    --debs "$work/debs" >"$rootfs/usr/share/hpns/sbom.json"
}

# Nothing that can be run but the binary, and every library that it asks for is there.
look_through() {
  local rootfs=$1 programs loader
  programs=$(cd "$rootfs" && find . -type f -perm /111 ! -name '*.so*' | LC_ALL=C sort)
  [ "$programs" = ./usr/bin/hpns ] || fail "there are other programs in it: $programs"
  [ -z "$(find "$rootfs" -perm /6000)" ] || fail "a file in it has more rights than its caller"
  loader=$(cd "$rootfs" && find . -name 'ld-linux*' -type f | head -1)
  local library
  for library in $(objdump -p "$rootfs/usr/bin/hpns" | awk '/NEEDED/ { print $2 }'); do
    [ -n "$(find "$rootfs" -name "$library")" ] || fail "the binary needs $library, which no package has brought"
  done
  [ -n "$loader" ] || fail "there is no loader in it"
}

# Builds from CONTEXT under NAME, writes the archive, and prints the digest of the manifest.
bake() {
  local context=$1 name=$2 archive=$3
  local key labels=()
  declare -A label=([title]=hpns [description]="Push notification service" [licenses]=Apache-2.0 [version]=$version
    [revision]=$commit)
  for key in $(printf '%s\n' "${!label[@]}" | LC_ALL=C sort); do
    # Labels are the image's, annotations the manifest's; tools look into one or the other.
    labels+=(--label "org.opencontainers.image.$key=${label[$key]}" --annotation "org.opencontainers.image.$key=${label[$key]}")
  done
  # Whoever builds trusts what lies here; others have a policy of their own.
  echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
  buildah_ bud --quiet --isolation chroot --signature-policy "$work/policy.json" --timestamp 0 --no-cache --format oci \
    "${labels[@]}" --file deploy/image/Containerfile --tag "$name" "$context" >/dev/null
  rm -f "$archive"
  buildah_ push --quiet --signature-policy "$work/policy.json" --digestfile "$work/digest" "$name" "oci-archive:$archive:$tag"
  cat "$work/digest"
}

build() {
  [ -x "$binary" ] || fail "$binary is not there: cargo build --release --locked --package hpns"
  read -r _ version commit < <("$binary" version | tr -d '()')
  tag=hpns:$version
  base=$(. /etc/os-release && echo "$ID $VERSION_ID")
  say "hpns $version of commit $commit, on $base"
  [ "$commit" != unknown ] || say "the binary does not know its commit: build releases in a clone of the repository"
  [ ! Cargo.lock -nt "$binary" ] || say "Cargo.lock is newer than the binary: the list of crates may be of another build"
  fetch_packages
  local number digest first=
  for number in 1 2; do
    say "building, number $number of 2"
    assemble "$work/context"
    look_through "$work/context/rootfs"
    digest=$(bake "$work/context" "$image:build" "$work/hpns.oci.tar")
    say "digest: $digest"
    [ -z "$first" ] || [ "$first" = "$digest" ] || fail "the second time it is another image"
    first=$digest
  done
  buildah_ tag "$image:build" "$image:$version" "$image:latest"
  cp "$work/context/rootfs/usr/share/hpns/sbom.json" "$work/sbom.json"
  # For a profiler; the image has all but this.
  objcopy --only-keep-debug "$binary" "$work/hpns.debug"
  echo "$digest" >"$work/digest"
  say "$(du -sh --apparent-size "$work/context/rootfs" | cut -f1) of files ($(du -h --apparent-size "$work/context/rootfs/usr/bin/hpns" | cut -f1) of them" \
    "the binary), archive $(du -h --apparent-size "$work/hpns.oci.tar" | cut -f1): target/image/hpns.oci.tar"
  say "$(python3 -c 'import json,sys; print(len(json.load(sys.stdin)["components"]))' <"$work/sbom.json") packages and crates:" \
    "target/image/sbom.json"
  say "to a registry: skopeo copy oci-archive:target/image/hpns.oci.tar docker://REGISTRY/hpns:$version"
  rm -rf "$work/context"
}

# The demo: a simulator, a licence, what to paste. Its files are gone with it.
container=(--network host --read-only --cap-drop all --security-opt no-new-privileges --log-driver k8s-file
  # A volume without a name takes owner and mode from the image, and goes with the container.
  --volume /var/lib/hpns
  # By itself podman asks for as much as the kernel has, which machines with limits of their own refuse.
  --ulimit nofile=4096:4096 --ulimit nproc=4096:4096)

container_id=
end_container() {
  [ -n "$container_id" ] || return 0
  podman_ rm --force --volumes --time 5 "$container_id" >/dev/null 2>&1 || true
  container_id=
}

run() {
  local settings=()
  # So that another machine may push: docs say which.
  local name
  for name in $(compgen -e HPNS_ || true); do settings+=(--env "$name"); done
  say "the demo in a container; interrupt it to end it"
  exec podman --runtime runc "${storage[@]}" --cgroup-manager cgroupfs run --rm "${container[@]}" "${settings[@]}" \
    "$image:latest" all --demo
}

# Waits until a line of the container's output begins so, and prints its rest.
said() {
  local line _
  for _ in $(seq 300); do
    line=$(podman_ logs "$container_id" 2>/dev/null | sed -n "s/^$1: //p" | head -1)
    [ -z "$line" ] || { echo "$line" && return; }
    [ "$(podman_ inspect --format '{{.State.Running}}' "$container_id")" = true ] || break
    sleep 0.1
  done
  podman_ logs "$container_id" >&2
  fail "the service did not say: $1"
}

passed=0
is() {
  [ "$2" = "$3" ] || fail "$1: $2, and not $3"
  say "ok: $1: ${2:-none}"
  passed=$((passed + 1))
}

try_it() {
  trap end_container EXIT
  say "starting the demo, on free ports"
  container_id=$(podman_ create "${container[@]}" --env HPNS_GATEWAY__LISTEN=127.0.0.1:0 --env HPNS_ADMIN__LISTEN=127.0.0.1:0 \
    --env HPNS_HEALTH__LISTEN=127.0.0.1:0 "$image:latest" all --demo)
  podman_ start "$container_id" >/dev/null
  local url simulator process facts ended=0 health
  url=$(said "push URL")
  simulator=$(said simulator)
  process=$(podman_ inspect --format '{{.State.Pid}}' "$container_id")
  facts=/proc/$process/status
  of() { awk -v name="$1:" '$1 == name { $1 = ""; sub(/^ /, ""); print }' "$facts"; }

  is "user, of every kind" "$(of Uid)" "65532 65532 65532 65532"
  is "group" "$(of Gid)" "65532 65532 65532 65532"
  local kind
  for kind in CapInh CapPrm CapEff CapBnd CapAmb; do is "capabilities, $kind" "$(of $kind)" 0000000000000000; done
  is "no new privileges" "$(of NoNewPrivs)" 1
  is "system calls are filtered" "$(of Seccomp)" 2
  is "the root file system is read-only" "$(awk '$5 == "/" { print substr($6, 1, 2) }' "/proc/$process/mountinfo")" ro
  local shell
  for shell in /bin/sh /bin/bash /bin/dash /bin/busybox /usr/bin/env; do
    ! podman_ exec "$container_id" "$shell" -c true >/dev/null 2>&1 || fail "there is a shell in it: $shell"
  done
  is "programs" "$(find "/proc/$process/root/" -xdev -type f -perm /111 ! -name '*.so*' -printf '%P\n')" usr/bin/hpns
  if [ -e "$work/sbom.json" ]; then
    is "the list of what is in it" "$(sha256sum <"/proc/$process/root/usr/share/hpns/sbom.json")" "$(sha256sum <"$work/sbom.json")"
  fi
  is "the binary's version" "$(podman_ exec "$container_id" /usr/bin/hpns version)" "$("$binary" version)"

  local platform token
  for platform in "apple_rn-v2 $(printf 'c0ffee00%.0s' 1 2 3 4 5 6 7 8)" "android_rn-v2 demo-android:APA91b-demo_token"; do
    read -r platform token <<<"$platform"
    is "a push to $platform" "$(curl -sS --max-time 10 "$url/api/v1/send_push" -d '{"server_id":"demo","platform":"'"$platform"'","device_id":"'"$token"'",
      "type":"message","version":"v2","channel_name":"Town Square","sender_name":"ada","message":"hello","badge":1,"ack_id":"a","signature":"s"}')" \
      '{"status":"OK"}'
  done
  is "notifications that the simulator has" "$(curl -sS --max-time 10 "$simulator/sim/notifications" |
    python3 -c 'import json,sys; print(*sorted(it["provider"] for it in json.load(sys.stdin)))')" "apns fcm"
  health=$(podman_ logs "$container_id" 2>&1 | grep -oE 'health=[0-9.:]+' | head -1)
  is "readiness" "$(curl -sS --max-time 10 "http://${health#health=}/health/ready")" ready

  say "SIGTERM"
  podman_ kill --signal TERM "$container_id" >/dev/null
  is "it ends with" "$(timeout 40 podman --runtime runc "${storage[@]}" --cgroup-manager cgroupfs wait "$container_id")" 0
  ! podman_ logs "$container_id" 2>&1 | grep -aE 'panicked|ERROR' || fail "the service complained"
  end_container
  # Without a configuration it says what is missing, and does not start.

  podman_ run --rm "${container[@]}" "$image:latest" >"$work/out" 2>&1 || ended=$?
  is "without a configuration it ends with" "$ended" 1
  grep -q '/etc/hpns/hpns.toml does not exist' "$work/out" || fail "it does not say what is missing: $(cat "$work/out")"
  say "$passed passed, 0 failed"
}

install_tools
# An image of another binary is none.
if [ "$what" = build ] || [ "$binary" -nt "$work/digest" ] || ! podman_ image exists "$image:latest"; then build; fi
case $what in
run) run ;;
test) try_it ;;
esac
