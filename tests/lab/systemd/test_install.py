"""`make install` on a host that has nothing of fleetd: whatever root's umask is, again after damage, and away again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Host, Lab
from lab.setup import install, mastodon

pytestmark = pytest.mark.lab

SOURCE = "/srv/fleetd"
WHEELS = "/srv/wheels"
TEMPLATE = "/usr/local/lib/systemd/system/mastodon-sidekiq@.service"
#: Redis and Postgres are nowhere: fleetd runs all the same, and says so.
CONFIG = """
[profiles.only]
instances = "1-2"
min = 0
[redis]
host = "127.0.0.1"
[postgres]
host = "127.0.0.1"
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = lab.add_host("plain")
        mastodon.install(host, {"LOCAL_DOMAIN": "m.example"})
        install.place_source(host, SOURCE)
        (host.disk / WHEELS.lstrip("/")).symlink_to(install.wheels())
        lab.boot()
        yield host


def make_install(host: Host, *, umask: str = "022", wheels: str = WHEELS, check: bool = True) -> str:
    """As an admin runs it; the package index is a directory here. Returns what it said."""
    command = f"umask {umask}; cd {SOURCE} && PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} make install 2>&1"
    done = host.run(["sh", "-c", command], timeout=300, check=False)
    assert (done.returncode == 0) is check, done.stdout
    return done.stdout


def test_without_the_packages_it_says_what_is_missing_and_installs_nothing(host: Host) -> None:
    said = make_install(host, wheels="/srv/none", check=False)
    assert "is the network there" in said
    assert not host.path(TEMPLATE).exists()


def test_under_any_umask_it_runs(host: Host) -> None:
    make_install(host, umask="077")
    host.write("/etc/fleetd/fleetd.toml", CONFIG, mode=0o640)
    host.run(["chgrp", "fleetd", "/etc/fleetd/fleetd.toml"])
    host.run(["systemctl", "enable", "--now", "fleetd"])
    assert host.unit("fleetd").active
    assert host.run(["fleetctl", "--version"], user="nobody").stdout.startswith("fleetctl ")
    assert (
        "0 of 22 files would be written" in host.run(["fleetctl", "install-units", "--dry-run"], user="nobody").stdout
    )


def test_again_it_mends_rights_and_a_python_that_is_gone(host: Host) -> None:
    host.run(["sh", "-c", "chmod -R go-rwx /opt/fleetd; ln -sf /usr/bin/python3.0 /opt/fleetd/bin/python3"])
    host.run(["systemctl", "restart", "--no-block", "fleetd"])
    host.write(TEMPLATE, "[Service]\nType=simple\n", mode=0o600)
    said = make_install(host)
    assert f"changed: {TEMPLATE}" in said
    host.run(["systemctl", "restart", "fleetd"])
    assert host.unit("fleetd").active


def test_removed_it_leaves_what_workers_run_from_and_says_so(host: Host) -> None:
    said = host.run(["fleetctl", "install-units", "--remove"]).stdout
    host.run(["/opt/fleetd/bin/fleetctl", "install-units", "--remove"])  # again: nothing is left to be stopped
    assert f"  {TEMPLATE}\n" in said
    assert "sudo systemctl enable --now mastodon-sidekiq" in said
    assert host.path(TEMPLATE).exists()
    assert not host.unit("fleetd").active
    left = host.run(
        ["sh", "-c", "find /usr/local /etc -xdev -newer /srv/fleetd/Makefile -name '*fleetd*'"]
    ).stdout.split()
    kept = {"/etc/fleetd", "/etc/fleetd/fleetd.toml", "/etc/needrestart/conf.d/50-fleetd.conf"}
    stock = "/usr/local/lib/systemd/system/mastodon-sidekiq.service.d/50-fleetd.conf"
    assert {path for path in left if "/share/fleetd" not in path} <= {*kept, stock}
