"""Law 3 on the host itself: while its bus is away or it is frozen nothing moves. Then the fleet goes on by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.lab.fleet import Fleet
from tests.support.lab.outages import (
    HOLD_SECONDS,
    OUTAGE_SECONDS,
    down,
    fleet_with_work,
    holds,
    local,
    moves,
    runs,
    surge,
    wait_for_local,
)

pytestmark = pytest.mark.lab

FLEETCTL = "/opt/fleetd/bin/fleetctl"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_with_work() as fleet:
        yield fleet


def test_the_bus_is_away_for_a_while(fleet: Fleet) -> None:
    def fleetctl_says_so() -> None:
        shown = fleet.worker.run([FLEETCTL, "status"], check=False)
        assert shown.returncode == 1
        assert "Traceback" not in shown.stdout + shown.stderr
        told = json.loads(fleet.worker.run([FLEETCTL, "status", "--json"], check=False).stdout)
        assert "bus" in told["error"]
        assert "systemd unreadable: holding" in fleet.worker.unit("fleetd").properties["StatusText"]

    holds(
        fleet,
        {"systemd"},
        lambda: fleet.worker.run(["systemctl", "stop", "dbus.socket", "dbus.service"]),
        lambda: fleet.worker.run(["systemctl", "start", "dbus.socket", "dbus.service"]),
        during=fleetctl_says_so,
    )


def test_the_bus_is_restarted(fleet: Fleet) -> None:
    count, before, begun = local(fleet), runs(fleet), time.time()
    fleet.worker.run(["systemctl", "restart", "dbus"])
    restarted = time.time()
    fleet.wait("fleetctl is answered again", lambda s: all(source.ok for source in s.sources))
    surge(fleet)
    wait_for_local(fleet, count + 1)
    assert [(verb, at > restarted) for verb, at, _ in moves(fleet, begun)] == [("start", True)]
    assert before.items() <= runs(fleet).items()
    assert fleet.worker.unit("fleetd").restarts == 0


def test_the_host_is_frozen_for_a_while(fleet: Fleet) -> None:
    """As a paused VM: its clocks go on, and its workers send no heartbeats."""
    count, before, begun = local(fleet), runs(fleet), time.time()
    fleet.worker.freeze()
    time.sleep(OUTAGE_SECONDS + HOLD_SECONDS)
    fleet.worker.thaw()
    thawed = fleet.wait("all can be read", lambda s: all(source.ok for source in s.sources))
    fleet.wait("a hold window later", lambda s: s.ticks_total > thawed.ticks_total + HOLD_SECONDS + 1)
    assert moves(fleet, begun) == []
    assert runs(fleet) == before
    assert fleet.worker.unit("fleetd").restarts == 0
    assert down(fleet) == set()
    surge(fleet)
    wait_for_local(fleet, count + 1)


def test_systemd_reads_its_units_again(fleet: Fleet) -> None:
    """daemon-reload forgets nothing. With daemon-reexec the name gets a new owner on the bus."""
    count, before, begun = local(fleet), runs(fleet), time.time()
    for verb in ("daemon-reload", "daemon-reexec"):
        fleet.worker.run(["systemctl", verb])
    surge(fleet)
    wait_for_local(fleet, count + 1)
    assert [verb for verb, _, _ in moves(fleet, begun)] == ["start"]
    assert before.items() <= runs(fleet).items()
