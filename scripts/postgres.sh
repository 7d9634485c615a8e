#!/usr/bin/env bash
# Runs a PostgreSQL of its own in DIRECTORY, on a socket there and, with a PORT, on loopback too. Prints a line
# when it is ready, and stops it when standard input ends: so it never outlives whoever started it.
#   scripts/postgres.sh [--forget] DIRECTORY [PORT] [SETTING=VALUE...]
# With --forget the directory is removed at the end.
# Anybody on this machine may log in to it: it is for tests and the local hosted shape.
set -euo pipefail
forget=
if [ "$1" = --forget ]; then
  forget=1
  shift
fi
directory=$(realpath -m "$1")
port=${2:-0}
shift $(($# > 1 ? 2 : 1))
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$programs" ] || programs=$(dirname "$(command -v initdb)") || { echo "postgres: please install postgresql" >&2; exit 1; }
mkdir -p "$directory"
as=()
if [ "$(id -u)" -eq 0 ]; then
  # PostgreSQL does not run as root.
  chown postgres "$directory"
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd "$directory"
if [ ! -d data ]; then
  "${as[@]}" "$programs/initdb" --pgdata=data --username=postgres --auth=trust --no-sync --encoding=UTF8 --locale=C >initdb.log
fi
rm -f data/postmaster.pid
settings=(-c "unix_socket_directories=$directory" -c fsync=off -c max_connections=200 -c log_statement=none
  -c log_parameter_max_length=0 -c log_parameter_max_length_on_error=0)
if [ "$port" = 0 ]; then
  settings+=(-c "listen_addresses=" -c port=5432)
else
  settings+=(-c "listen_addresses=127.0.0.1" -c "port=$port")
fi
for setting in "$@"; do settings+=(-c "$setting"); done
"${as[@]}" "$programs/postgres" -D data "${settings[@]}" >postgres.log 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null || true; [ -z "$forget" ] || rm -rf "$directory"' EXIT
socket_port=$([ "$port" = 0 ] && echo 5432 || echo "$port")
for _ in $(seq 500); do
  if "$programs/psql" -h "$directory" -p "$socket_port" -U postgres -qAtc 'SELECT 1' >/dev/null 2>&1; then
    echo "ready $server"
    cat >/dev/null
    exit 0
  fi
  kill -0 $server 2>/dev/null || break
  sleep 0.02
done
echo "postgres: it did not start; see $directory/postgres.log" >&2
exit 1
