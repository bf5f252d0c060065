"""Law 1 at the resource: only another host's live scheduler, or its slot, keeps ours from starting."""

from __future__ import annotations

import pytest

from fleetd.core.fleet.rival import HeldSlot, Sighting, rival_of
from fleetd.core.model.facts import ProcessFacts
from fleetd.core.model.identity import SCHEDULER
from tests.support.builders.readings import process, tag

STOCK = process("", queues="default scheduler", hostname="main", pid=7)
OTHERS = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", pid=12)
OURS = process(tag(SCHEDULER, host="w1"), queues="scheduler", hostname="w1", pid=9)
QUIET = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", quiet=True)
WORKER = process(tag(3, host="w2"), queues="default", hostname="w2")


def seen(one: ProcessFacts, expires: float | None = 55.0) -> Sighting:
    return Sighting(process=one, expires_seconds=expires)


def refused_by(*sightings: Sighting, slot: HeldSlot | None = None) -> str | None:
    rival = rival_of("w1", sightings, slot)
    return None if rival is None else rival.host


@pytest.mark.parametrize(("one", "host"), [(STOCK, "main"), (OTHERS, "w2")])
def test_another_live_scheduler_refuses(one: ProcessFacts, host: str) -> None:
    assert refused_by(seen(one)) == host


@pytest.mark.parametrize("one", [OURS, QUIET, WORKER])
def test_ours_a_quiet_one_and_other_workers_refuse_nothing(one: ProcessFacts) -> None:
    assert refused_by(seen(one)) is None


@pytest.mark.parametrize("expires", [None, 0.0, -1.0])
def test_a_heartbeat_that_never_expires_is_of_no_live_process(expires: float | None) -> None:
    assert refused_by(seen(OTHERS, expires)) is None


@pytest.mark.parametrize("age", [-3600.0, 0.0, 3600.0])
def test_the_expiry_is_believed_whatever_the_clock_of_the_host_says(age: float) -> None:
    rival = rival_of("w1", [seen(process("", queues="scheduler", beat=age), 50.0)], None)
    assert rival is not None
    assert rival.seconds == 10.0


@pytest.mark.parametrize(("age", "refused"), [(5.0, True), (90.0, False), (-5.0, False)])
def test_after_redis_clock_was_set_back_only_the_beat_is_left(age: float, refused: bool) -> None:
    one = process("", queues="scheduler", hostname="main", beat=age)
    assert (refused_by(seen(one, 3600.0)) is not None) is refused


def test_of_several_the_one_heard_of_last_is_named() -> None:
    assert refused_by(seen(STOCK, 20.0), seen(OTHERS, 58.0)) == "w2"


@pytest.mark.parametrize(
    ("slot", "host"),
    [
        (HeldSlot(host="w2", silent_seconds=5.0), "w2"),
        (HeldSlot(host="w2", silent_seconds=60.0), None),
        (HeldSlot(host="w1", silent_seconds=5.0), None),
        (HeldSlot(host="", silent_seconds=5.0), None),
    ],
)
def test_the_slot_of_another_host_that_beats_refuses(slot: HeldSlot, host: str | None) -> None:
    assert refused_by(seen(OURS), slot=slot) == host


def test_a_heartbeat_is_named_before_the_slot_because_it_says_more() -> None:
    rival = rival_of("w1", [seen(STOCK)], HeldSlot(host="w2", silent_seconds=1.0))
    assert rival is not None
    assert (rival.host, rival.process) == ("main", STOCK)
