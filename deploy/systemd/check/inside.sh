#!/bin/bash
# For scripts/units.sh, in the systemd of boot.sh: installs the units as deploy/README.md tells, with a database, lanes and a
# simulator beside them; starts them, pushes, tries the drop-ins, stops them. Its last line says how it went.
set -euo pipefail
repository=/check/repository
units=$repository/deploy/systemd
passed=0

end() {
  [ "$1" -eq 0 ] || journalctl --no-pager --output cat --lines 40 || true
  echo "ended with $1"
}
trap 'end $?' EXIT
is() {
  if [ "$2" != "$3" ]; then
    echo "units: $1: $2, and not $3"
    exit 1
  fi
  echo "units: ok: $1: $2"
  passed=$((passed + 1))
}
until_true() {
  local _
  for _ in $(seq 100); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  echo "units: this does not come true: $*"
  exit 1
}

install -m 755 $repository/target/release/hpns /usr/local/bin/hpns
install -m 644 $units/*.service /etc/systemd/system/
install -D -m 644 $units/hpns.sysusers /etc/sysusers.d/hpns.conf
systemd-sysusers
useradd --system --home-dir /var/lib/hpns --shell /usr/sbin/nologin hpns
install -d -m 755 /etc/hpns /etc/hpns/apps /etc/hpns/tls
install -d -m 700 /etc/hpns/keys
cd /etc/hpns

# The other machines of a region.
servers=/srv/check
mkdir -p $servers/lane1 $servers/lane2 $servers/simulator
chmod 755 /srv $servers
bash $repository/scripts/postgres.sh $servers/postgres 5432 < <(sleep 600) >$servers/ready &
sed 's/#GATEWAY_PASSWORD_SHA256/>gateway/; s/#WORKER_PASSWORD_SHA256/>worker/; s/#ADMIN_PASSWORD_SHA256/>admin/;
  s/#OPERATOR_PASSWORD_SHA256/>operator/' $repository/deploy/redis/users.acl >$servers/users.acl
for lane in 1 2; do
  redis-server $repository/deploy/redis/lane.conf --aclfile $servers/users.acl --port 637$lane --bind 127.0.0.1 --dir $servers/lane$lane \
    --logfile $servers/lane$lane/log &
done
hpns simulate --directory $servers/simulator >$servers/simulator/out &
until_true grep -q ready $servers/ready
until_true grep -q 'ca_file = ' $servers/simulator/out
ask() { psql -qAtX -h 127.0.0.1 -U postgres -c "$1" postgres; }
ask "CREATE ROLE hpns LOGIN; CREATE ROLE hpns_gateway NOLOGIN; CREATE ROLE hpns_worker NOLOGIN; CREATE ROLE hpns_admin NOLOGIN;
  CREATE ROLE gateway LOGIN IN ROLE hpns_gateway; CREATE ROLE worker LOGIN IN ROLE hpns_worker; CREATE ROLE admin LOGIN IN ROLE hpns_admin"
ask "CREATE DATABASE hpns OWNER hpns"

umask 077
od -An -v -N 32 -tx1 /dev/urandom | tr -d ' \n' >hpns.key
hpns keys split hpns.key --into keys >/dev/null
hpns new-key --output keys/dispatch.keys
hpns new-key --board-of keys/dispatch.keys --output keys/board.keys
variables() {
  echo "HPNS_REGISTRY__URL=postgres://$2@127.0.0.1:5432/hpns"
  echo "HPNS_DISPATCH__LANES='[\"redis://hpns-$1:$1@127.0.0.1:6371\", \"redis://hpns-$1:$1@127.0.0.1:6372\"]'"
}
for role in gateway worker admin; do variables $role $role >$role.env; done
variables migrate hpns | head -1 >migrate.env
umask 022
{
  printf 'region = "us"\ndata_dir = "/etc/hpns"\n[gateway]\nlisten = "[::]:443"\nplain_listen = "[::]:80"\n'
  printf '[gateway.tls]\ncertificate_file = "tls/fullchain.pem"\nkey_file = "tls/privkey.pem"\n'
  sed -n '/^\[development/,$p' $servers/simulator/out | sed "s#$servers/simulator/apns.p8#apps/ios.p8#;
    s#$servers/simulator/service-account.json#apps/android.json#; s#$servers/simulator/ca.pem#apps/ca.pem#"
} >region.toml
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost -keyout $servers/tls.key \
  -out $servers/tls.pem 2>/dev/null
install -m 640 -g hpns-gateway $servers/tls.key tls/privkey.pem
install -m 640 -g hpns-gateway $servers/tls.pem tls/fullchain.pem
install -m 640 -g hpns-worker $servers/simulator/apns.p8 apps/ios.p8
install -m 640 -g hpns-worker $servers/simulator/service-account.json apps/android.json
install -m 644 $servers/simulator/ca.pem apps/ca.pem

systemctl daemon-reload
roles=(hpns-gateway@1 hpns-worker@1 hpns-admin)
of() { systemctl show --property "$1" --value "$2"; }
ready() { for port in "$@"; do until_true curl -sSf "http://127.0.0.1:$port/health/ready"; done; }
fact() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$(of MainPID "$1")/status"; }

systemctl start hpns-migrate@begin
is "hpns-migrate@begin" "$(of Result hpns-migrate@begin)" success
systemctl start "${roles[@]}"
ready 8068 8078 8088
for unit in "${roles[@]}"; do
  is "$unit: user" "$(stat -c %U "/proc/$(of MainPID "$unit")")" "$(sed 's/@.*//' <<<"$unit")"
  # Of the gateway CAP_NET_BIND_SERVICE, which is the tenth.
  is "$unit: capabilities" "$(fact "$unit" CapEff) $(fact "$unit" CapBnd)" \
    "$(case $unit in *gateway*) echo 0000000000000400 0000000000000400 ;; *) echo 0000000000000000 0000000000000000 ;; esac)"
  is "$unit: no new privileges, system calls" "$(fact "$unit" NoNewPrivs) $(fact "$unit" Seccomp)" "1 2"
