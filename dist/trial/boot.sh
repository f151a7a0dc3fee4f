#!/usr/bin/env bash
# Boots systemd on a copy of this machine's files that is gone afterwards, and runs check.sh there.
#
# run.sh calls it with a folder that holds what the check needs, as the first process of namespaces of its own for
# mounts, processes, the network and so on. What the check says goes to the file `out` in that folder, what services say
# to `log`. Nothing of the machine is changed: its files are the lower half of an overlay whose upper half is in memory.
set -Eeuo pipefail

trial=$1
root=$trial/root
mount --make-rprivate /

mkdir "$trial/overlay" "$root"
mount -t tmpfs -o mode=755 tmpfs "$trial/overlay"
mkdir "$trial/overlay/upper" "$trial/overlay/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$trial/overlay/upper,workdir=$trial/overlay/work" "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root"/dev/{shm,pts,mqueue}
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t mqueue mqueue "$root/dev/mqueue"
ln -s pts/ptmx "$root/dev/ptmx"

# Nothing of what this machine starts: only what the check starts.
rm -rf "$root"/etc/systemd/{system,user}/* "$root"/{usr/lib,etc}/systemd/{system,user}-generators
rm -rf "$root"/usr/lib/systemd/{system,user}/*.{wants,requires}
: >"$root/etc/fstab"
# Images for containers forbid packages to start and stop services.
rm -f "$root/usr/sbin/policy-rc.d"

mkdir "$root/trial"
mount --bind "$trial" "$root/trial"
# Services of users write there, too.
chmod 755 "$trial"
chmod 666 "$trial/log"
mkdir -p "$root/etc/systemd/system/service.d"
cat >"$root/etc/systemd/system/service.d/log.conf" <<'EOF'
[Service]
StandardOutput=append:/trial/log
EOF
cp -r "$root/etc/systemd/system/service.d" "$root/etc/systemd/user/"
cat >"$root/etc/systemd/system/check.service" <<'EOF'
[Unit]
DefaultDependencies=no
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
TimeoutStartSec=5min
ExecStart=/bin/bash -c 'exec bash /trial/check.sh >/trial/out 2>&1'
EOF

mkdir "$root/old"
cd "$root"
pivot_root . old
umount --lazy /old
rmdir /old
exec env -i container=trial PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    /lib/systemd/systemd --system --unit=check.service --log-target=console --show-status=no
