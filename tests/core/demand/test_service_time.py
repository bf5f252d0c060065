"""Service times per queue, learnt from busy threads and one counter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.demand.service_time import (
    PRIOR_SECONDS,
    SERVICE_SECONDS_RANGE,
    ServiceMemory,
    remember_service,
)
from fleetd.core.model.facts import QueueFacts
from tests.support.builders.readings import queue, sidekiq
from tests.support.storm.storm import steady

QUEUES = frozenset({"default", "push"})


class Counter:
    """Ticks of 5 s in which this many threads are busy on each queue, and jobs take their true time."""

    def __init__(self, true: dict[str, float]) -> None:
        self.true = true
        self.memory = ServiceMemory()
        self.now, self.total = 1000.0, 0.0

    def run(self, seconds: float, **busy: int) -> ServiceMemory:
        for _ in range(int(seconds / 5)):
            facts = sidekiq(*(queue(q, busy=n) for q, n in busy.items()), total=int(self.total))
            self.memory = remember_service(self.memory, facts, QUEUES, self.now)
            self.now += 5.0
            self.total += sum(5.0 * n / self.true[q] for q, n in busy.items())
        return self.memory

    def learnt(self, name: str) -> float:
        return self.memory.service_seconds(name)


def test_priors_hold_until_something_is_seen() -> None:
    assert ServiceMemory().service_seconds("push") == PRIOR_SECONDS["push"]
    assert ServiceMemory().service_seconds("something") == 0.3


def test_one_queue_alone_is_learnt_within_two_minutes() -> None:
    counter = Counter({"push": 1.6})
    counter.run(120.0, push=20)
    assert counter.learnt("push") == pytest.approx(1.6, rel=0.15)
    assert counter.learnt("default") == PRIOR_SECONDS["default"]


def test_in_a_surge_the_surging_queue_is_learnt_and_the_others_hardly_move() -> None:
    counter = Counter({"default": 0.15, "push": 1.2})
    counter.run(300.0, default=10, push=1)
    before = counter.learnt("default")
    counter.run(180.0, default=10, push=90)
    assert counter.learnt("push") == pytest.approx(1.2, rel=0.3)
    assert counter.learnt("default") == pytest.approx(before, rel=0.5)


def test_the_expected_sum_is_right_even_if_its_parts_cannot_be_told_apart() -> None:
    counter = Counter({"default": 0.05, "push": 0.9})
    counter.run(600.0, default=10, push=10)
    expected = 10 / counter.learnt("default") + 10 / counter.learnt("push")
    assert expected == pytest.approx(10 / 0.05 + 10 / 0.9, rel=0.05)


def test_a_counter_that_swings_with_the_heartbeats_is_averaged() -> None:
    chance, memory, now, total = random.Random(3), ServiceMemory(), 1000.0, 0.0
    for tick in range(200):
        facts = sidekiq(queue("push", busy=20), total=int(total))
        memory = remember_service(memory, facts, QUEUES, now)
        now += 5.0
        total += 5.0 * 20 / 0.5 * chance.choice((0.0, 2.0) if tick % 2 else (1.0,))  # nothing yet, or twice as much
    assert memory.service_seconds("push") == pytest.approx(0.5, rel=0.5)


def test_an_idle_night_a_gap_and_a_counter_reset_teach_nothing() -> None:
    idle = Counter({"default": 0.1})
    idle.run(3600.0, default=0)
    assert idle.memory.seconds == {}
    gap = Counter({"default": 0.1})
    gap.run(20.0, default=5)
    gap.now += 3600.0
    gap.total += 100_000
    gap.run(10.0, default=0)
    assert gap.memory.seconds == {}
    back = Counter({"default": 0.1})
    back.total = 5000.0
    back.run(20.0, default=5)
    back.total = 0.0
    back.run(20.0, default=5)
    assert back.memory.seconds == {}


def test_while_the_busy_threads_of_a_queue_are_unknown_nothing_is_learnt() -> None:
    counter = Counter({"default": 0.1, "push": 0.1})
    for _ in range(100):
        counter.run(5.0, default=5, push=50)
        read = sidekiq(queue("default", busy=5), QueueFacts(name="push", length_jobs=9, latency_seconds=1.0), total=0)
        facts = structs.replace(read, processed_jobs_total=int(counter.total))
        counter.memory = remember_service(counter.memory, facts, QUEUES, counter.now)
    assert counter.memory.seconds == {}


def test_names_that_are_no_longer_watched_are_forgotten() -> None:
    counter = Counter({"default": 0.1, "push": 0.1})
    counter.run(60.0, default=5, push=5)
    assert set(counter.memory.seconds) == {"default", "push"}
    memory = counter.memory
    for n in range(1000):  # a reload each time
        facts = sidekiq(queue(f"q{n}", busy=20), total=int(counter.total) + 5000 * n)
        memory = remember_service(memory, facts, frozenset({f"q{n}", "default"}), counter.now + 5.0 * n)
        assert set(memory.seconds) | set(memory.variances) <= {"", "default", f"q{n}"}
        assert len(memory.busy_thread_seconds) <= 3


def test_jobs_of_other_queues_count_but_only_watched_ones_are_remembered() -> None:
    counter = Counter({"default": 0.1, "cron": 0.1})
    counter.run(300.0, default=5, cron=5)
    assert set(counter.memory.seconds) <= {"default", ""}


@steady(100)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 100_000), st.floats(0.0, 100.0)),
        max_size=40,
    )
)
def test_estimates_stay_in_their_range_whatever_is_read(steps: list[tuple[int, int, int, float]]) -> None:
    memory, now = ServiceMemory(), 0.0
    for default, push, total, seconds in steps:
        now += seconds
        facts = sidekiq(queue("default", busy=default), queue("push", busy=push), total=total)
        memory = remember_service(memory, facts, QUEUES, now)
        for value in memory.seconds.values():
            assert SERVICE_SECONDS_RANGE[0] <= value <= SERVICE_SECONDS_RANGE[1]


def test_a_quiet_mix_keeps_what_was_learnt_in_a_surge() -> None:
    counter = Counter({"default": 0.15, "push": 1.2})
    counter.run(300.0, default=1, push=90)
    learnt = counter.learnt("push")
    assert learnt == pytest.approx(1.2, rel=0.15)
    chance = random.Random(5)
    for _ in range(720):  # an hour of single busy threads that happen to be seen
        counter.run(5.0, default=chance.choice((2, 3, 4)), push=chance.choice((0, 1, 2)))
    assert counter.learnt("push") == pytest.approx(learnt, rel=0.3)


def test_an_uncertain_service_time_is_taken_as_longer_a_certain_one_as_it_is() -> None:
    counter = Counter({"push": 0.8})
    assert counter.memory.careful_seconds("push") > 1.9 * counter.learnt("push")
    counter.run(300.0, push=40)
    assert counter.memory.careful_seconds("push") < 1.2 * counter.learnt("push")
