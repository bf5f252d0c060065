#!/bin/sh
# Installs fleetd on this worker VM: the program in /opt/fleetd, units, polkit rule, bus policy, user fleetd, and
# /etc/fleetd/fleetd.toml if there is none. Starts nothing. Run again to upgrade: workers are not touched.
set -eu
cd "$(dirname "$0")/.."
umask 022 # whatever root's is: user fleetd has to read what is installed
say() { printf '%s\n' "$*"; }

[ "$(id -u)" -eq 0 ] || { say "fleetd: installing into /opt/fleetd and /etc needs root: run  sudo make install" >&2; exit 1; }
[ -d /run/systemd/system ] || { say "fleetd: this machine is not running systemd" >&2; exit 1; }
if ! /usr/bin/python3 -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "fleetd: Python 3.11 or newer with venv is needed: run  apt-get install python3-venv" >&2
    exit 1
fi
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER # they would put it somewhere else, without an error
# -I: nothing from the current directory or PYTHONPATH runs as root.
[ -x /opt/fleetd/bin/python ] || /usr/bin/python3 -I -m venv /opt/fleetd
# Root installs and runs only what requirements.lock names by hash. fleetd itself is built from here, without any index.
pip="/opt/fleetd/bin/python -I -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore"
$pip --require-hashes --only-binary :all: -r requirements.lock
$pip --no-deps --no-index --no-build-isolation --force-reinstall .
units/install.sh / > /dev/null
if [ ! -e /etc/fleetd/fleetd.toml ]; then
    install -o root -g fleetd -m 0640 config.example.toml /etc/fleetd/fleetd.toml
    say "fleetd: /etc/fleetd/fleetd.toml is a copy of the example: write a first one from what runs now, or adapt it, then"
    say "    fleetctl init"
else
    say "fleetd: /etc/fleetd/fleetd.toml was left unchanged; now run"
fi
ln -sf /opt/fleetd/bin/fleetctl /usr/local/bin/fleetctl
say "    fleetctl check-config"
say "    systemctl disable --now mastodon-sidekiq   # if the stock unit runs here: it serves every queue"
say "    systemctl start fleetd-render"
say "    fleetctl doctor                            # prints the lines that help"
say "    systemctl enable --now fleetd"
say "    systemctl enable --now mastodon-sidekiq.target"
say "    fleetctl status"
