#!/bin/sh
# Installs fleetd on this worker VM: the program in /opt/fleetd by the hashes of requirements.lock, then what
# `fleetctl install-units` writes, and /etc/fleetd/fleetd.toml if there is none. Touches no worker, and starts nothing but
# a fleetd that ran before. Run again to upgrade, after the system's Python has changed, or to mend rights.
set -eu
cd "$(dirname "$0")/.."
umask 022 # whatever root's is: user fleetd has to read what is installed
say() { printf '%s\n' "$*" >&2; }

[ "$(id -u)" -eq 0 ] || { say "fleetd: installing into /opt/fleetd and /etc needs root: run  sudo make install"; exit 1; }
[ -d /run/systemd/system ] || { say "fleetd: this machine is not running systemd"; exit 1; }
if [ "$(dpkg-query --show --showformat='${db:Status-Status}' fleetd 2>/dev/null)" = installed ]; then
    say "fleetd: its Debian package is installed here; what this installs would hide it. Upgrade the package, or remove it"
    say "        first (the workers run on): apt-get remove fleetd"
    exit 1
fi
# Everything that is missing at once, before anything is written.
lacks=
/usr/bin/python3 -I -c 'import venv, ensurepip' 2>/dev/null || lacks="$lacks python3-venv"
command -v pkaction >/dev/null || lacks="$lacks polkitd"
[ -S /run/dbus/system_bus_socket ] || lacks="$lacks dbus"
[ -z "$lacks" ] || { say "fleetd: this host lacks what fleetd needs: run  apt-get install$lacks"; exit 1; }
if ! /usr/bin/python3 -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "fleetd: Python 3.11 or newer is needed; this is $(/usr/bin/python3 --version). Debian 12 and Ubuntu 24.04 have it."
    exit 1
fi

unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER # they would put it somewhere else, without an error
version='import sys; print(sys.version_info[:2])'
# -I: nothing from the current directory or PYTHONPATH runs as root.
if [ "$(/opt/fleetd/bin/python -I -c "$version" 2>/dev/null)" != "$(/usr/bin/python3 -I -c "$version")" ]; then
    /usr/bin/python3 -I -m venv --clear /opt/fleetd # also where the system's Python is another one than before
fi
# Root installs and runs only what requirements.lock names by hash. fleetd itself is built from here, without any index.
pip="/opt/fleetd/bin/python -I -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore"
if ! $pip --require-hashes --only-binary :all: -r requirements.lock; then
    say "fleetd: the packages of requirements.lock could not be had (above is why). pip fetches them from the package index:"
    say "fleetd: is the network there, and a proxy set if you need one? Nothing but /opt/fleetd was changed: run it again."
    exit 1
fi
$pip --no-deps --no-index --no-build-isolation --force-reinstall .
chmod -R go+rX,go-w /opt/fleetd # an earlier run may have had another umask
/opt/fleetd/bin/fleetctl install-units
if [ ! -e /etc/fleetd/fleetd.toml ]; then
    install -o root -g fleetd -m 0640 config.example.toml /etc/fleetd/fleetd.toml
    say "fleetd: /etc/fleetd/fleetd.toml is a copy of the example: write a first one from what runs now, or adapt it, then"
    say "    fleetctl init"
else
    say "fleetd: /etc/fleetd/fleetd.toml was left unchanged; now run"
fi
say "    fleetctl check-config"
say "    fleetctl doctor       # prints the lines that help"
say "    fleetctl migrate      # from what runs Sidekiq now, without losing a job"
say "    fleetctl status"
