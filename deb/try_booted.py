"""The package in a booted root of another release: python -m deb.try_booted BASE DEB

BASE has systemd, D-Bus and polkit of that release; the lab boots it. There is no Redis and no Postgres: fleetd then
keeps `min` running, which is enough to see that units, polkit rule and bus policy do there what they should. A worker
is a program that says READY and stops when told to.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lab import Host, Lab

_WORKER = """#!/usr/bin/python3
import os, signal, socket, sys, time
address = os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGTSTP, lambda *_: None)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
while True:
    time.sleep(1)
"""
_CONFIG = """
[scheduler]
place = "elsewhere"
[profiles.local]
threads = 3
instances = "1-4"
min = 2
[pace]
tick_seconds = 1
[redis]
host = "127.0.0.1"
[postgres]
host = "127.0.0.1"
user = "mastodon"
dbname = "mastodon"
[mastodon]
env_file = ""
directory = "/home/mastodon/live"
exec = "/srv/sidekiq"
"""
_ACCOUNT = {
    "passwd": "mastodon:x:2000:2000:Mastodon:/home/mastodon:/bin/sh",
    "group": "mastodon:x:2000:",
    "shadow": "mastodon:!:19000::::::",
}
_FOUND = (
    "find /etc /usr /opt /var/lib /run -xdev \\( -name '*fleetd*' -o -name 'mastodon*' \\) | grep -v ^/var/lib/dpkg"
)


def prepare(host: Host, deb: Path) -> None:
    """A host with Mastodon's user and directories."""
    for name, line in _ACCOUNT.items():
        with (host.disk / "etc" / name).open("a") as file:
            file.write(f"{line}\n")
    host.write("/srv/sidekiq", _WORKER, mode=0o755)
    for directory in ("lib/mastodon", "db", "config"):
        (host.disk / "home/mastodon/live" / directory).mkdir(parents=True)
    shutil.copy(deb, host.disk / "root/fleetd.deb")


def sh(host: Host, script: str) -> str:
    """What a script prints. Raises LabError if it fails."""
    return host.run(["sh", "-c", script], timeout=120).stdout.strip()


def runs(host: Host) -> str:
    """Which runs of both workers are under way."""
    return sh(host, "systemctl show --property=InvocationID --value mastodon-sidekiq@1 mastodon-sidekiq@2")


def both_up(host: Host) -> None:
    """Wait until both workers run."""
    both = {"mastodon-sidekiq@1.service", "mastodon-sidekiq@2.service"}
    host.wait_until("@1 and @2 run", lambda: set(host.units("mastodon-sidekiq@*")) == both)


def check(what: str, holds: bool) -> None:
    """Say that it holds, or end."""
    print(f"{'ok' if holds else 'NOT OK'}: {what}", flush=True)
    if not holds:
        raise SystemExit(1)


def life(host: Host) -> None:
    """Install, steer, upgrade, purge, reboot, install, purge."""
    print(sh(host, "systemctl --version | head -n 1; pkaction --version; dbus-daemon --version | head -n 1"))
    sh(host, "dpkg --install /root/fleetd.deb")
    host.write("/etc/fleetd/fleetd.toml", _CONFIG, mode=0o640)
    sh(host, "chgrp fleetd /etc/fleetd/fleetd.toml; fleetctl check-config; systemctl start fleetd-render")
    sh(host, "systemctl enable --now fleetd mastodon-sidekiq.target")
    both_up(host)
    check("fleetctl reaches fleetd over the bus", "2 of 2 running" in sh(host, "fleetctl status"))
    sh(host, "fleetctl drain 2 --for 1h")
    host.wait_until("polkit lets fleetd stop @2 and start @3", lambda: host.units("mastodon-sidekiq@3*") != [])
    sh(host, "fleetctl release 2; systemctl restart mastodon-sidekiq.target; systemctl stop mastodon-sidekiq@3")
    both_up(host)
    before = runs(host)
    sh(host, "dpkg --install /root/fleetd.deb")
    check("an upgrade touches no worker, and fleetd runs", runs(host) == before and host.unit("fleetd").active)
    said = sh(host, "dpkg --purge fleetd")
    check("a purge touches no worker", runs(host) == before and "so this stays" in said)
    host.reboot()
    both_up(host)
    check("a boot without fleetd starts them, and no unit fails", host.failed_units() == [])
    sh(host, "dpkg --install /root/fleetd.deb; systemctl disable --now mastodon-sidekiq.target")
    host.wait_until("the workers have stopped", lambda: host.units("mastodon-sidekiq@*") == [])
    sh(host, "dpkg --purge fleetd")
    left = sh(host, f"{_FOUND} || true")
    check(f"nothing is left{':' if left else ''} {left}".strip(), not left)


def main() -> None:
    """Try it."""
    base, deb = sys.argv[1], Path(sys.argv[2])
    with Lab() as lab:
        host = lab.add_host("other", base=base)
        prepare(host, deb)
        lab.boot()
        life(host)


if __name__ == "__main__":
    main()
