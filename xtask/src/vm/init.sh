#!/bin/busybox sh
# The first process of a VM, in its initial RAM disk: finds the userland, and puts what is ours over it. Of what is
# written nothing lasts.
set -e
/bin/busybox mkdir -p /proc /sys /dev /image /rw /new
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
mount -t ext4 -o ro /dev/vda /image
mount -t tmpfs -o mode=755 rw /rw
mkdir /rw/upper /rw/work
mv /fresh/* /rw/upper/
mount -t overlay -o lowerdir=/image,upperdir=/rw/upper,workdir=/rw/work userland /new
umount /dev /sys /proc
exec switch_root /new /usr/local/sbin/vm-start
