#!/bin/sh
# Makes a root directory of its own out of this machine's /usr and what is in
# ETC, and starts systemd there: in new namespaces, and in the control group
# where it is, so that it is all systemd sees. Nothing outside is changed.
# $1 ROOT, an empty directory; $2 ETC; $3 the program homelab; $4 systemd
set -eu
root=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir dev etc home old proc root run srv sys tmp usr var var/lib var/log var/tmp
chmod 1777 tmp var/tmp
ln -s ../run var/run
mount --bind /usr usr
mount -o remount,bind,ro usr
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$dir"; done
mount -t tmpfs -o mode=755 tmpfs usr/local/bin
cp "$3" usr/local/bin/homelab
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
cp -r "$2/." etc/
pivot_root . old
umount -l /old
exec env -i container=e2e PATH=/usr/local/bin:/usr/bin:/bin SYSTEMD_PROC_CMDLINE=systemd.unified_cgroup_hierarchy=1 \
  setpriv --bounding-set=-audit_control,-audit_read,-bpf,-mac_admin,-mac_override,-mknod,-perfmon,-sys_module,-sys_rawio,-sys_time,-syslog \
  "$4" --system --show-status=no --unit=e2e.target
