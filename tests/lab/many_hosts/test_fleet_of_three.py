"""Three hosts with a fleetd each: their min, one scheduler for all, and what a flush of Redis must leave alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.faults import redis
from tests.support.lab.many_hosts import MIN, TAKEOVER_SECONDS, Many, booted, counts, jobs_for, start_all

pytestmark = pytest.mark.lab

FEW_TICKS = 10


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    with booted() as many:
        yield many


def test_three_hosts_come_up_with_their_min_and_one_scheduler(many: Many) -> None:
    begun = start_all(many)
    many.see("each host has its min", lambda seen: counts(seen, many) == [MIN] * 3)
    many.see("a scheduler lives", lambda seen: seen.scheduler_hosts() != [])
    many.wait("each fleetd sees it", lambda told: [s.scheduler.processes for s in told.values()] == [1] * 3)
    many.pass_ticks(FEW_TICKS)
    seen = many.observer.timeline()
    [start] = seen.scheduler_starts()
    assert start.process.host == "w1"
    assert start.seen - begun <= TAKEOVER_SECONDS
    assert seen.together(frozen=True) == []
    assert counts(seen, many) == [MIN] * 3


def test_a_flush_of_redis_ends_and_doubles_nobody(many: Many) -> None:
    before = many.observer.timeline()
    window = redis.flush(many.hosts)
    many.pass_ticks(2 * FEW_TICKS)  # every heartbeat is back within 5 s
    seen = many.observer.timeline()
    assert {one.pid for one in before.looks[-1].alive} <= {one.pid for one in seen.looks[-1].alive}
    assert seen.together(frozen=True) == []
    assert len(seen.scheduler_starts()) == 1
    many.enqueue("default", jobs_for(instances=3, seconds=1.0))
    tally = many.settled([window])
    assert (tally.lost, tally.repeated) == ((), ())
