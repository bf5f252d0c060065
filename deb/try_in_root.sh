#!/bin/sh
# Installs, upgrades, removes and purges the package in a copy of a root of its release: deb/try_in_root.sh RELEASE
# Both are what `make deb RELEASE=…` left; apt fetches what the package depends on. Then the same in a host of the lab with
# that root and its own systemd (try_booted.py). Needs root.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/build/roots/$1
case $1 in
bookworm) suffix=deb12 ;;
trixie) suffix=deb13 ;;
noble) suffix=ubuntu24.04 ;;
*) suffix=unknown ;;
esac
deb=$(find dist -name "fleetd_*+${suffix}_*.deb" | sort -V | tail -n 1)
if [ ! -e "$root/.made" ] || [ -z "$deb" ]; then
    echo "fleetd: first run  make deb RELEASE=$1" >&2
    exit 1
fi
work=$root.tried
rm -rf "$work"
mkdir -p "$work"

cat > "$work/try.sh" <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
said() { printf '== %s\n' "$*"; }
files() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/cache -o -path /var/lib/apt \
    -o -path /var/lib/dpkg -o -path /var/log -o -path /run \) -prune -o -print | sort; }
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
apt-get update -qq
apt-get install -qq --no-install-recommends dbus polkitd procps systemd systemd-sysv man-db bash > /tmp/log 2>&1 || { tail -n 20 /tmp/log; exit 1; }
files > /tmp/before
said "install"
apt-get install -qq --no-install-recommends /tmp/fleetd.deb 2> /dev/null | grep '^fleetd: '
said "$(fleetctl --version), $(fleetd --version), $(python3 --version), polkit $(pkaction --version)"
test -s /usr/share/man/man8/fleetd.8.gz
bash -n /usr/share/bash-completion/completions/fleetctl
test "$(stat -c '%U:%G %a' /etc/fleetd)" = 'root:fleetd 750'
test -n "$(find /usr/lib/fleetd -name 'main.cpython-*.pyc')"
systemd-analyze verify /usr/lib/systemd/system/fleetd.service
said "the same again"
dpkg -i /tmp/fleetd.deb > /dev/null
said "remove"
apt-get remove -qq fleetd 2> /dev/null | grep '^fleetd: ' || true
test ! -e /usr/bin/fleetctl
said "left by the removal:"
files | comm -13 /tmp/before -
said "purge"
apt-get purge -qq fleetd 2> /dev/null | grep '^fleetd: '
files | comm -13 /tmp/before - > /tmp/left
test ! -s /tmp/left || { said "left by the purge:"; cat /tmp/left; exit 1; }
said "nothing is left"
userdel fleetd
rm /usr/sbin/policy-rc.d
END
mkdir "$work/upper" "$work/work" "$work/root"
# shellcheck disable=SC2016
unshare --mount --pid --fork -- sh -euc '
    mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
    mount -t proc proc "$2/root/proc"
    cp "$3" "$2/root/tmp/fleetd.deb"
    cp "$2/try.sh" "$2/root/tmp/try.sh"
    cp /etc/resolv.conf "$2/root/etc/resolv.conf"
    chroot "$2/root" /bin/sh /tmp/try.sh
' sh "$root" "$work" "$deb"
echo "== and with its systemd"
.venv/bin/python -B -m deb.try_booted "$work/upper:$root" "$deb"
rm -rf "$work"
