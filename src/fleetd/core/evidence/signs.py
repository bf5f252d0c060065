"""What a person should hear of a reading: dead heartbeats, wrong clocks, doubled names, an idle scheduler."""

from __future__ import annotations

from collections.abc import Iterator

from fleetd.core.evidence.weigh import Evidence
from fleetd.core.model.facts import Known, PgBouncerFacts, SidekiqFacts, SystemdFacts, Unknown
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.evidence import (
    EnqueuerClockWrong,
    GhostHeartbeats,
    PolkitAbsent,
    ProcessClockWrong,
    SchedulerEnqueuesNothing,
    SchedulerQueueLate,
    StatementsForgotten,
    ThreadsWithoutConnections,
)

#: Mastodon's schedule has jobs for every five minutes.
SCHEDULED_SECONDS_MAX = 3600.0
SCHEDULER_LATE_SECONDS = 7200.0
#: Named at most, of each kind.
NAMED_MAX = 3


def signs(evidence: Evidence, facts: SidekiqFacts | None) -> tuple[Reason, ...]:
    """The signs of one reading. `facts`: the weighed ones; None: Redis is unknown."""
    return (*_of_evidence(evidence), *(_of_scheduler(facts) if facts is not None else ()))


def _of_evidence(evidence: Evidence) -> Iterator[Reason]:
    yield from evidence.twins[:NAMED_MAX]
    if evidence.ghosts:
        yield GhostHeartbeats(
            count=len(evidence.ghosts),
            identities=tuple(ghost.identity for ghost in evidence.ghosts[:NAMED_MAX]),
            still_seconds=max(evidence.ghost_stills_seconds.values()),
        )
    worst = sorted(evidence.clocks.items(), key=lambda clock: -abs(clock[1]))
    yield from (ProcessClockWrong(host=host, ahead_seconds=ahead) for host, ahead in worst[:NAMED_MAX])
    skews = sorted(evidence.skews, key=lambda skew: -abs(skew.ahead_seconds))
    yield from (EnqueuerClockWrong(queue=s.queue, ahead_seconds=s.ahead_seconds) for s in skews[:NAMED_MAX])


def of_systemd(facts: SystemdFacts | None) -> Iterator[Reason]:
    """What keeps systemd from taking steps."""
    if facts is not None and not facts.polkit_runs:
        yield PolkitAbsent()


def of_settings(policy: Policy, pgbouncer: Known[PgBouncerFacts] | Unknown | None) -> Iterator[Reason]:
    """What makes workers' queries fail, by Mastodon's settings and by PgBouncer's."""
    forgets = isinstance(pgbouncer, Known) and pgbouncer.value.forgets_statements
    if forgets and policy.connections.prepares_statements:
        yield StatementsForgotten()
    pools = {profile.name: (profile.threads, profile.db_pool) for profile in policy.profiles}
    if policy.scheduler.place != "elsewhere":
        pools["scheduler"] = (policy.scheduler.threads, policy.scheduler.db_pool)
    few = tuple(name for name, (threads, db_pool) in pools.items() if threads > db_pool)
    if few:
        yield ThreadsWithoutConnections(pool_connections=pools[few[0]][1], profiles=few)


def _of_scheduler(facts: SidekiqFacts) -> Iterator[Reason]:
    serving = [p for p in facts.processes if SCHEDULER_QUEUE in p.queues and not p.quiet]
    age = facts.scheduled_age_seconds
    # A scheduler that has just begun is given the same time to enqueue something.
    up_seconds = max((p.started_age_seconds for p in serving), default=0.0)
    if age is not None and min(age, up_seconds) > SCHEDULED_SECONDS_MAX:
        yield SchedulerEnqueuesNothing(seconds=age)
    queue = facts.queues.get(SCHEDULER_QUEUE)
    if queue is not None and queue.latency_seconds is not None and queue.latency_seconds > SCHEDULER_LATE_SECONDS:
        yield SchedulerQueueLate(seconds=queue.latency_seconds)
