"""Law 6: people's orders survive a restart of fleetd, are shown with their end, and end when people say so."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fleetd.core.model.status import InstanceStatus, Status
from lab.jobs import load
from lab.jobs.resp import strings
from lab.setup import mastodon
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "elsewhere"
[profiles.only]
order = "default-first"
threads = 4
instances = "1-4"
min = 1
[targets]
default = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
hold_down_seconds = 2
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        yield fleet


def order(fleet: Fleet, *words: str) -> str:
    return fleet.worker.run(["/opt/fleetd/bin/fleetctl", *words]).stdout


def instance(status: Status, number: int) -> InstanceStatus:
    return next(i for i in status.instances if i.number == number)


def ticks_later(fleet: Fleet, ticks: int) -> Status:
    target = fleet.status().ticks_total + ticks
    return fleet.wait(f"{ticks} more ticks", lambda s: s.ticks_total >= target)


def kept(status: Status) -> dict[tuple[str, str], float]:
    """The orders in force, and for how long."""
    return {(o.kind, o.what): o.seconds_left for o in status.overrides}


def test_orders_survive_a_restart_and_hold_in_a_surge(fleet: Fleet) -> None:
    began = time.monotonic()
    order(fleet, "set", "only", "2", "--for", "1h")
    fleet.wait("two serve", lambda s: s.profiles[0].serving_instances == 2)
    order(fleet, "pin", "2", "--for", "30m")
    order(fleet, "pause", "--for", "20m", "--reason", "moving the database")
    before = kept(fleet.wait("all are shown", lambda s: len(s.overrides) == 3))
    assert set(before) == {("set", "only"), ("pin", "@2"), ("pause", "fleet")}

    fleet.worker.restart("fleetd")
    status = fleet.wait("it decides again", lambda s: s.profiles[0].serving_instances == 2)
    after = kept(status)
    assert set(after) == set(before)
    gone = time.monotonic() - began
    assert all(before[key] - gone <= left <= before[key] for key, left in after.items()), (
        before,
        after,
        gone,
    )
    assert [h.kind for h in status.holds] == ["pause"]
    assert "moving the database" in status.holds[0].sentence

    load.enqueue(fleet.main, "default", [600.0] * 200)
    fleet.wait("the surge is there", lambda s: any((q.length_jobs or 0) > 100 for q in s.queues))
    ticks_later(fleet, 5)
    assert fleet.up() == {1, 2}, "paused"
    order(fleet, "resume")
    status = ticks_later(fleet, 5)
    assert (fleet.up(), status.holds) == ({1, 2}, ()), "set"
    order(fleet, "set", "only", "auto")
    order(fleet, "release", "2")
    status = fleet.wait("it grows again", lambda s: (s.profiles[0].serving_instances or 0) > 2)
    assert kept(status) == {}
    mastodon.let_go(fleet.worker)


def test_a_quiet_from_sidekiqs_web_page_is_kept_until_released(fleet: Fleet) -> None:
    fleet.worker.wait_until("no surge any more", lambda: len(fleet.up()) == 1)
    (number,) = fleet.up()
    pid = fleet.worker.unit(f"mastodon-sidekiq@{number}").main_pid
    with load.connect(fleet.main) as redis:
        living = strings(redis.command("SMEMBERS", "processes"))
        (identity,) = [name for name in living if name.split(":")[1] == str(pid)]
        redis.command("LPUSH", f"{identity}-signals", "TSTP")  # as the button "Quiet" does
    fleet.wait("it is shown", lambda s: "quieted by hand" in instance(s, number).note)
    fleet.worker.restart("fleetd")
    status = fleet.wait("it decides again", lambda s: "quieted by hand" in instance(s, number).note)
    assert instance(status, number).state == "pinned"
    assert number in fleet.up()
    load.enqueue(fleet.main, "default", [0.1] * 20)
    fleet.worker.wait_until("another number serves, because min would be broken", lambda: fleet.tally().settled)

    order(fleet, "release", str(number))
    fleet.wait("it is drained, since quiet can't be undone", lambda s: instance(s, number).state == "stopped")
    tally = fleet.tally()
    assert (tally.lost, tally.repeated) == ((), ())
