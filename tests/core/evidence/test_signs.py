"""What a person hears of a reading."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.evidence.queues import Skew
from fleetd.core.evidence.signs import SCHEDULED_SECONDS_MAX, SCHEDULER_LATE_SECONDS, of_settings, signs
from fleetd.core.evidence.weigh import Evidence
from fleetd.core.model.facts import Known, SidekiqFacts
from fleetd.core.model.policy_tables import ConnectionPolicy
from fleetd.core.model.reasons.evidence import (
    EnqueuerClockWrong,
    GhostHeartbeats,
    ProcessClockWrong,
    SchedulerEnqueuesNothing,
    SchedulerQueueLate,
    StatementsForgotten,
    ThreadsWithoutConnections,
)
from fleetd.daemon.log import TickLog
from fleetd.words.reasons import sentence
from tests.support.builders.readings import bouncer, process, queue, sidekiq
from tests.support.world.fleets import settled
from tests.support.world.ports import policy, strict

LONG = SCHEDULED_SECONDS_MAX + 1.0


def cron(*, scheduled: float | None, started: float = 2 * LONG, quiet: bool = False) -> SidekiqFacts:
    scheduler = process("", queues="scheduler", started=started, quiet=quiet)
    return structs.replace(sidekiq(processes=(scheduler,)), scheduled_age_seconds=scheduled)


def test_a_scheduler_that_enqueues_nothing_for_an_hour_is_reported() -> None:
    assert signs(Evidence(), cron(scheduled=LONG)) == (SchedulerEnqueuesNothing(seconds=LONG),)


@pytest.mark.parametrize(
    "facts",
    [
        cron(scheduled=SCHEDULED_SECONDS_MAX),
        cron(scheduled=None),
        cron(scheduled=LONG, started=60.0),
        cron(scheduled=LONG, quiet=True),
    ],
    ids=["within the hour", "no record", "just started", "quiet, so none"],
)
def test_a_scheduler_that_may_well_schedule_is_not(facts: SidekiqFacts) -> None:
    assert signs(Evidence(), facts) == ()


def test_a_scheduler_queue_that_is_two_hours_late_is_reported() -> None:
    late = SCHEDULER_LATE_SECONDS + 1.0
    assert signs(Evidence(), sidekiq(queue("scheduler", 5, age=late))) == (SchedulerQueueLate(seconds=late),)
    assert signs(Evidence(), sidekiq(queue("scheduler", 5, age=SCHEDULER_LATE_SECONDS))) == ()


def test_ghosts_and_wrong_clocks_are_named_the_worst_first_and_a_few_of_each() -> None:
    ghosts = tuple(process("", hostname=f"h{n}") for n in range(9))
    evidence = Evidence(
        ghosts=ghosts,
        ghost_stills_seconds={ghost.identity: 100.0 + n for n, ghost in enumerate(ghosts)},
        clocks={f"w{n}": -10.0 * n for n in range(1, 9)},
        skews=tuple(Skew(queue=f"q{n}", ahead_seconds=10.0 * n) for n in range(1, 9)),
    )
    found = signs(evidence, None)
    dead = next(sign for sign in found if isinstance(sign, GhostHeartbeats))
    assert (dead.count, len(dead.identities), dead.still_seconds) == (9, 3, 108.0)
    assert [s.host for s in found if isinstance(s, ProcessClockWrong)] == ["w8", "w7", "w6"]
    assert [s.queue for s in found if isinstance(s, EnqueuerClockWrong)] == ["q8", "q7", "q6"]


def test_a_sign_is_in_the_status_and_once_in_the_log() -> None:
    rig = settled(policy(strict(numbers="1-2", low=2)), 2)
    warned: list[str] = []
    log = TickLog(lambda said, **_: None, lambda said, **_: warned.append(said))
    rig.world.clock_ahead_seconds = -600.0
    statuses = []
    for _ in range(30):
        result = rig.tick()
        status = rig.status(result)
        log.report(result, status)
        statuses.append(status)
        rig.world.advance(5.0)
    (said,) = [line for line in warned if "clock of" in line]
    assert said in statuses[-1].warnings


def test_prepared_statements_that_pgbouncer_forgets_are_said_where_workers_prepare_any() -> None:
    prepares = structs.replace(policy(), connections=ConnectionPolicy(prepares_statements=True))
    forgets = Known(value=structs.replace(bouncer(), forgets_statements=True))
    assert list(of_settings(prepares, forgets)) == [StatementsForgotten()]
    assert "PREPARED_STATEMENTS=false" in sentence(StatementsForgotten())
    for rules, reading in ((policy(), forgets), (prepares, Known(value=bouncer())), (prepares, None)):
        assert list(of_settings(rules, reading)) == []


def test_more_threads_than_connections_are_said_for_as_long_as_they_are_there() -> None:
    rules = policy()
    few = tuple(structs.replace(profile, threads=25, db_pool=5) for profile in rules.profiles)
    [sign] = of_settings(structs.replace(rules, profiles=few), None)
    assert sign == ThreadsWithoutConnections(pool_connections=5, profiles=tuple(p.name for p in few))
    assert sentence(sign).startswith("pool=5 in the address of Mastodon's database leaves threads of ")
