#!/bin/sh
# Becomes PID 1 of one virtual host: host.sh enter CGROUP ROOT HOSTNAME ADDRESS
# Runs as the first process in fresh pid, mount, uts, ipc and network namespaces (see host.py). ROOT is the host's
# disk: an overlay of this machine's files that the lab's mount namespace owns, so that it outlives a reboot.
set -eu
cgroup=$2 root=$3 hostname=$4 address=$5

if [ "$1" = enter ]; then
    # Into the host's cgroup first, then the cgroup namespace: the group becomes the root that this host sees, and
    # holds nothing but its systemd (a foreign process in it would keep systemd from handing controllers down).
    echo 0 > "$cgroup/cgroup.procs"
    exec unshare --cgroup -- sh "$0" boot "$cgroup" "$root" "$hostname" "$address"
fi

mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# Kernel settings are this machine's: a host may read them.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
# Read-only, so that udev stays away from this machine's devices.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
# All hosts share this machine's kernel, but each boot has an id of its own.
cat /proc/sys/kernel/random/uuid > "$root/run/boot-id"
chmod 444 "$root/run/boot-id"
mount --bind "$root/run/boot-id" "$root/proc/sys/kernel/random/boot_id"

# Say who we are ("ready"); the lab then hands over eth0 and says go.
echo ready
read -r _
hostname "$hostname"
ip link set lo up
ip address add "$address/16" dev eth0
ip link set eth0 up

cd "$root"
mkdir run/machine
pivot_root . run/machine
umount -l /run/machine
rmdir /run/machine
mount --make-rshared /  # else LoadCredential gives an empty directory
echo "starting systemd"
# Never this machine's clock, kernel modules or raw hardware.
exec env -i container=lab LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio --inh-caps=-sys_time,-sys_module,-sys_rawio \
    /lib/systemd/systemd --system --unit=multi-user.target < /dev/null > /dev/null 2>&1
