"""`fleetctl init` on real hosts: a stock VM as Mastodon's guide installs it, and per-queue units of a template."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from fleetd.config import parse
from lab import Host, Lab
from lab.setup import mastodon
from lab.topologies import one_host
from tests.support.lab.fleet import FLEETCTL

pytestmark = pytest.mark.lab

FILE = "/etc/fleetd/fleetd.toml"
QUEUES = ("default", "push", "ingress", "mailers", "pull")
#: As an admin writes it, with the settings of each queue beside it.
TEMPLATE = f"""[Service]
Type=simple
User=mastodon
WorkingDirectory={mastodon.LIVE}
Environment=RAILS_ENV=production
EnvironmentFile={mastodon.LIVE}/queue-%i.env
ExecStart={mastodon.PROGRAM} -c ${{THREADS}} -q %i
[Install]
WantedBy=multi-user.target
"""
#: What init recognises web by; there is no Rails in the lab.
WEB = f"""[Service]
User=mastodon
WorkingDirectory={mastodon.LIVE}
Environment=WEB_CONCURRENCY=3
ExecStart=/bin/sh -c 'exec -a puma sleep infinity'
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = one_host(lab)
        mastodon.install_stock_unit(host)
        host.write("/etc/systemd/system/mastodon-web.service", WEB.replace("/bin/sh", "/bin/bash"))
        host.write("/etc/systemd/system/mastodon-sidekiq-queue@.service", TEMPLATE)
        for queue in QUEUES:
            threads = 15 if queue == "default" else 10
            host.write(f"{mastodon.LIVE}/queue-{queue}.env", f"THREADS={threads}\n", mode=0o600, owner="mastodon")
        lab.boot()
        host.start("mastodon-web")
        yield host


def served(host: Host, count: int) -> None:
    """So many processes beat."""
    host.wait_until(
        f"{count} processes beat",
        lambda: host.run(["redis-cli", "scard", "processes"]).stdout.strip() == str(count),
    )


def profiles(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["profiles"]
    return found


def test_a_stock_vm_gets_a_configuration_that_can_grow(host: Host) -> None:
    """Before there is a role fleetd in Postgres: the workers' own login counts the connections."""
    served(host, 1)
    done = host.run([FLEETCTL, "init"])
    assert done.stderr == ""
    assert "Sidekiq now run by mastodon-sidekiq.service" in done.stdout
    assert "Postgres: limit 97, less reserve 10, less others' 25: 62" in done.stdout
    assert done.stdout.endswith(
        "Next:\n  sudo fleetctl check-config\n  sudo fleetctl doctor\n  sudo fleetctl migrate\n"
    )
    assert host.run(["stat", "-c", "%a %U:%G", FILE]).stdout.strip() == "640 root:fleetd"
    text = host.read(FILE)
    settings = parse(text, machine_host="one")
    assert settings.warnings == ()
    assert settings.policy.scheduler.place == "here"
    [only] = settings.policy.profiles
    assert (only.name, only.order, only.threads) == ("weighted", "weighted", 25)
    assert settings.policy.scheduler.threads == 5, "so that 25 threads can have a second instance"
    assert (only.min_instances, only.max_instances) == (1, 2)
    assert {claim.name: claim.connections for claim in settings.policy.connections.declared} == {
        "web": 15,
        "streaming": 10,
    }
    assert host.run([FLEETCTL, "check-config"]).stdout.startswith(f"{FILE}: fleetd takes this configuration\n")


def test_what_is_there_is_not_overwritten(host: Host) -> None:
    before = host.read(FILE)
    done = host.run([FLEETCTL, "init"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--output FILE" in done.stderr
    assert host.read(FILE) == before
    host.run(["cp", "/usr/local/share/fleetd/config.example.toml", FILE])
    host.run([FLEETCTL, "init"])
    assert host.read(FILE) == before


def test_the_units_of_each_queue_become_profiles(host: Host) -> None:
    host.run(["systemctl", "disable", "--now", "mastodon-sidekiq"])
    host.run(["systemctl", "enable", "--now", *(f"mastodon-sidekiq-queue@{queue}" for queue in QUEUES)])
    served(host, len(QUEUES))
    done = host.run([FLEETCTL, "init", "--stdout"])
    found = profiles(done.stdout)
    assert tuple(found) == QUEUES
    assert [profile["queues"] for profile in found.values()] == [[q] for q in QUEUES[:4]] + [["pull", "fasp"]]
    assert {profile["min"] for profile in found.values()} == {1}
    assert all(profile["max"] > profile["min"] for profile in found.values())
    assert parse(done.stdout, machine_host="one").warnings == ()
    host.write("/root/init.toml", done.stdout)
    assert host.run([FLEETCTL, "check-config", "/root/init.toml"]).returncode == 0


def test_doctor_finds_room_for_one_more_in_both(host: Host) -> None:
    """Once what they replace has stopped, and fleetd has its role."""
    host.run(["systemctl", "disable", "--now", *(f"mastodon-sidekiq-queue@{queue}" for queue in QUEUES)])
    host.run(["psql", "-c", "CREATE ROLE fleetd LOGIN IN ROLE pg_monitor"], user="postgres")
    host.run(["chmod", "0711", "/root"])
    host.run(["chmod", "0644", "/root/init.toml"])
    for file in (FILE, "/root/init.toml"):
        checks = json.loads(host.run([FLEETCTL, "doctor", "--json", file], check=False).stdout)["checks"]
        [(verdict, what)] = [(c["verdict"], c["what"]) for c in checks if c["subject"] == "Postgres"]
        assert verdict == "ok", what
        assert [c for c in checks if c["subject"] == "configuration" and c["verdict"] == "broken"] == []
