"""A cloned VM: another host with the same host name, machine-id, settings and state, as a copied disk has them."""

import shutil
import subprocess

from lab.hosts.host import Host
from lab.setup import mastodon
from lab.topologies import add_worker

#: Units too: what is enabled there boots on the clone.
_COPIED = ("etc/machine-id", "etc/fleetd", "etc/systemd/system", "var/lib/fleetd", "var/lib/mastodon-sidekiq")


def clone_worker(host: Host, name: str) -> Host:
    """Add a host, not booted yet, that is a clone of the worker VM `host`; only its boot_id and address are its own."""
    lines = host.read(f"{mastodon.LIVE}/.env.production").splitlines()
    settings = {key: value for key, _, value in (line.partition("=") for line in lines)}
    clone = add_worker(host.lab, name, settings, hostname=host.hostname)
    for path in _COPIED:
        source, target = host.disk / path, clone.disk / path
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        elif source.exists():
            shutil.copy2(source, target)
    return clone
