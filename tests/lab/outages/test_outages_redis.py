"""Law 3: while Redis is away, empty or full of nonsense nothing moves. Then the fleet goes on by itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.lab.fleet import Fleet
from tests.support.lab.outages import (
    HOLD_SECONDS,
    down,
    fleet_with_work,
    holds,
    local,
    metrics,
    moves,
    runs,
    says_why,
    surge,
    wait_for_local,
)
from tests.support.lab.scheduler_watch import watching

pytestmark = pytest.mark.lab

# Quoted for redis-cli. Half of the fleet serves the queue `default`.
NONSENSE = r"""
SET queue:default x
SADD queues pull "\xff\xfe"
LPUSH queue:pull "{"
LPUSH "queue:\xff\xfe" "\x80"
SADD processes ghost:1:abc "\xc3\x28:2:def" ghost:3:ghi
HSET ghost:1:abc info "{not json" busy nonsense beat never quiet maybe
HSET "\xc3\x28:2:def" info "\xc3\x28" busy 1 beat 1 quiet false
SET ghost:3:ghi "not even a hash"
"""
CLEANING = r"""
DEL queue:default queue:pull "queue:\xff\xfe" ghost:1:abc "\xc3\x28:2:def" ghost:3:ghi
SREM queues "\xff\xfe"
SREM processes ghost:1:abc "\xc3\x28:2:def" ghost:3:ghi
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_with_work() as fleet:
        yield fleet


def test_redis_is_stopped_and_started(fleet: Fleet) -> None:
    begin, end = (partial(act, "redis-server") for act in (fleet.main.stop, fleet.main.start))
    with watching(fleet.main) as watch:
        holds(fleet, {"redis"}, begin, end, during=lambda: says_why(fleet, {"redis"}))
    assert watch.most == 1


def test_redis_comes_back_empty(fleet: Fleet) -> None:
    """For a moment every heartbeat is gone, although every worker lives."""

    def lose_everything() -> None:
        fleet.main.run(["sh", "-c", "rm -rf /var/lib/redis/*"])
        fleet.main.start("redis-server")

    with watching(fleet.main) as watch:
        holds(fleet, {"redis"}, partial(fleet.main.stop, "redis-server"), lose_everything, seconds=1)
    assert watch.most == 1


def test_nonsense_is_named_once_and_moves_nothing(fleet: Fleet) -> None:
    count, before, begun = local(fleet), runs(fleet), time.time()
    assert 'fleetd_queue_latency_seconds{queue="default"}' in metrics(fleet)
    fleet.main.run(["redis-cli"], stdin=NONSENSE)
    try:
        status = fleet.wait(
            "the queue is unknown",
            lambda s: [q.latency_seconds for q in s.queues if q.name == "default"] == [None],
        )
        ticks = status.ticks_total + 2 * HOLD_SECONDS
        status = fleet.wait("a hold window and more has passed", lambda s: s.ticks_total >= ticks)
        assert all(source.ok for source in status.sources)
        assert 'fleetd_queue_latency_seconds{queue="default"}' not in metrics(fleet)
        assert 'fleetd_queue_latency_seconds{queue="push"}' in metrics(fleet)
        shown = fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"]).stdout
        assert "default" in shown
        # fleetd may assume neither that the missing heartbeats are somebody else's nor that none is a scheduler's.
        assert moves(fleet, begun) == []
        assert runs(fleet) == before
        told = Counter(line.message for line in fleet.said() if line.at >= begun)
        for key in ("queue:default", "queue:pull", "ghost:1:abc", "ghost:3:ghi"):
            [times] = [n for message, n in told.items() if message.startswith(f"Redis key {key}: ")]
            assert times == 1
        assert not any("Traceback" in message for message in told)
    finally:
        fleet.main.run(["redis-cli"], stdin=CLEANING)
    assert down(fleet) == set()
    surge(fleet)
    wait_for_local(fleet, count + 1)
    assert before.items() <= runs(fleet).items()
