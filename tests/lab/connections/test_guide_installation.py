"""Mastodon as its guide installs it, on one VM: Postgres over the local socket, without a password."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from lab import Lab
from lab.topologies import TwoHosts, one_host
from tests.support.lab.fleet import FLEETCTL, Fleet

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.default]
order = "default-first"
threads = 5
instances = "1-3"
min = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Lab() as lab:
        host = one_host(lab)
        lab.boot()
        fleet = Fleet(TwoHosts(lab, host, host))
        fleet.configure(CONFIG)
        yield fleet


def examined(fleet: Fleet) -> tuple[int, list[dict[str, str]]]:
    """The exit status of `fleetctl doctor` and what is not in order."""
    done = fleet.worker.run([FLEETCTL, "doctor", "--json"], check=False)
    checks: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    return done.returncode, [check for check in checks if check["verdict"] != "ok"]


def test_doctor_leads_from_a_fresh_installation_to_a_fleet_that_runs(fleet: Fleet) -> None:
    """By the lines that it prints, one after the other, as an admin would paste them."""
    pasted = []
    for _ in range(8):
        status, wrong = examined(fleet)
        lines = [check["line"] for check in wrong if check["line"]]
        if not lines:
            break
        pasted.append(lines[0])
        command = shlex.split(lines[0].removeprefix("sudo "))
        user = command[1] if command[0] == "-u" else None
        fleet.worker.run(command[2:] if user else command, user=user)
    assert (status, wrong) == (0, []), pasted
    assert "sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN IN ROLE pg_monitor'" in pasted
    running = fleet.wait("it runs and counts", lambda s: all(source.ok for source in s.sources))
    [postgres] = running.connections.sources
    assert postgres.limit_connections == 97
    assert postgres.exact
