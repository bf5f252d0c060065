"""Weigh a snapshot: from what was read to what that proves."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.liveness import LivenessMemory, tell_apart
from fleetd.core.evidence.queues import QueueMemory, Skew, possible_ages, with_threads
from fleetd.core.model.facts import Known, ProcessFacts, Snapshot, Value
from fleetd.core.model.policy_tables import Policy


class EvidenceMemory(Value, frozen=True, kw_only=True):
    """What is remembered of Redis between two readings. It begins anew with fleetd."""

    liveness: LivenessMemory = LivenessMemory()
    queues: dict[str, QueueMemory] = {}


class Evidence(Value, frozen=True, kw_only=True):
    """What a reading proves beyond its facts."""

    ghosts: tuple[ProcessFacts, ...] = ()  # heartbeats of processes that no longer live
    ghost_ages_seconds: dict[str, float] = {}  # by identity: since when each is known to be one
    proved_seconds: float = 0.0  # for how long it proves that absence is real; see liveness.py
    skews: tuple[Skew, ...] = ()  # of the clocks of those who enqueue


class Weighed(Value, frozen=True, kw_only=True):
    """A snapshot whose processes all live and whose ages are by one clock, and what else it proves."""

    snapshot: Snapshot
    evidence: Evidence
    memory: EvidenceMemory


def weigh(policy: Policy, snapshot: Snapshot, memory: EvidenceMemory) -> Weighed:
    """Weigh one snapshot. While Redis is unknown nothing is proved, and nothing is forgotten."""
    if not isinstance(snapshot.sidekiq, Known):
        return Weighed(snapshot=snapshot, evidence=Evidence(), memory=memory)
    facts, now = snapshot.sidekiq.value, snapshot.now_seconds
    told = tell_apart(policy.pace, facts, memory.liveness, now)
    ages = possible_ages(facts, told.gone, memory.queues, now)
    queues = with_threads(ages.queues, told.live, complete=facts.processes_complete)
    facts = structs.replace(facts, queues=queues, processes=told.live)
    beats = told.memory.beats
    return Weighed(
        snapshot=structs.replace(snapshot, sidekiq=structs.replace(snapshot.sidekiq, value=facts)),
        evidence=Evidence(
            ghosts=told.ghosts,
            ghost_ages_seconds={
                ghost.identity: now - (beats[ghost.identity].ghost_since_seconds or now) for ghost in told.ghosts
            },
            proved_seconds=told.proved_seconds,
            skews=ages.skews,
        ),
        memory=EvidenceMemory(liveness=told.memory, queues=ages.memory),
    )
