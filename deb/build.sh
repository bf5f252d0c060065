#!/bin/sh
# Builds fleetd_VERSION_ARCH.deb for the release it runs in, with that release's own Python: deb/build.sh OUTPUT
# Needs no root. Python packages are those of requirements.lock, by hash: from the index that pip knows, or with WHEELS
# (a directory) from there, without any network. Two builds of one commit are the same to the byte.
set -eu
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C.UTF-8 TZ=UTC0
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER
say() { printf 'fleetd: %s\n' "$*" >&2; }

# shellcheck disable=SC1091
. /etc/os-release
case $ID$VERSION_ID in
debian12 | debian13) suffix=deb$VERSION_ID ;;
ubuntu24.04) suffix=$ID$VERSION_ID ;;
*)
    say "packages are made for Debian 12, Debian 13 and Ubuntu 24.04; this is $PRETTY_NAME."
    say "Name one of these, and it is built in a root of its own:  make deb RELEASE=bookworm   (or trixie, noble)"
    exit 1
    ;;
esac
if ! /usr/bin/python3 -I -c 'import tomllib, venv, ensurepip' 2> /dev/null; then
    say "Python 3.11 or newer with venv is needed: run  apt-get install python3-venv"
    exit 1
fi
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then # all files get the time of the last commit
    SOURCE_DATE_EPOCH=$(git -c "safe.directory=$PWD" log -1 --format=%ct 2> /dev/null) || {
        say "this is no git checkout: set SOURCE_DATE_EPOCH to the time of the release, in seconds since 1970"
        exit 1
    }
fi
export SOURCE_DATE_EPOCH

mkdir -p "$1"
output=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
home=$stage/usr/lib/fleetd
doc=$stage/usr/share/doc/fleetd
architecture=$(dpkg --print-architecture)
project() { # project EXPRESSION: a value of pyproject.toml
    /usr/bin/python3 -I -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print($1)"
}
upstream=$(project 'project["version"]')
version=$upstream+$suffix
minor=$(/usr/bin/python3 -I -c 'import sys; print(sys.version_info.minor)')
deb=$output/fleetd_${version}_$architecture.deb

# ---- The Python environment
say "installing the packages of requirements.lock for Python 3.$minor"
mkdir -p "$stage/usr/lib"
/usr/bin/python3 -I -m venv "$home"
if [ -n "${WHEELS:-}" ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$WHEELS"
fi
pip="$home/bin/python -I -m pip install --quiet --disable-pip-version-check --no-input --no-compile --root-user-action=ignore"
$pip --require-hashes --only-binary :all: -r requirements.lock
$pip --no-deps --no-index --no-build-isolation .
# What only installs: it is not needed to run. pip goes last.
"$home/bin/python" -I -m pip uninstall --quiet --yes --root-user-action=ignore flit_core setuptools pip 2> /dev/null
site=$home/lib/python3.$minor/site-packages
rm -r "$site/fleetd/units" # for `fleetctl install-units`, which has nothing to do here
# The names of this machine, of its index and of the day.
find "$site" -path '*.dist-info/*' \( -name RECORD -o -name INSTALLER -o -name REQUESTED -o -name direct_url.json \) -delete
find "$home" -depth -name __pycache__ -exec rm -r {} +

# ---- Units, policies, pages, completion
deb/place_units.sh "$stage"
"$home/bin/python" -I -B deb/man_pages.py "$stage/usr/share/man" config.example.toml
"$home/bin/python" -I -B deb/completion.py "$stage"
mkdir -p "$doc"
cp README.md SECURITY.md docs/*.md "$doc/"
cp CHANGELOG.md "$doc/NEWS.md"
"$home/bin/python" -I -B deb/licences.py "$site" "usr/lib/fleetd/lib/python3.$minor/site-packages" > "$doc/copyright"
maintainer="${DEBFULLNAME:-The authors of fleetd} <${DEBEMAIL:-fleetd@fleetd.invalid}>"
cat > "$doc/changelog" <<END
fleetd ($version) ${VERSION_CODENAME}; urgency=medium

  * Release $upstream. What changed: /usr/share/doc/fleetd/NEWS.md.gz

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
mkdir -p "$stage/usr/share/lintian/overrides"
cp deb/lintian-overrides "$stage/usr/share/lintian/overrides/fleetd"
find "$stage/usr/share/man" -type f -exec gzip -9n {} +
gzip -9n "$doc/changelog" "$doc/NEWS.md"

# ---- The programs
rm -rf "${home:?}/.gitignore" "${home:?}/bin" "${home:?}/include" "${home:?}/share" "${home:?}/lib64"
mkdir "$home/bin"
ln -s ../../../bin/python3 "$home/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$home/pyvenv.cfg"
project '"\n".join(f"{name} {entry}" for name, entry in project["scripts"].items())' |
    while read -r name entry; do
        # -I: no PYTHONPATH and nothing of the caller's home runs with the rights of whoever calls it.
        printf '#!/usr/lib/fleetd/bin/python -I\nimport sys\n\nfrom %s import %s\n\nsys.exit(%s())\n' \
            "${entry%%:*}" "${entry##*:}" "${entry##*:}" > "$home/bin/$name"
    done
cp deb/remove-make-install "$home/bin/remove-make-install"
mkdir -p "$stage/usr/bin" "$stage/usr/sbin"
ln -s ../lib/fleetd/bin/fleetctl "$stage/usr/bin/fleetctl"
ln -s ../lib/fleetd/bin/fleetd "$stage/usr/sbin/fleetd"

# ---- The package
mkdir "$stage/DEBIAN"
for script in preinst postinst prerm postrm; do
    install -m 0755 "deb/maintainer/$script" "$stage/DEBIAN/$script"
done
(cd "$stage" && find etc -type f -printf '/%p\n' | sort) > "$stage/DEBIAN/conffiles"
(cd "$stage" && find usr etc -type f | sort | xargs -d '\n' md5sum) > "$stage/DEBIAN/md5sums"
# The newest glibc that a bundled library asks for.
glibc=$(find "$site" -name '*.so*' -exec grep -aoh 'GLIBC_2\.[0-9]*' {} + | sort -V | tail -n 1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s|@MAINTAINER@|$(printf %s "$maintainer" | sed 's/[\\&|]/\\&/g')|" \
    -e "s/@PYTHON@/3.$minor/" -e "s/@NEXT_PYTHON@/3.$((minor + 1))/" -e "s/@GLIBC@/${glibc#GLIBC_}/" \
    -e "s/@SIZE@/$(find "$stage" -type f ! -path '*/DEBIAN/*' -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')/" \
    deb/control.in > "$stage/DEBIAN/control"
find "$stage/usr" "$stage/etc" -type f -exec chmod 0644 {} +
find "$home/bin" "$stage/usr/lib/mastodon-workers" -type f -exec chmod 0755 {} +
find "$stage" -type d -exec chmod 0755 {} +
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
# The format that all three releases read; one thread, because several would cut the data elsewhere.
dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$stage" "$deb" > /dev/null
say "built $(basename "$deb")"