done
keys() { (cd "/run/credentials/$1.service" && echo *); }
is "hpns-gateway@1: keys" "$(keys hpns-gateway@1)" "control.keys devices.keys dispatch.keys log.keys rights-check.keys"
is "hpns-worker@1: keys" "$(keys hpns-worker@1)" dispatch.keys
is "hpns-admin: keys" "$(keys hpns-admin)" "board.keys control.keys devices.keys log.keys operators.keys rights.keys"
is "another user reads none of them" "$(setpriv --reuid=hpns-worker --clear-groups cat /run/credentials/hpns-gateway@1.service/control.keys 2>&1 |
  grep -c 'Permission denied')" 1

export HPNS_ADMIN_URL=http://127.0.0.1:8067
HPNS_ADMIN_TOKEN=$(HPNS_REGISTRY__URL=postgres://admin@127.0.0.1/hpns \
  HPNS_REGISTRY__KEY_FILES='["keys/control.keys","keys/devices.keys","keys/log.keys","keys/operators.keys","keys/rights.keys"]' \
  hpns first-token --config region.toml)
export HPNS_ADMIN_TOKEN
id() { sed -n "s/.*\"id\": *\"\($1_[^\"]*\)\".*/\1/p"; }
tenant=$(hpns tenant create Acme --json | id ten)
licence=$(hpns licence create "$tenant" --plan professional --region us --terms 1 --accepted-by Ada --json | id lic)
key=$(hpns key issue "$licence" --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
device=$(printf 'c0ffee00%.0s' 1 2 3 4 5 6 7 8)
push() {
  curl -sS --insecure --max-time 10 "$1/api/v1/send_push" -d '{"server_id":"s","platform":"'"$2"'","device_id":"'"$3"'","type":"message",
    "version":"v2","channel_name":"Town Square","sender_name":"ada","message":"hello","badge":1,"ack_id":"a","signature":"s"}'
}
is "a push over IPv4, port 443" "$(push "https://127.0.0.1/t/$key" apple_rn-v2 "$device")" '{"status":"OK"}'
is "a push over IPv6, port 443" "$(push "https://[::1]/t/$key" android_rn-v2 demo-android:APA91b-demo_token)" '{"status":"OK"}'
is "a push over port 80 from loopback" "$(push "http://127.0.0.1/t/$key" apple_rn-v2 "$device")" '{"status":"OK"}'

# Files that root alone may read, through systemd.
chown root:root tls/* apps/*
chmod 600 tls/* apps/ios.p8 apps/android.json
dropin() { install -D -m 644 -t "/etc/systemd/system/$1.service.d" "$units/drop-in/$2"; }
dropin hpns-gateway@ gateway-tls-credential.conf
dropin hpns-worker@ apps-credentials.conf
systemctl daemon-reload
systemctl restart hpns-gateway@1 hpns-worker@1
ready 8068 8078
is "with credentials of the listener and the apps from systemd" "$(push "https://127.0.0.1/t/$key" apple_rn-v2 "$device")" '{"status":"OK"}'
dropin hpns-gateway@ gateway-ipv4-only.conf
systemctl daemon-reload
systemctl restart hpns-gateway@1
ready 8068
is "IPv4 alone" "$(ss -ltnH 'sport = :443' | awk '{ print $4 }' | sort -u)" 0.0.0.0:443
is "a push to it" "$(push "https://127.0.0.1/t/$key" android_rn-v2 demo-android:APA91b-demo_token)" '{"status":"OK"}'

systemctl start hpns-migrate@finish
is "hpns-migrate@finish" "$(of Result hpns-migrate@finish)" success
for instance in begin finish; do
  sed 's#^ExecStart=/usr/local/bin/hpns#ExecStart=/bin/echo#' $units/hpns-migrate@.service >/etc/systemd/system/echo@.service
  systemctl daemon-reload
  systemctl start echo@$instance
  until_true journalctl --quiet --grep '^migrate' --unit echo@$instance
  is "hpns-migrate@$instance: arguments" "$(journalctl --quiet --output cat --grep '^migrate' --unit echo@$instance)" \
    "migrate --config /etc/hpns/region.toml$(case $instance in finish) echo ' --finish' ;; esac)"
done
systemctl stop "${roles[@]}"
for unit in "${roles[@]}"; do is "$unit ends with" "$(of Result "$unit")" success; done

{
  printf '[gateway]\naccess = "open"\nlisten = "[::]:443"\n'
  sed -n '/^\[development/,$p' region.toml | sed 's#"apps/#"/etc/hpns/apps/#'
} >hpns.toml
chgrp hpns apps/*
chmod 640 apps/*
systemctl start hpns
ready 8068
is "hpns: user" "$(stat -c %U "/proc/$(of MainPID hpns)")" hpns
is "hpns: capabilities" "$(fact hpns CapEff) $(fact hpns CapBnd)" "0000000000000400 0000000000000400"
is "a push to it" "$(push http://127.0.0.1:443 apple_rn-v2 "$device")" '{"status":"OK"}'
is "its files" "$(stat -c '%U %a' /var/lib/hpns /var/lib/hpns/hpns.db /var/lib/hpns/hpns.key | tr '\n' ' ')" "hpns 700 hpns 600 hpns 600 "
systemctl stop hpns
is "hpns ends with" "$(of Result hpns)" success
echo "units: $passed passed, 0 failed"
