#!/bin/bash
# For scripts/units.sh: the first process of namespaces of its own. Boots a systemd on a copy of this machine's files that is
# gone with it (an overlay in memory); nothing of the kernel's settings can be written. Its results go to directory OUT.
#   boot.sh REPOSITORY OUT
set -euo pipefail
repository=$1 out=$2
mount --make-rprivate /
# Anything that is not there for long: only these namespaces see what is mounted.
top=/mnt
mount -t tmpfs tmpfs "$top"
mkdir "$top"/{changes,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/changes,workdir=$top/work" "$top/root"
cd "$top/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
mkdir dev/{pts,shm,mqueue,hugepages}
mount -t devpts -o ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

mkdir -p check/out check/repository
mount --bind "$out" check/out
mount --bind "$repository" check/repository
mount -o remount,ro,bind check/repository
rm -f etc/fstab
: >etc/machine-id
# What would look after the machine, or start servers of its own.
for unit in systemd-sysctl systemd-modules-load systemd-remount-fs systemd-udevd systemd-logind redis-server postgresql cron; do
  ln -sf /dev/null "etc/systemd/system/$unit.service"
done
cat >etc/systemd/system/check.target <<'UNIT'
[Unit]
Requires=basic.target check.service
After=basic.target
UNIT
cat >etc/systemd/system/check.service <<'UNIT'
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /check/repository/deploy/systemd/check/inside.sh
StandardOutput=file:/check/out/log
StandardError=file:/check/out/log
TimeoutStartSec=240
UNIT
ip link set lo up
mkdir -p mnt/before
pivot_root . mnt/before
# A container's manager shares its mounts, else services do not see the credentials that systemd mounts for them.
exec chroot . /bin/bash -c 'umount -l /mnt/before && mount --make-rshared / &&
  exec env -i container=check PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=check.target --show-status=0 --log-target=journal'
