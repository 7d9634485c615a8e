#!/bin/bash
# Does what the official image of PostgreSQL documents of POSTGRES_DB, POSTGRES_PASSWORD_FILE, POSTGRES_INITDB_ARGS and
# /docker-entrypoint-initdb.d; everything else is run as it is.
set -euo pipefail
if [ "$1" = postgres ]; then
  export PGDATA=/var/lib/postgresql/data/pgdata
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # Arguments are words, as there.
    # shellcheck disable=SC2086
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    printf "listen_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
    pg_ctl -D "$PGDATA" -o "$(printf '%q ' "${@:2}") -c listen_addresses=''" -w start
    psql -v ON_ERROR_STOP=1 -qU postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
    for file in /docker-entrypoint-initdb.d/*.sql; do psql -v ON_ERROR_STOP=1 -qXU postgres -d "$POSTGRES_DB" -f "$file"; done
    pg_ctl -D "$PGDATA" -m fast -w stop
    unset PGPASSWORD
  fi
fi
exec "$@"
