#!/bin/sh
# Builds the package of another release in a root of that release: deb/in_root.sh RELEASE OUTPUT
# RELEASE: bookworm, trixie or noble. The root is build/roots/RELEASE; if there is none, debootstrap makes it (MIRROR:
# where from, by default where debootstrap looks). Wheels are fetched out here, with the index that pip knows, by the
# hashes of requirements.lock; the build itself has no network. Needs root.
set -eu
cd "$(dirname "$0")/.."
umask 022
release=$1
output=$2
project=$PWD
root=$project/build/roots/$release
say() { printf 'fleetd: %s\n' "$*" >&2; }

[ "$(id -u)" -eq 0 ] || { say "a root of another release needs root: run  sudo make deb RELEASE=$release"; exit 1; }
case $release in
bookworm | trixie) keyring=/usr/share/keyrings/debian-archive-keyring.gpg components=main ;;
noble) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg components=main,universe ;; # python3-venv is in universe
*) say "packages are made for bookworm (Debian 12), trixie (Debian 13) and noble (Ubuntu 24.04), not for '$release'"; exit 1 ;;
esac
: "${SOURCE_DATE_EPOCH:=$(git -c "safe.directory=$project" log -1 --format=%ct)}"

if [ ! -e "$root/.made" ]; then
    if [ ! -e "$keyring" ]; then
        say "$keyring is missing, so what debootstrap fetches could not be verified. On Ubuntu the package ubuntu-keyring has"
        say "the one of noble. Or make the root yourself, with python3-venv in it, and:  touch $root/.made"
        exit 1
    fi
    script=/usr/share/debootstrap/scripts/$release
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/gutsy # what all of Ubuntu's are; older ones lack the name
    say "making a root of $release with debootstrap (some minutes)"
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=python3,python3-venv --components="$components" --keyring="$keyring" \
        "$release" "$root" ${MIRROR:+"$MIRROR"} "$script" > "$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
    touch "$root/.made"
fi

rm -rf "$root/build"
mkdir -p "$root/build/source" "$root/build/wheels"
git -c "safe.directory=$project" ls-files -z --cached --others --exclude-standard |
    xargs -0 cp --parents -t "$root/build/source"
python=$(chroot "$root" /usr/bin/python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
machine=$(uname -m)
say "fetching the packages of requirements.lock for Python $python"
# pip reads the conditions of a lock for the Python it runs on. Without them it fetches all; the root's own pip chooses.
sed 's/ ; [^\\]*\\$/ \\/' requirements.lock > "$root/build/wheels/requirements.lock"
(
    cd "$root/build/wheels"
    set -- --no-deps --implementation cp --python-version "$python" --abi "cp$(echo "$python" | tr -d .)" --abi abi3 --abi none
    for libc in manylinux_2_28 manylinux_2_17 manylinux2014; do set -- "$@" --platform "${libc}_$machine"; done
    "$project/.venv/bin/python" -I -m pip download --quiet "$@" --require-hashes --only-binary :all: -r requirements.lock
)

set -- PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" WHEELS=/build/wheels
for name in DEBFULLNAME DEBEMAIL; do
    value=$(printenv "$name" || true)
    [ -z "$value" ] || set -- "$@" "$name=$value"
done
unshare --mount --net --pid --fork -- chroot "$root" env -i "$@" /build/source/deb/build.sh /build/dist
mkdir -p "$output"
cp "$root"/build/dist/*.deb "$output/"
[ -z "${SUDO_USER:-}" ] || chown -R "$SUDO_USER:" "$output"
rm -rf "$root/build"
