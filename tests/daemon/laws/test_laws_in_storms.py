"""Each law, in random storms of everything that can happen around fleetd."""

from __future__ import annotations

import random

from hypothesis import given

from fleetd.core.model.policy_tables import ConnectionPolicy, PacePolicy, Policy, SchedulerPolicy
from tests.support.laws.laws import (
    Bounded,
    EveryClampSpeaks,
    GivesWay,
    NoJobLost,
    Notes,
    OneScheduler,
    OwnStepsAreNobodyElses,
    PeopleFirst,
    SameInputSameDecision,
    UnknownHolds,
    WithinBudget,
    WithinClientSlots,
)
from tests.support.storm.storm import (
    CONNECTIONS,
    DATABASE,
    DISK,
    GARBLED,
    MISHAPS,
    PEOPLE,
    REDIS,
    SCHEDULERS,
    SOURCES,
    WORK,
    Event,
    Storm,
    steady,
    storms,
)
from tests.support.world.ports import policy, strict, weighted

QUICK = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0, pin_seconds=900.0)
Schedule = list[tuple[int, Event]]


def two_profiles(place: str = "elsewhere", *, reserve: int = 10) -> Policy:
    placed = {"here": "here", "auto": "auto", "elsewhere": "elsewhere"}[place]
    scheduler = SchedulerPolicy(
        place=placed,  # type: ignore[arg-type]
        takeover_seconds=120.0,
        threads=5,
        db_pool=7,
    )
    return policy(
        strict(numbers="1-4", low=1),
        weighted(numbers="5-8", low=1),
        scheduler=scheduler,
        pace=QUICK,
        connections=ConnectionPolicy(reserve=reserve),
    )


@steady(35)
@given(storms(SCHEDULERS, SOURCES, MISHAPS, ("redis_loses_data",)))
def test_one_scheduler_with_a_takeover(schedule: Schedule) -> None:
    Storm(two_profiles("auto"), OneScheduler).run(schedule, then_ticks=40)


@steady(35)
@given(storms(SCHEDULERS, SOURCES, MISHAPS, ("redis_loses_data",)))
def test_one_scheduler_on_the_named_host(schedule: Schedule) -> None:
    Storm(two_profiles("here"), OneScheduler).run(schedule)


@steady(35)
@given(storms(WORK, DATABASE, DATABASE, SOURCES, MISHAPS))
def test_claims_stay_within_the_budget(schedule: Schedule) -> None:
    Storm(two_profiles("here", reserve=60), WithinBudget).run(schedule)


@steady(35)
@given(storms(WORK, DATABASE, CONNECTIONS, CONNECTIONS, GARBLED, MISHAPS))
def test_claims_stay_within_the_budget_and_give_way_when_others_grow(schedule: Schedule) -> None:
    storm = Storm(two_profiles("here", reserve=10), WithinBudget, GivesWay)
    storm.world.max_connections = 90
    storm.world.rates = {"default": 8.0, "pull": 3.0}  # more than the connections allow
    storm.run(schedule)


@steady(35)
@given(storms(WORK, CONNECTIONS, CONNECTIONS, SOURCES, MISHAPS))
def test_claims_stay_within_the_budget_through_pgbouncer(schedule: Schedule) -> None:
    storm = Storm(two_profiles("here", reserve=10), WithinClientSlots, GivesWay, pool_size=60)
    storm.world.max_connections = 120
    storm.world.rates = {"default": 8.0, "pull": 3.0}
    storm.run(schedule)


@steady(35)
@given(storms(WORK, SOURCES, SOURCES, REDIS, GARBLED, MISHAPS, ("others", "others")))
def test_what_is_unknown_holds(schedule: Schedule) -> None:
    Storm(two_profiles(reserve=60), UnknownHolds).run(schedule)


@steady(35)
@given(storms(("surge", "busy", "busy", "calm"), GARBLED))
def test_what_is_unknown_holds_while_a_heartbeat_is_garbage(schedule: Schedule) -> None:
    storm = Storm(two_profiles("here", reserve=10), UnknownHolds, WithinBudget)
    storm.world.max_connections = 110
    storm.world.rates = {"default": 4.0}
    storm.world.appear("main", "default push", threads=25)
    storm.run(schedule)


@steady(35)
@given(storms(WORK, WORK, SOURCES, REDIS, MISHAPS, ("others",)))
def test_no_job_is_lost(schedule: Schedule) -> None:
    Storm(two_profiles("here"), NoJobLost).run(schedule, then_ticks=40)


@steady(35)
@given(storms(WORK, PEOPLE, PEOPLE, SOURCES, ("kill_fleetd", "freeze")))
def test_people_come_first(schedule: Schedule) -> None:
    Storm(two_profiles(), PeopleFirst).run(schedule)


@steady(35)
@given(storms(WORK, PEOPLE, PEOPLE, DISK, ("kill_fleetd", "kill_fleetd", "freeze")))
def test_people_come_first_on_a_full_disk(schedule: Schedule) -> None:
    Storm(two_profiles(), PeopleFirst).run(schedule)


@steady(35)
@given(storms(WORK, WORK, DISK, DISK, ("kill_fleetd", "die_in_tick", "die_in_tick")))
def test_on_a_full_disk_own_steps_are_taken_for_nobody_elses(schedule: Schedule) -> None:
    Storm(two_profiles(), OwnStepsAreNobodyElses, NoJobLost).run(schedule, then_ticks=40)


@steady(35)
@given(storms(WORK, SCHEDULERS, DATABASE, DISK, ("kill_fleetd", "die_in_tick")))
def test_a_memory_that_is_lost_on_a_full_disk_breaks_no_other_law(schedule: Schedule) -> None:
    """Not even below /run is there room."""
    storm = Storm(two_profiles("auto", reserve=60), OneScheduler, WithinBudget, NoJobLost, Bounded)
    storm.disk.has_spare = False
    storm.run(schedule, then_ticks=40)


@steady(35)
@given(storms(WORK, SOURCES, REDIS, DATABASE, PEOPLE, MISHAPS, SCHEDULERS))
def test_everything_is_bounded_has_a_reason_and_is_reproducible(schedule: Schedule) -> None:
    Storm(two_profiles("auto", reserve=60), Bounded, EveryClampSpeaks, SameInputSameDecision).run(schedule)


def test_every_kind_of_event_happens_in_a_storm() -> None:
    """Makes sure that the tests above don't pass only because nothing ever happened."""
    dice = random.Random(1)
    kinds = (WORK, SOURCES, REDIS, PEOPLE, MISHAPS)
    names = [name for kind in kinds for name in kind]
    schedule = [(dice.randint(1, 14), (dice.choice(names), dice.randint(0, 19))) for _ in range(300)]
    storm = Storm(two_profiles("here"), Notes)
    storm.run(schedule)
    [notes] = storm.checks
    assert isinstance(notes, Notes)
    assert notes.seen.starts > 20
    assert notes.seen.stops > 10
    assert notes.seen.unknown > 20
    assert {
        "hold_window",
        "pinned",
        "pace",
        "headroom_unknown",
        "latency_unknown",
        "systemd_unknown",
    } <= notes.seen.clamps
