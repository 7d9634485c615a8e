#!/bin/sh
# Starts a lane. The rights of users.acl get the SHA-256 of each password here, so that a new version of the chart brings new
# rights and no hash lies in a ConfigMap. What is made lies in the memory of this pod.
set -eu
umask 077
passwords=/etc/lane/passwords
for user in gateway worker admin operator; do
  # The dot keeps an end of line, which the shell would drop and the other pods would not.
  password=$(cat "$passwords/$user" && echo .)
  password=${password%.}
  case $password in
  '' | *[!A-Za-z0-9._~-]*)
    # It stands in the address of the lane, behind the user's name.
    echo "lane: the password of '$user' has to be letters, digits, '.', '_', '~' and '-', without an end of line" >&2
    exit 1
    ;;
  esac
  digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
  name=$(printf %s "$user" | tr '[:lower:]' '[:upper:]')
  set -- "$@" -e "s/#${name}_PASSWORD_SHA256/#$digest/"
done
sed "$@" /etc/lane/conf/users.acl >/run/lane/users.acl
exec redis-server /etc/lane/conf/lane.conf
