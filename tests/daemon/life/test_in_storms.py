"""The life of instances in random storms: all states, all orders, all rollouts."""

from __future__ import annotations

import random

from hypothesis import given

from fleetd.core.instances.host_memory import RolloutPhase
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import ConnectionPolicy, PacePolicy, Policy, SchedulerPolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.units import BootTooLong, DiedTooOften, NeverHeardOf, ReplaceCause
from tests.support.laws.instance_laws import (
    HoldsAreKept,
    NamedStates,
    NoneIsUndrainable,
    OneReplacedAtATime,
    OrdersExpire,
    PushedBackOnce,
    RetriesAreBounded,
    RollKeepsCapacity,
    StartsNothingWhileHeld,
)
from tests.support.laws.laws import (
    Bounded,
    EveryClampSpeaks,
    NoJobLost,
    Notes,
    OneScheduler,
    PeopleFirst,
    SameInputSameDecision,
    UnknownHolds,
    WithinBudget,
)
from tests.support.storm.instance_events import (
    BOOTS,
    CHANGES,
    CODE,
    HANGS,
    HEAVY,
    HOST,
    NUMBERS,
    ORDERS,
    PRESSURE,
    LifeStorm,
)
from tests.support.storm.storm import (
    DATABASE,
    MISHAPS,
    PEOPLE,
    REDIS,
    SCHEDULERS,
    SOURCES,
    TARGET,
    WORK,
    Event,
    steady,
    storms,
)
from tests.support.world.ports import policy, strict, weighted

Schedule = list[tuple[int, Event]]
QUICK = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0, pin_seconds=900.0)
EVERYTHING = (
    WORK,
    SOURCES,
    REDIS,
    DATABASE,
    PEOPLE,
    MISHAPS,
    HANGS,
    BOOTS,
    CODE,
    CHANGES,
    HEAVY,
    PRESSURE,
    ORDERS,
)


def rules(place: str = "elsewhere", *, low: int = 1, reserve: int = 10, takeover: float = 120.0) -> Policy:
    placed = SchedulerPolicy(
        place=place,  # type: ignore[arg-type]
        takeover_seconds=takeover,
        threads=5,
        db_pool=7,
    )
    return policy(
        strict(numbers="1-4", low=low),
        weighted(numbers="5-8", low=low),
        scheduler=placed,
        pace=QUICK,
        connections=ConnectionPolicy(reserve=reserve),
    )


@steady(25)
@given(storms(*EVERYTHING, HOST))
def test_every_instance_is_in_one_state_and_got_there_as_the_table_allows(schedule: Schedule) -> None:
    LifeStorm(rules("auto"), NamedStates, Bounded, EveryClampSpeaks, SameInputSameDecision).run(schedule)


@steady(20)
@given(storms(WORK, CODE, CODE, PEOPLE, ORDERS, MISHAPS, BOOTS, HOST, SCHEDULERS, TARGET))
def test_nothing_is_started_while_held(schedule: Schedule) -> None:
    LifeStorm(rules("here"), StartsNothingWhileHeld, HoldsAreKept).run(schedule)


@steady(25)
@given(
    storms(
        WORK,
        CHANGES,
        CHANGES,
        HEAVY,
        HOST,
        ("core_pressure", "no_pressure", "kill_fleetd", "die_in_tick", "freeze"),
        SOURCES,
    )
)
def test_a_rollout_replaces_one_at_a_time_and_keeps_capacity(schedule: Schedule) -> None:
    LifeStorm(rules(low=2), RollKeepsCapacity, OneReplacedAtATime).run(schedule, then_ticks=40)


@steady(15)
@given(storms(WORK, NUMBERS, NUMBERS, SOURCES, HOST, ("kill_fleetd", "die_in_tick", "freeze", "kill_worker")))
def test_what_the_configuration_names_no_more_leaves_without_losing_a_job(schedule: Schedule) -> None:
    checks = (NoJobLost, WithinBudget, OneReplacedAtATime, OneScheduler, EveryClampSpeaks, SameInputSameDecision)
    storm = LifeStorm(rules("here"), *checks)
    storm.run([*schedule, (1, ("redis_up", 0)), (1, ("postgres_up", 0)), (1, ("systemd_up", 0))])
    storm.apply(("host_readable", 0))
    storm.run([], then_ticks=400)
    owned = {SCHEDULER, *(n for p in storm.world.policy.profiles for n in p.numbers)}
    assert {n for n, unit in storm.world.units.items() if unit.process is not None} <= owned
    assert storm.rig.ticker.host_memory.people.pins == {}, "none of this was a person"


@steady(20)
@given(storms(WORK, CHANGES, HEAVY, CODE, DATABASE, DATABASE, ORDERS, MISHAPS))
def test_spares_stay_within_the_budget(schedule: Schedule) -> None:
    LifeStorm(rules("here", reserve=60), WithinBudget, OneReplacedAtATime).run(schedule)


