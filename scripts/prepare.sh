#!/bin/sh
# Prepares this checkout. `prepare.sh python` creates the virtual environment in .venv, which needs no root if Python is
# installed. `prepare.sh lab` also installs, as root, the Debian packages that `make test` and `make demo` need, without
# starting their services. `prepare.sh deb [RELEASE]...` installs what `make deb` needs. Does nothing the second time.
# Prints each step. Further arguments of the other two are the targets make was asked for, to be named in messages.
set -eu
cd "$(dirname "$0")/.."
what="$1"
shift

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

is_root_within_reach() {
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1
}

if [ "$what" = lab ]; then
    if ! is_root_within_reach; then
        say "fleetd: this boots virtual hosts, each with its own systemd, which needs root, and sudo is not installed."
        say "        Run it as root: su -c 'make ${*:-prepare}'"
        say "        Without root you can run: make test-unit"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "fleetd: sudo is needed to install Debian packages and to boot virtual hosts (namespaces, each with its own systemd)."
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        say "fleetd: this is not Debian or Ubuntu. The lab needs, from your distribution:"
        say "        python >= 3.11 with venv, systemd 252+, dbus, polkit 0.106+, iproute2, redis (server, sentinel), postgresql 15+,"
        say "        pgbouncer, ruby with sidekiq 6.4, activerecord 6.1, pg, rufus-scheduler, dotenv, and prometheus (promtool)."
        exit 1
    fi
fi

if [ "$what" = deb ]; then
    needed=lintian
    [ $# -eq 0 ] || needed="lintian debootstrap" # a root for each other release
    lacking=
    for program in $needed; do command -v "$program" >/dev/null 2>&1 || lacking="$lacking $program"; done
    if [ -n "$lacking" ]; then
        if ! command -v apt-get >/dev/null 2>&1 || ! is_root_within_reach; then
            say "fleetd: a package is built on Debian or Ubuntu, with dpkg and:$lacking (apt-get install$lacking)."
            exit 1
        fi
        say "fleetd: installing$lacking, to build and check the package"
        as_root apt-get update -q >/dev/null
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $lacking >/dev/null
    fi
fi

# Python first; the other packages are listed in lab/setup/packages.py.
if ! /usr/bin/python3 -I -c 'import venv, ensurepip' >/dev/null 2>&1; then
    if ! command -v apt-get >/dev/null 2>&1 || ! is_root_within_reach; then
        say "fleetd: python3 with venv is missing (Debian: apt-get install python3-venv)."
        exit 1
    fi
    say "fleetd: installing python3 and python3-venv"
    as_root apt-get update -q >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-venv >/dev/null
fi
if ! /usr/bin/python3 -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "fleetd: Python 3.11 or newer is needed; this is $(/usr/bin/python3 --version). Debian 12 and Ubuntu 24.04 have it."
    exit 1
fi
if [ "$what" = lab ]; then
    as_root /usr/bin/python3 -B -m lab packages
fi

wanted="$(cat pyproject.toml requirements-dev.lock | sha256sum | cut -d' ' -f1) $(pwd)"
if [ "$(cat .venv/.prepared 2>/dev/null)" != "$wanted" ]; then
    say "fleetd: creating the virtual environment in .venv"
    rm -rf .venv
    /usr/bin/python3 -I -m venv .venv
    pip=".venv/bin/python -I -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore"
    $pip --require-hashes --only-binary :all: -r requirements-dev.lock >&2
    $pip --no-deps --no-index --no-build-isolation --editable . >&2
    printf '%s\n' "$wanted" > .venv/.prepared
fi
