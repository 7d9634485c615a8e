#!/bin/sh
# Alive is a lane that answers PONG. One on which somebody's script runs on says BUSY: workers end it, unless it has written;
# then only a new start helps, and costs nothing, as a lane keeps nothing (docs/OPERATIONS.md, "A lane that hangs").
# Arguments: what else redis-cli needs to reach this lane.
set -eu
REDISCLI_AUTH=$(cat /etc/lane/passwords/operator)
export REDISCLI_AUTH
answer=$(redis-cli -h 127.0.0.1 -p 6379 --user hpns-operator "$@" ping)
[ "$answer" = PONG ] || { echo "lane: $answer" >&2; exit 1; }
