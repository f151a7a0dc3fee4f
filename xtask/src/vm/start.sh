#!/bin/sh
# The first process of a VM's userland. The kernel's command line became its environment: vm_name is the VM's name; with
# vm_shell there is a shell on the console, which has vm_rows and vm_columns; without, the host says what is to be done.
# vm_parts are the usual parts that start at once, with commas between them.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
mount() { busybox mount "$@"; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir /run/log
mkdir -p -m 700 /run/user/0 /run/user/1000 /home/user
chown 1000:1000 /run/user/1000 /home/user
# No udev here, and no logind: the one user owns the devices, as if sitting in front of them.
chmod 666 /dev/dri/* 2>/dev/null
busybox hostname "$vm_name"
busybox ip link set lo up

for part in $(echo "$vm_parts" | tr , ' '); do
    HOME=/home/user XDG_RUNTIME_DIR=/run/user/1000 LANG=C.UTF-8 \
        setpriv --reuid=1000 --regid=1000 --clear-groups "vm-$part" >"/run/log/$part" 2>&1 &
done

if [ -n "$vm_shell" ]; then
    export HOME=/root XDG_RUNTIME_DIR=/run/user/0 LANG=C.UTF-8
    [ -z "$vm_rows" ] || stty rows "$vm_rows" columns "$vm_columns" </dev/console
    cd /root || exit
    # What is typed at once finds the socket of the usual parts, which start in a second or two.
    [ -z "$vm_parts" ] || timeout 10 sh -c 'until [ -S "$WAYLAND_DISPLAY" ]; do sleep 0.1; done'
    # A session of its own, so that the shell has a terminal and Ctrl-C.
    setsid -c -w /bin/bash -l </dev/ttyS0 >/dev/ttyS0 2>&1
else
    LANG=C.UTF-8 wlproxy-runner
    echo "the runner has ended: $?"
fi
busybox poweroff -f
