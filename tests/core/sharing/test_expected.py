"""What the plan gave counts until the host can have told of it; then what it told."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.sharing.expected import SETTLES_TICKS
from fleetd.core.sharing.leading import FleetShared, SharingMemory, plan_fleet
from fleetd.core.sharing.report import SILENT, HostReport, report_of
from tests.support.builders.hosts import QUEUES, beat, tick, told
from tests.support.builders.readings import queue

TICK = 5.0
NAME = "default-first"


class Leader:
    """The leader w1 with three instances that serve, and w2. Each call is a tick later."""

    def __init__(self) -> None:
        self.clock = 5_000.0
        self.last: FleetShared | None = None

    def plans(self, busy: int, w2: HostReport) -> int:
        """What w2 is to have, while so many threads are busy. Four are planned to be busy of each instance's five."""
        self.clock += TICK
        others = tuple(beat("w2", i.key) for i in w2.instances)
        queues = (queue("default", busy=busy), *(queue(q) for q in QUEUES[1:]))
        at = tick("w1", 3, queues=queues, others=others)
        memory, previous = (self.last.memory, self.last.plan) if self.last else (SharingMemory(), None)
        self.last = plan_fleet(at, report_of(at, HostMemory()), {"w2": w2}, memory, previous, clock_seconds=self.clock)
        return self.last.plan.desired_instances("w2")[NAME]


def test_what_was_asked_for_is_not_taken_back_before_the_host_can_have_told_of_it() -> None:
    leader = Leader()
    assert leader.plans(29, told("w2", 3)) == 4, "8 are needed: 29 / 4"
    for _ in range(2):  # the need is over; what has just grown stays for a while
        assert leader.plans(9, told("w2", 3)) == 4
    for _ in range(3):
        assert leader.plans(9, told("w2", 4)) == 4


def test_what_a_host_does_not_start_does_not_count_for_ever() -> None:
    leader = Leader()
    assert leader.plans(29, told("w2", 3)) == 4
    planned = [leader.plans(9, told("w2", 3)) for _ in range(SETTLES_TICKS + 2)]
    assert planned == [4] * SETTLES_TICKS + [3, 3]


def test_what_a_host_tells_late_is_not_planned_again() -> None:
    """w2 has grown from 2 to 4, and tells of each a little later. Nothing changes while that is under way."""
    leader = Leader()
    assert leader.plans(29, told("w2", 2)) > 3
    goal = leader.plans(29, told("w2", 2))
    for running in (3, 3, 4, 4):
        assert leader.plans(21, told("w2", running)) == goal


def test_a_host_that_refuses_is_expected_to_have_what_it_tells() -> None:
    leader = Leader()
    assert leader.plans(29, told("w2", 3)) == 4
    full = told("w2", 3)
    full = structs.replace(full, profiles=tuple(structs.replace(p, refused="connections") for p in full.profiles))
    assert leader.plans(9, full) == 3
    leader = Leader()
    assert leader.plans(29, told("w2", 3)) == 4
    assert leader.plans(9, structs.replace(told("w2", 3), held=SILENT)) == 3
