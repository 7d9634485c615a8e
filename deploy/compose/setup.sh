#!/usr/bin/env bash
# Makes the files that compose.yaml mounts, in secrets/: keys, passwords, logins, and each role's configuration, which is the
# region's file with its addresses put in. Keys and passwords that are there stay; the rest is made anew: run it again after a
# change of .env or of the region's file. As root, because the files belong to the users in the containers.
#   setup.sh [--try]    --try: also a certificate of its own for a first look, where tls/ has none
# It runs hpns by Docker or podman, whichever is there, or as HPNS=BINARY says.
set -euo pipefail
umask 077
cd "$(dirname "$0")"

fail() {
  echo "setup: $*" >&2
  exit 1
}
[ "$(id -u)" -eq 0 ] || fail "please run it as root"
[ -e .env ] || fail "please copy .env.example to .env, and look through it"
# shellcheck disable=SC1091
. ./.env
[ -r "${REGION_FILE:?is not set in .env}" ] || fail "REGION_FILE: $REGION_FILE is not there"
user=65532

mkdir -p secrets tls apps
chown "$user:$user" secrets tls apps

hpns() {
  if [ -n "${HPNS:-}" ]; then
    "$HPNS" "$@"
    return
  fi
  local engine
  engine=$(command -v docker || command -v podman) || fail "neither docker nor podman is there; or set HPNS to the binary"
  "$engine" run --rm --network none --read-only --cap-drop all --user "$user:$user" --volume "$PWD/secrets:$PWD/secrets" "${IMAGE:?}" "$@"
}

random() { od -An -v -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
# Runs a command whose output becomes the file. What is mounted is written into: a new file of the name would not be seen there.
made() {
  local file=secrets/$1
  shift
  "$@" >"$file.new" && cat "$file.new" >"$file" && rm "$file.new"
}
password() {
  [ -s "secrets/$1" ] || random 24 >"secrets/$1"
  cat "secrets/$1"
}

purposes=(control devices log operators rights rights-check)
if [ ! -s secrets/control.keys ]; then
  echo "setup: keys of the service"
  [ -s secrets/hpns.key ] || { random 32 && echo; } >secrets/hpns.key
  chown "$user:$user" secrets/hpns.key
  # An earlier try may have ended in between.
  for purpose in "${purposes[@]}"; do rm -f "secrets/$purpose.keys"; done
  hpns keys split "$PWD/secrets/hpns.key" --into "$PWD/secrets" >/dev/null
fi
if [ ! -s secrets/dispatch.keys ]; then
  echo "setup: key ring of the lanes"
  hpns new-key --output "$PWD/secrets/dispatch.keys"
fi
chown "$user:$user" secrets/dispatch.keys
made board.keys hpns new-key --board-of "$PWD/secrets/dispatch.keys"

echo "setup: passwords and logins"
password db-superuser >/dev/null
sum() { password "$1" | sha256sum | cut -d' ' -f1; }
users() {
  sed -e "s/#GATEWAY_PASSWORD_SHA256/#$(sum lane-gateway)/" -e "s/#WORKER_PASSWORD_SHA256/#$(sum lane-worker)/" \
    -e "s/#ADMIN_PASSWORD_SHA256/#$(sum lane-admin)/" -e "s/#OPERATOR_PASSWORD_SHA256/#$(sum lane-operator)/" ../redis/users.acl
}
made users.acl users
# The owner of the schema is no superuser; it cannot make roles, so they are made here.
logins() {
  cat <<SQL
CREATE ROLE hpns LOGIN PASSWORD '$(password db-owner)';
CREATE ROLE hpns_gateway NOLOGIN;
CREATE ROLE hpns_worker NOLOGIN;
CREATE ROLE hpns_admin NOLOGIN;
CREATE ROLE gateway LOGIN PASSWORD '$(password db-gateway)' IN ROLE hpns_gateway;
CREATE ROLE worker LOGIN PASSWORD '$(password db-worker)' IN ROLE hpns_worker;
CREATE ROLE admin LOGIN PASSWORD '$(password db-admin)' IN ROLE hpns_admin;
ALTER DATABASE hpns OWNER TO hpns;
REVOKE ALL ON DATABASE hpns FROM PUBLIC;
GRANT CONNECT ON DATABASE hpns TO hpns_gateway, hpns_worker, hpns_admin;
SQL
}
made logins.sql logins

# The region's file, with where the database and the lanes of a role are. Tables that it lacks are added.
configuration() {
  local login=$1 role=$2 lanes=
  [ -z "$role" ] || lanes="lanes = [\"redis://hpns-$role:$(password "lane-$role")@lane-1:6379\", \"redis://hpns-$role:$(password "lane-$role")@lane-2:6379\"]"
  # By variables, which no list of processes shows.
  URL="url = \"postgres://$login:$(password "db-$3")@postgres:5432/hpns\"" LANES=$lanes awk '
    { print }
    /^\[registry\] *(#.*)?$/ { print ENVIRON["URL"]; registry = 1 }
    /^\[dispatch\] *(#.*)?$/ { print ENVIRON["LANES"]; dispatch = 1 }
    END {
      if (!registry) print "\n[registry]\n" ENVIRON["URL"]
      if (!dispatch) print "\n[dispatch]\n" ENVIRON["LANES"]
    }' "$REGION_FILE"
}
! awk '/^\[/ { table = $1 } table == "[registry]" && /^url *=/ || table == "[dispatch]" && /^lanes *=/ { found = 1 } END { exit !found }' \
  "$REGION_FILE" || fail "$REGION_FILE names the database or the lanes itself: leave registry.url and dispatch.lanes out"
made gateway.toml configuration gateway gateway gateway
made worker.toml configuration worker worker worker
made admin.toml configuration admin admin admin
made migrate.toml configuration hpns "" owner

if [ ! -s tls/privkey.pem ] && [ "${1:-}" = --try ]; then
  echo "setup: a certificate of its own, for a month"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout tls/privkey.pem -out tls/fullchain.pem 2>/dev/null || fail "please install: openssl"
fi

chmod 400 secrets/*
chown "$user:$user" secrets/*
chown "${POSTGRES_UID:?}" secrets/logins.sql secrets/db-superuser
find tls apps -type f -exec chown "$user:$user" {} + -exec chmod 400 {} +

missing=()
for file in tls/fullchain.pem tls/privkey.pem $(sed -nE 's/^(key|certificate|service_account)_file *= *"(apps\/[^"]+)".*/\2/p' "$REGION_FILE"); do
  [ -s "$file" ] || missing+=("$file")
done
[ "${#missing[@]}" -eq 0 ] || echo "setup: please put them there, and run it again: ${missing[*]}"
[ ! -e secrets/hpns.key ] || echo "setup: keep secrets/hpns.key elsewhere, with the backups: nothing here needs it any more"
echo "setup: done; docker compose up --detach --wait"
