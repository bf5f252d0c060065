"""Demand, with numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from msgspec import structs

from fleetd.core.demand.needed import DemandMemory, Needed, home, needed_instances, remember
from fleetd.core.demand.service_time import ServiceMemory
from fleetd.core.model.facts import ProcessFacts, SidekiqFacts
from fleetd.core.model.policy_tables import PacePolicy, Policy
from tests.support.builders.readings import process, queue, sidekiq, snapshot, tag, tick_of
from tests.support.world.ports import policy, strict, weighted

POLICY = policy()


def after(policy_: Policy, *readings: tuple[float, int, int, int]) -> DemandMemory:
    """Memory after readings of (at, busy on default, busy in total, processed in total)."""
    memory = DemandMemory()
    for at, busy, all_busy, total in readings:
        beats = (process(tag(1), busy=all_busy),)
        memory = remember(policy_, memory, sidekiq(queue("default", busy=busy), processes=beats, total=total), at)
    return memory


def needed(rules: Policy, reading: SidekiqFacts, memory: DemandMemory) -> Needed:
    """What is needed when systemd can't be read, so that running instances don't count."""
    return needed_instances(tick_of(rules, snapshot(rules, redis=reading)), reading, memory)


def test_the_first_reading_is_not_averaged() -> None:
    assert after(POLICY, (100.0, 4, 4, 0)).busy_mean_threads == {"default": 4.0}


def test_the_mean_of_busy_threads_moves_by_its_time_constant() -> None:
    # One time constant (20 s) later: 1/e of the old, the rest of the new.
    memory = after(POLICY, (100.0, 4, 4, 0), (120.0, 0, 0, 0))
    assert memory.busy_mean_threads["default"] == pytest.approx(4.0 / math.e)


def test_the_same_reading_twice_at_one_time_changes_nothing() -> None:
    once = after(POLICY, (100.0, 4, 4, 50), (105.0, 2, 2, 70))
    assert after(POLICY, (100.0, 4, 4, 50), (105.0, 2, 2, 70), (105.0, 2, 2, 70)) == once


def test_a_clock_that_steps_back_restarts_the_means() -> None:
    assert after(POLICY, (100.0, 4, 4, 0), (50.0, 1, 1, 0)).busy_mean_threads == {"default": 1.0}


def test_a_thousand_queue_names_leave_no_trace() -> None:
    reading = sidekiq(*(queue(f"q{i}", busy=1) for i in range(1000)), queue("default", busy=1))
    assert set(remember(POLICY, DemandMemory(), reading, 1.0).busy_mean_threads) == {"default"}


@pytest.mark.parametrize(
    ("name", "age", "catch_up_seconds"),
    # The target minus the boot time and minus how long the oldest job has waited; at least 10 s.
    [
        ("default", 0.0, 10.0),
        ("push", 0.0, 10.0),
        ("mailers", 0.0, 40.0),
        ("pull", 0.0, 280.0),
        ("pull", 200.0, 80.0),
    ],
)
def test_enough_are_needed_to_clear_a_backlog_before_it_is_late(name: str, age: float, catch_up_seconds: float) -> None:
    # 1000 jobs of 0.3 s are 300 thread seconds.
    memory = DemandMemory(service=ServiceMemory(seconds={name: 0.3}))
    found = needed(POLICY, sidekiq(queue(name, 1000, age=age)), memory)
    assert found.queue_threads[name] == pytest.approx(300.0 / catch_up_seconds)


def test_a_late_queue_needs_more_than_its_backlog_alone() -> None:
    memory = DemandMemory(service=ServiceMemory(seconds={"default": 0.3}))
    in_time, late, very = (
        needed(POLICY, sidekiq(queue("default", 100, age=age)), memory).queue_threads["default"]
        for age in (5.0, 10.0, 500.0)
    )
    assert in_time == pytest.approx(3.0)
    assert late == pytest.approx(2 * in_time)
    assert very == pytest.approx(4 * in_time)


def test_load_alone_needs_instances_at_the_planned_utilisation() -> None:
    # 9 busy threads. An instance of 5 threads at 80 % carries 4: 9/4 = 2.25, so 3.
    memory = after(POLICY, (100.0, 9, 9, 0))
    found = needed(POLICY, sidekiq(queue("default")), memory)
    assert found.profile_threads == {"default-first": 9.0}
    assert found.instances == {"default-first": 3}


def test_load_that_fits_exactly_needs_no_further_instance() -> None:
    assert needed(POLICY, sidekiq(queue("default")), after(POLICY, (1.0, 8, 8, 0))).instances == {"default-first": 2}


def test_without_work_nothing_is_needed() -> None:
    assert needed(POLICY, sidekiq(queue("default")), DemandMemory()).instances == {"default-first": 0}


def test_an_unreadable_queue_keeps_its_load_and_is_named() -> None:
    memory = after(POLICY, (100.0, 9, 9, 0))
    found = needed(POLICY, sidekiq(queue("push")), memory)
    assert found.queue_threads["default"] == 9.0
    assert "default" in found.unread_queues
    assert "push" not in found.unread_queues


def test_the_home_of_a_queue_is_where_fewest_others_come_before_it() -> None:
    pull_first = strict("pull-first", "5-6", queues="pull default")
    both = policy(strict(numbers="1-4"), pull_first)
    assert home(both, "default").name == "default-first"
    assert home(both, "pull").name == "pull-first"
    assert home(policy(strict(numbers="1-4"), strict("b", "5-6")), "default").name == "default-first"  # a tie
    # With weights 4:2:1 default has 4/7; as third in the strict order it has 1/3.
    third = policy(strict("s", "1-2", queues="push pull default"), weighted())
    assert home(third, "default").name == "weighted"


def test_foreign_processes_carry_their_share_of_the_load() -> None:
    # A stock unit with 5 threads carries 4 at 80 %. Ours need only carry the other 5 of 9.
    memory = after(POLICY, (100.0, 9, 9, 0))
    stock = process("", queues="default scheduler", hostname="main")
    found = needed(POLICY, sidekiq(queue("default"), processes=(stock,)), memory)
    assert found.profile_threads["default-first"] == pytest.approx(5.0)


@pytest.mark.parametrize(
    "bystander",
    [
        process("", queues="default", quiet=True),
        structs.replace(process("", queues="default"), stalled=True),
        process("", queues="scheduler"),
        process("", queues="other"),
        process(tag(1), queues="default"),
    ],
    ids=["quiet", "stalled", "scheduler only", "other queues", "ours"],
)
def test_bystanders_carry_nothing(bystander: ProcessFacts) -> None:
    memory = after(POLICY, (100.0, 9, 9, 0))
    reading = sidekiq(queue("default"), processes=(bystander,))
    assert needed(POLICY, reading, memory).profile_threads["default-first"] == pytest.approx(9.0)


def test_load_beyond_a_profiles_maximum_overflows_into_another() -> None:
    # 14 threads are needed. weighted serves default too: 4 of its threads idle in its min. Of the 10 that are left it
    # carries 2, because default-first carries no more than 2 × 4.
    both = policy(strict(numbers="1-2"), weighted(numbers="3-6"))
    found = needed(both, sidekiq(queue("default")), after(both, (100.0, 14, 14, 0)))
    assert found.instances == {"default-first": 3, "weighted": 2}
    assert found.profile_threads["weighted"] == pytest.approx(6.0)


def test_the_planned_utilisation_comes_from_the_policy() -> None:
    full = policy(pace=PacePolicy(utilisation=1.0))
    assert needed(full, sidekiq(queue("default")), after(full, (1.0, 10, 10, 0))).instances == {"default-first": 2}


def test_overflow_goes_to_profiles_that_serve_the_queue_by_importance() -> None:
    # pull needs 100 threads. 4 idle in the other's min. Its own profile carries 4 (1 × 5 × 0.8), and the more
    # important one carries as many more as it can.
    rules = policy(strict("d", "1-8", queues="default pull"), strict("p", "11-11", queues="pull"))
    found = needed(rules, sidekiq(queue("pull")), DemandMemory(busy_mean_threads={"pull": 100.0}))
    assert found.instances == {"d": 8, "p": 24}
    assert found.profile_threads == {"d": 32.0, "p": 96.0}
    small = needed(rules, sidekiq(queue("pull")), DemandMemory(busy_mean_threads={"pull": 10.0}))
    assert small.instances == {"d": 2, "p": 2}


def test_idle_threads_in_anothers_min_are_used_before_the_home_grows() -> None:
    both = policy(strict(numbers="1-4"), strict("push-first", "5-8", queues="push default"))
    load = DemandMemory(busy_mean_threads={"default": 6.0, "push": 1.0})
    assert needed(both, sidekiq(), load).profile_threads == {"default-first": 4.0, "push-first": 3.0}
    apart = policy(strict(numbers="1-4"), strict("push-only", "5-8", queues="push"))
    assert needed(apart, sidekiq(), load).profile_threads == {"default-first": 6.0, "push-only": 1.0}


def test_a_falling_load_counts_at_once_and_the_slow_mean_lags_behind() -> None:
    rules = policy()
    memory = after(rules, (100.0, 20, 20, 0), (110.0, 2, 2, 0))
    found = needed(rules, sidekiq(queue("default")), memory)
    assert found.profile_threads["default-first"] < found.steady_threads["default-first"] < 20.0


def test_while_a_heartbeat_is_unreadable_no_load_is_forgotten() -> None:
    rules = policy()
    before = DemandMemory(at_seconds=100.0, busy_mean_threads={"default": 10.0})
    garbled = sidekiq(queue("default", busy=0), total=900, complete=False)
    memory = remember(rules, before, garbled, 105.0)
    assert memory.busy_mean_threads["default"] == 10.0
    assert memory.service.service_seconds("default") == before.service.service_seconds("default")
    assert not needed(rules, garbled, memory).complete


def test_threads_that_work_off_a_backlog_are_not_load() -> None:
    # Ten threads do 33 jobs of 0.3 s a second. The backlog shrinks by 100 in 5 s: 20 a second, the work of 6 threads.
    memory = DemandMemory(
        at_seconds=100.0, waiting_jobs={"default": 500}, service=ServiceMemory(seconds={"default": 0.3})
    )
    found = remember(policy(), memory, sidekiq(queue("default", 400, busy=10)), 105.0)
    assert found.busy_mean_threads["default"] == pytest.approx(4.0)


def test_a_queue_that_earlier_ones_starve_keeps_its_load() -> None:
    memory = DemandMemory(
        at_seconds=100.0,
        busy_mean_threads={"push": 3.0},
        waiting_jobs={"push": 500},
        service=ServiceMemory(seconds={"push": 0.3}),
    )
    found = remember(policy(), memory, sidekiq(queue("push", 600, busy=0)), 105.0)
    assert found.busy_mean_threads["push"] == pytest.approx(3.0)


def test_a_sudden_jump_is_not_an_arrival_rate() -> None:
    memory = DemandMemory(
        at_seconds=100.0,
        busy_mean_threads={"push": 3.0},
        waiting_jobs={"push": 0},
        service=ServiceMemory(seconds={"push": 0.3}),
    )
    found = remember(policy(), memory, sidekiq(queue("push", 50_000, busy=3)), 105.0)
    assert found.busy_mean_threads["push"] <= 6.0