@steady(25)
@given(
    storms(
        WORK,
        ("long_jobs", "long_jobs"),
        HANGS,
        CHANGES,
        ORDERS,
        REDIS,
        SOURCES,
        BOOTS,
        ("kill_fleetd", "die_in_tick"),
    )
)
def test_no_job_is_lost_and_none_starts_over_twice(schedule: Schedule) -> None:
    LifeStorm(rules("here"), NoJobLost, PushedBackOnce).run(schedule, then_ticks=40)


@steady(20)
@given(storms(WORK, SOURCES, SOURCES, REDIS, CHANGES, HANGS, PRESSURE, ORDERS, HOST))
def test_what_is_unknown_holds_whatever_else_happens(schedule: Schedule) -> None:
    LifeStorm(rules(reserve=60), UnknownHolds).run(schedule)


@steady(20)
@given(storms(SCHEDULERS, CHANGES, CODE, ORDERS, SOURCES, ("kill_fleetd", "die_in_tick", "freeze")))
def test_one_scheduler_while_it_is_replaced(schedule: Schedule) -> None:
    LifeStorm(rules("auto"), OneScheduler).run(schedule, then_ticks=40)


@steady(20)
@given(storms(WORK, PEOPLE, ORDERS, ORDERS, CHANGES, SOURCES, ("kill_fleetd", "die_in_tick", "freeze")))
def test_people_come_first_and_their_orders_expire(schedule: Schedule) -> None:
    LifeStorm(rules(), PeopleFirst, OrdersExpire).run(schedule)


@steady(12)
@given(
    storms(
        WORK,
        ("break", "break", "mend", "code_breaks"),
        ("kill_fleetd", "die_in_tick", "order_release", "order_set"),
    )
)
def test_retries_are_bounded(schedule: Schedule) -> None:
    LifeStorm(rules(low=2), RetriesAreBounded).run(schedule, then_ticks=120)


@steady(15)
@given(storms(WORK, CHANGES, PEOPLE, ORDERS, BOOTS, REDIS))
def test_a_fleetd_killed_after_every_tick_keeps_orders_and_holds(schedule: Schedule) -> None:
    checks = (NamedStates, HoldsAreKept, OneReplacedAtATime, PeopleFirst, OrdersExpire, NoJobLost)
    LifeStorm(rules(), *checks, killed=True).run(schedule)


@steady(20)
@given(storms(WORK, CHANGES, PEOPLE, ORDERS, BOOTS, REDIS, ("kill_worker", "long_jobs")))
def test_a_fleetd_killed_in_mid_tick_keeps_orders_and_holds(schedule: Schedule) -> None:
    """Steps that fleetd remembered but never gave, and steps that it gave twice."""
    checks = (NamedStates, HoldsAreKept, OneReplacedAtATime, PeopleFirst, OrdersExpire, NoJobLost, NoneIsUndrainable)
    LifeStorm(rules(), *checks, in_mid_tick=True).run(schedule)


def test_every_kind_of_event_happens_in_a_storm_of_life() -> None:
    """Makes sure that the tests above don't pass only because nothing ever happened."""
    kinds = (
        WORK,
        CHANGES,
        CHANGES,
        HEAVY,
        HEAVY,
        HANGS,
        BOOTS,
        ("order_drain", "code_mended", "speak", "mend", "mend", *4 * ("order_release",)),
    )
    names = [name for kind in kinds for name in kind]
    seen: set[str] = set()
    rolls: set[tuple[ReplaceCause, RolloutPhase]] = set()
    failures: set[type[Reason]] = set()
    for seed in (0, 1):
        dice = random.Random(seed)
        storm = LifeStorm(rules("here"), Notes, NamedStates)
        for _ in range(350):
            for _ in range(dice.randint(1, 16)):
                result = storm.tick()
                seen |= {v.state.value for v in result.tick.instances or ()}
                failures |= {type(f.cause) for f in result.host.memory.units.failures.values()}
                roll = result.host.memory.rollout
                rolls |= {(roll.cause, roll.phase)} if roll is not None else set()
            storm.apply((dice.choice(names), dice.randint(0, 19)))
    assert seen >= {"undrainable", "unresponsive", "outdated", "pinned", "draining", "failed", "quieting"}
    elsewhere = {ReplaceCause.UNCONFIGURED}  # test_what_the_configuration_names_no_more_…
    assert {cause for cause, _ in rolls} == set(ReplaceCause) - elsewhere
    assert {end for _, end in rolls} == set(RolloutPhase)
    assert failures >= {DiedTooOften, BootTooLong, NeverHeardOf}, "each way to fail that fleetd ends by itself"
