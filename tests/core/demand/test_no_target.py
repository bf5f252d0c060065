"""A queue that may wait for ever: target "none"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.demand.backlog import Capacity, Waiting, hardest, threads_in_time
from fleetd.core.demand.needed import DemandMemory, Needed, needed_instances, remember
from fleetd.core.model.facts import QueueFacts
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.plan import FleetMemory
from tests.support.builders.decisions import NOW, decide, watched
from tests.support.builders.readings import fleet, process, queue, sidekiq, snapshot, tag, tick_of
from tests.support.world.ports import policy, strict, weighted

OTHERS = ("default", "push", "ingress", "mailers", "fasp")
FIVE_MILLION = 5_000_000


def rules(*profiles: object, queues: tuple[str, ...] = ("pull",)) -> Policy:
    base = policy(*profiles)  # type: ignore[arg-type]
    return structs.replace(base, targets_seconds={**base.targets_seconds, **dict.fromkeys(queues, None)})


def needed(the_rules: Policy, *queues: QueueFacts, memory: DemandMemory | None = None, running: int = 2) -> Needed:
    units, beats = fleet(running)
    read = sidekiq(*queues, processes=beats)
    tick = tick_of(the_rules, snapshot(the_rules, redis=read, units=units))
    return needed_instances(tick, read, memory or DemandMemory())


LOADED = DemandMemory(busy_mean_threads={"pull": 3.0, "default": 4.0}, steady_mean_threads={"pull": 2.0})


@given(length=st.integers(0, 10**7), age=st.one_of(st.none(), st.floats(0.0, 1e9)), waiting=st.integers(0, 500))
def test_what_waits_in_it_never_changes_what_is_needed(length: int, age: float | None, waiting: int) -> None:
    for profiles in ((strict(),), (strict(queues="pull default push ingress mailers fasp"),)):
        others = [queue(name) for name in OTHERS[1:]]
        facts = queue("default", waiting, age=1.0)
        pull = QueueFacts(name="pull", length_jobs=length, latency_seconds=age, busy_threads=3)
        found = needed(rules(*profiles), facts, *others, pull, memory=LOADED)
        alone = needed(rules(*profiles), facts, *others, queue("pull", busy=3), memory=LOADED)
        assert found.instances == alone.instances
        assert found.profile_threads == alone.profile_threads
        assert (found.late_queues, found.unread_queues) == (alone.late_queues, frozenset())


def test_its_busy_threads_count_without_a_spare_share() -> None:
    memory = DemandMemory(busy_mean_threads={"pull": 10.0}, steady_mean_threads={"pull": 10.0})
    empty = [queue(name) for name in OTHERS]
    assert needed(rules(), *empty, queue("pull", busy=10), memory=memory).instances == {"default-first": 2}
    assert needed(policy(), *empty, queue("pull", busy=10), memory=memory).instances == {"default-first": 3}


def test_busy_threads_must_be_known_even_so() -> None:
    unread = QueueFacts(name="pull", length_jobs=5, latency_seconds=1.0)
    assert needed(rules(), *map(queue, OTHERS), unread).unread_queues == {"pull"}


def test_a_growing_backlog_is_no_load_and_a_shrinking_one_is_subtracted() -> None:
    def mean(*lengths: int) -> float:
        memory = DemandMemory()
        for place, length in enumerate(lengths):
            reading = sidekiq(queue("pull", length, busy=5), processes=(process(tag(1), busy=5),))
            memory = remember(rules(), memory, reading, 100.0 + 5.0 * place)
        return memory.busy_mean_threads["pull"]

    assert mean(*range(0, 10_000, 500)) == pytest.approx(5.0)
    assert mean(*range(10_000, 0, -500)) < 0.5, "all threads work off what waited"


def test_full_of_its_jobs_the_fleet_neither_grows_nor_is_kept_from_shrinking() -> None:
    pull = queue("pull", FIVE_MILLION, busy=15, age=86_400.0)
    units, beats = fleet(3, busy=5)
    read = sidekiq(*map(queue, OTHERS), pull, processes=beats)
    busy = DemandMemory(at_seconds=NOW - 5.0, busy_mean_threads={"pull": 15.0}, steady_mean_threads={"pull": 15.0})
    memory = structs.replace(watched(1), demand=structs.replace(busy, waiting_jobs={"pull": FIVE_MILLION - 100}))
    plan = decide(rules(), running=3, redis=read, units=units, memory=memory).plan.profiles["w1"]["default-first"]
    assert plan.admitted_instances == 3
    # A queue that is late for hours, but whose work is nearly all done by what runs, lets go; with a target it holds.
    idle = structs.replace(memory, demand=DemandMemory(at_seconds=NOW - 5.0))
    few = sidekiq(*map(queue, OTHERS), queue("pull", 1, age=86_400.0), processes=beats)
    free = decide(rules(), running=3, redis=few, units=units, memory=idle)
    assert free.plan.profiles["w1"]["default-first"].admitted_instances == 1
    held = decide(policy(), running=3, redis=few, units=units, memory=idle)
    assert held.plan.profiles["w1"]["default-first"].admitted_instances == 3
    assert ClampCode.HOLD_WINDOW in {clamp.code for clamp in held.clamps}


def test_it_takes_its_share_of_a_weighted_order_and_is_never_the_reason() -> None:
    profile = weighted(weights="default:1 pull:1")
    late = Waiting(
        queue="default", load_threads=0.0, work_seconds=400.0, left_seconds=1.0, service_seconds=0.2, jobs=2000
    )
    pull = Waiting(
        queue="pull",
        load_threads=0.0,
        work_seconds=0.0,
        left_seconds=float("inf"),
        service_seconds=0.2,
        jobs=FIVE_MILLION,
    )
    capacity = Capacity(serving_threads=5.0)
    alone, beside = (threads_in_time(profile, waiting, capacity) for waiting in ([late], [late, pull]))
    assert beside > alone, "half of the threads are at work on pull"
    assert threads_in_time(profile, [pull], capacity) == 0.0
    found = hardest(profile, [late, pull], capacity)
    assert found is not None
    assert found[1].queue == "default"


def test_a_queue_of_which_nothing_was_remembered_needs_nothing() -> None:
    decision = decide(
        rules(), redis=sidekiq(*map(queue, OTHERS), queue("pull", FIVE_MILLION, age=9e5)), memory=FleetMemory()
    )
    assert decision.needed is not None
    assert decision.needed.instances == {"default-first": 0}
