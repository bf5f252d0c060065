"""Why this many are needed: the queue that needs them, with its numbers, and what reduced the count.

One strict profile of @1 to @6, 5 threads, min 1. In each instance 4 threads are planned to be busy.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.demand.backlog import Capacity, Waiting, hardest, threads_in_time
from fleetd.core.model.facts import QueueFacts
from fleetd.core.model.reasons.counts import AtMax, AtMin, KeepsBusy, OverflowsHere, QueueNeeds, Wanted
from fleetd.core.plan import FleetDecision
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import decide, watched
from tests.support.builders.readings import fleet, queue, sidekiq
from tests.support.world.ports import policy, strict, weighted

LOCAL = strict(queues="default push pull")


def wanted(decision: FleetDecision, profile: str = "default-first") -> Wanted:
    return decision.wanted[profile]


def waits(*queues: QueueFacts, running: int = 1, high: int = 6, low: int = 1) -> FleetDecision:
    """@1 to @`running`, with this much in these queues and nothing in the others."""
    _, beats = fleet(running)
    names = {q.name for q in queues}
    others = (queue(name) for name in ("default", "push", "ingress", "mailers", "pull", "fasp"))
    redis = sidekiq(*queues, *(q for q in others if q.name not in names), processes=beats)
    return decide(policy(strict(low=low, high=high)), running=running, redis=redis)


def test_the_queue_that_waits_is_named_with_its_numbers() -> None:
    why = wanted(waits(queue("push", 5000, age=12.0)))
    assert (why.admitted_instances, why.running_instances, why.clamp) == (6, 1, AtMax(max_instances=6))
    need = why.need
    assert isinstance(need, QueueNeeds)
    assert (need.queue, need.length_jobs) == ("push", 5000)
    assert (need.latency_seconds, need.target_seconds) == (12.0, 30.0)
    assert need.lasts_seconds is not None
    said = sentence(why)
    assert said.startswith("6 wanted, 1 runs: push: 5,000 jobs wait, the oldest for 12 s (target 30 s); ")
    assert f"what runs would take {need.lasts_seconds:,.0f} s" in said
    assert said.endswith(", but max is 6")


def test_an_unknown_age_is_not_called_zero() -> None:
    need = wanted(waits(QueueFacts(name="push", length_jobs=5000, latency_seconds=None, busy_threads=0))).need
    assert isinstance(need, QueueNeeds)
    assert need.latency_seconds is None
    assert sentence(need).startswith("push: 5,000 jobs wait, it is unknown for how long (target 30 s); ")


def test_of_several_queues_the_one_that_needs_most_is_named() -> None:
    pushes = wanted(waits(queue("push", 5000, age=12.0), queue("pull", 3, age=1.0))).need
    assert isinstance(pushes, QueueNeeds)
    assert pushes.queue == "push"
    pulls = wanted(waits(queue("push", 1), queue("pull", 50_000, age=290.0))).need
    assert isinstance(pulls, QueueNeeds)
    assert pulls.queue == "pull"


def test_a_queue_that_waits_behind_a_longer_one_is_not_named_alone() -> None:
    need = wanted(waits(queue("default", 5000, age=28.0), queue("push", 33, age=28.0))).need
    assert isinstance(need, QueueNeeds)
    assert sentence(need).startswith("push: 33 jobs wait behind 5,000 of default, the oldest for 28 s (target 30 s); ")


def test_when_nothing_waits_the_queues_that_keep_threads_busy_are_named() -> None:
    why = wanted(waits(queue("default", busy=12), queue("push", busy=5), queue("pull", busy=1)))
    assert why == Wanted(
        admitted_instances=5,
        running_instances=1,
        needed_instances=5,
        need=KeepsBusy(threads=(("default", 12.0), ("push", 5.0)), rest_threads=1.0),
        clamp=None,
    )
    assert sentence(why) == "5 wanted, 1 runs: threads kept busy: default 12, push 5, others 1"


def test_going_down_says_what_is_left_to_do() -> None:
    why = wanted(decide(policy(), running=4, busy=2, memory=watched(2)))
    assert (why.admitted_instances, why.running_instances, why.needed_instances) == (2, 4, 1)
    assert why.need == KeepsBusy(threads=(("default", 2.0),), rest_threads=0.0)
    assert why.clamp is not None
    assert sentence(why).startswith("2 wanted, 4 run: threads kept busy: default 2; that needs 1 instance, but ")


def test_min_and_an_unknown_latency_are_given_as_causes() -> None:
    idle = wanted(waits(low=3))
    assert idle.need == KeepsBusy(threads=(), rest_threads=0.0)
    assert (idle.needed_instances, idle.clamp) == (0, AtMin(min_instances=3))
    assert sentence(idle).endswith("keep hardly a thread busy; that needs 0 instances, but min is 3")
    blind = wanted(decide(policy(strict(low=3)), no_redis=True))
    assert (blind.need, blind.clamp) == (None, AtMin(min_instances=3))
    assert sentence(blind) == "3 wanted, 1 runs: min is 3"


def test_overflow_names_where_it_comes_from() -> None:
    rules = policy(strict(high=1), weighted(weights="default:4 push:2 pull:1"))
    need = wanted(decide(rules, busy=20), "weighted").need
    assert need == OverflowsHere(threads=16.0, from_profiles=("default-first",))
    assert sentence(need) == "default-first can't carry all of its work: 16 threads of it come here"


def test_no_cause_is_given_while_the_running_count_is_right() -> None:
    assert decide(policy(), running=4, busy=16).wanted == {}


def waiting(name: str, work: float, *, load: float = 0.0) -> Waiting:
    return Waiting(queue=name, load_threads=load, work_seconds=work, left_seconds=20.0, service_seconds=0.2)


def test_the_hardest_queue_is_named_with_the_time_that_it_would_take() -> None:
    # 1 of 5 threads is for new work, so 400 thread-seconds take 100 s. With 5 more from 10 s on: (400 + 50) / 9.
    found = hardest(LOCAL, [waiting("default", 400.0, load=1.0)], Capacity(serving_threads=5.0))
    assert found is not None
    assert found[2] == pytest.approx(100.0)
    boots = Capacity(serving_threads=5.0, coming=((5.0, 10.0),))
    found = hardest(LOCAL, [waiting("default", 400.0, load=1.0)], boots)
    assert found is not None
    assert found[2] == pytest.approx(50.0)
    assert hardest(LOCAL, [waiting("default", 10.0)], Capacity(serving_threads=5.0)) is None
    for_ever = hardest(LOCAL, [waiting("default", 400.0, load=5.0)], Capacity(serving_threads=5.0))
    assert for_ever is not None
    assert math.isinf(for_ever[2])


@given(work=st.lists(st.floats(0, 1e5), min_size=3, max_size=3), threads=st.floats(0, 100))
def test_the_hardest_queue_is_the_one_that_decides_the_threads(work: list[float], threads: float) -> None:
    queues = [waiting(q, w) for (q, _), w in zip(LOCAL.queues, work, strict=True)]
    capacity = Capacity(serving_threads=threads)
    found = hardest(LOCAL, queues, capacity)
    assert threads_in_time(LOCAL, queues, capacity) == (found[0] if found else 0.0)
