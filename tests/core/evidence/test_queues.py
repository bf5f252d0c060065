"""Queues: an age that is possible, and threads that are known to be at work."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.evidence.queues import Ages, QueueMemory, possible_ages, with_threads
from fleetd.core.model.facts import QueueFacts
from tests.support.builders.readings import process, queue, sidekiq

EPOCH = 1_700_000_000.0


class Queue:
    """Readings of the queue `default`. `enqueued`: the Unix time, from EPOCH, that the oldest job carries."""

    def __init__(self) -> None:
        self.memory: dict[str, QueueMemory] = {}

    def read(self, at: float, enqueued: float | None, *, gone: bool = False) -> Ages:
        jobs = 0 if enqueued is None else 10
        age = 0.0 if enqueued is None else at - enqueued
        facts = sidekiq(queue("default", jobs, age=age), now=EPOCH + at)
        found = possible_ages(facts, frozenset({"default"} if gone else ()), self.memory, at)
        self.memory = found.memory
        return found


def age(ages: Ages) -> float | None:
    return ages.queues["default"].latency_seconds


def test_a_job_is_not_older_than_the_last_reading_of_an_empty_queue() -> None:
    default = Queue()
    default.read(0.0, None)
    found = default.read(5.0, 4.0 - 600.0)
    assert age(found) == pytest.approx(6.0)
    assert [skew.ahead_seconds for skew in found.skews] == [pytest.approx(-595.0)]
    assert age(default.read(30.0, 4.0 - 600.0)) == pytest.approx(31.0), "and it goes on ageing"


def test_a_job_that_was_pushed_back_keeps_its_age() -> None:
    default = Queue()
    default.read(0.0, None)
    found = default.read(5.0, -300.0, gone=True)
    assert (age(found), found.skews) == (305.0, ())
    assert age(default.read(10.0, -300.0)) == 310.0


def test_an_age_that_is_possible_is_left_alone() -> None:
    default = Queue()
    assert age(default.read(0.0, -900.0)) == 900.0, "never seen empty"
    default.read(5.0, None)
    found = default.read(65.0, 6.0)
    assert (age(found), found.skews) == (59.0, ())


def test_a_job_from_the_future_has_waited_since_it_was_first_seen() -> None:
    default = Queue()
    assert age(default.read(0.0, 600.0)) == 0.0
    found = default.read(40.0, 600.0)
    assert age(found) == 40.0
    assert [skew.ahead_seconds for skew in found.skews] == [pytest.approx(600.0)]
    assert age(default.read(45.0, 640.0)) == 0.0, "another job is the oldest now"


def test_an_unknown_age_stays_unknown() -> None:
    facts = sidekiq(structs.replace(queue("default", 3), latency_seconds=None))
    found = possible_ages(facts, frozenset(), {}, 0.0)
    assert found.queues["default"].latency_seconds is None
    assert found.queues["default"].length_jobs == 3


QUEUES = {name: QueueFacts(name=name, length_jobs=0, latency_seconds=0.0) for name in ("default", "pull")}


def test_threads_are_counted_from_the_processes() -> None:
    found = with_threads(QUEUES, (process("", pid=1, busy=3), process("", pid=2, busy=2)), complete=True)
    assert {name: q.busy_threads for name, q in found.items()} == {"default": 5, "pull": 0}


def test_a_process_that_can_t_be_read_whole_makes_only_its_queues_unknown() -> None:
    unread = structs.replace(process("", pid=1, queues="pull"), busy_by_queue=None)
    found = with_threads(QUEUES, (unread, process("", pid=2, busy=2)), complete=True)
    assert {name: q.busy_threads for name, q in found.items()} == {"default": 2, "pull": None}


def test_a_heartbeat_that_can_t_be_read_makes_every_count_unknown() -> None:
    found = with_threads(QUEUES, (process("", pid=2, busy=2),), complete=False)
    assert {q.busy_threads for q in found.values()} == {None}
