"""Laws 1 and 2 over three hosts, by what observers saw: a frozen leader, a failover, and more wanted than fits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lab.faults import redis
from lab.jobs import records
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet_faults import laws
from tests.support.lab.many_hosts import (
    MIN,
    TAKEOVER_SECONDS,
    TICK_SECONDS,
    Many,
    counts,
    jobs_for,
    started,
)

pytestmark = pytest.mark.lab

MAX_CONNECTIONS = 64  # the minimum and some instances more, and not all that the hosts have numbers for
CRON_SECONDS = 2.0
MOVES_SECONDS = 30.0


@pytest.fixture(scope="module")
def many() -> Iterator[Many]:
    with started(max_connections=MAX_CONNECTIONS, cron_seconds=CRON_SECONDS) as many:
        many.wait("each fleetd sees one", lambda told: [s.scheduler.processes for s in told.values()] == [1] * 3)
        yield many


def test_a_failover_in_the_second_after_a_start(many: Many) -> None:
    redis.wait_ready(many.hosts)
    begun = time.monotonic()
    known = len(many.observer.timeline().starts())
    jobs = many.enqueue("default", jobs_for(instances=5, seconds=25.0))
    many.see("an instance starts", lambda seen: len(seen.starts()) > known)
    done = redis.fail_over(many.hosts)
    moved = time.monotonic() - (time.time() - done.promoted_at)
    more = many.enqueue("default", jobs_for(instances=7, seconds=25.0))
    many.see(
        "an instance starts after the failover",
        lambda seen: any(start.not_before > moved for start in seen.starts()),
        timeout=MOVES_SECONDS + laws.SLACK_SECONDS,
    )
    tally = many.settled([done.window], timeout=2 * PATIENCE_SECONDS)
    assert (tally.lost, tally.repeated) == ((), ())
    assert tally.done + len(tally.excused) == tally.enqueued >= len(jobs) + len(more)
    seen = many.observer.timeline().since(begun)
    laws.within_budget(seen, many, MAX_CONNECTIONS)
    laws.no_start_beside_another(seen)
    assert seen.together(frozen=True) == []


def test_more_wanted_at_once_on_all_hosts_than_the_database_allows(many: Many) -> None:
    begun = time.monotonic()
    many.enqueue("default", jobs_for(instances=20, seconds=12.0))
    many.see("the fleet grows", lambda seen: sum(counts(seen, many)) > 3 * MIN)
    tally = many.settled(timeout=2 * PATIENCE_SECONDS)
    assert (tally.lost, tally.repeated) == ((), ())
    laws.within_budget(many.observer.timeline().since(begun), many, MAX_CONNECTIONS)


def test_a_leader_frozen_past_lease_and_takeover_and_thawed(many: Many) -> None:
    [name] = many.observer.timeline().scheduler_hosts()
    leader = many.hosts.lab.hosts[name]
    frozen = time.monotonic()
    leader.freeze()
    seen = many.see(
        "another host takes over",
        lambda seen: len(seen.scheduler_hosts()) == 2,
        timeout=TAKEOVER_SECONDS + PATIENCE_SECONDS,
    )
    takeover = seen.scheduler_starts()[-1]
    assert takeover.process.host != name
    assert takeover.seen - frozen >= TAKEOVER_SECONDS
    many.pass_ticks(5)  # nobody else takes over as well
    thawed, thawed_at = time.monotonic(), time.time()
    leader.thaw()
    many.see("one is left", lambda seen: len(seen.scheduler_hosts()) == 1)
    many.pass_ticks(5)
    seen = many.observer.timeline().since(frozen)
    laws.no_start_beside_another(seen)
    assert len(seen.scheduler_starts()) == 1
    assert all(span.not_after >= thawed for span in seen.together())
    # A surplus is told to be quiet within two ticks. It lives on until two heartbeats have said that it is idle.
    quiet_by = thawed_at + 2 * TICK_SECONDS + laws.SLACK_SECONDS
    [owner] = many.observer.timeline().scheduler_hosts()
    pushes = [(host, at - thawed_at) for at, _, host, _ in records.cron_pushes(many.workers) if at > thawed_at]
    assert [push for push in pushes if push[0] != owner and push[1] > quiet_by - thawed_at] == [], many.story()
    assert max(span.seconds_max for span in seen.together()) <= laws.SURPLUS_SECONDS
    assert len(many.observer.timeline().scheduler_hosts()) == 1
    many.see("each host has its min", lambda seen: all(count >= MIN for count in counts(seen, many)))


@pytest.mark.long
def test_the_fleet_grows_again_after_a_flush(many: Many) -> None:
    window = redis.flush(many.hosts)
    many.pass_ticks(20)
    many.enqueue("default", jobs_for(instances=12, seconds=30.0))
    many.see("the fleet grows again", lambda seen: sum(counts(seen, many)) > 3 * MIN)
    tally = many.settled([window])
    assert (tally.lost, tally.repeated) == ((), ())
