"""Weigh a snapshot: from what was read to what that proves."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.liveness import Liveness, LivenessMemory, tell_apart
from fleetd.core.evidence.own import own_units, remembered_own
from fleetd.core.evidence.queues import QueueMemory, Skew, possible_ages, with_threads
from fleetd.core.evidence.usefulness import CONFIRMED_SECONDS, Stalled, find_stalled
from fleetd.core.evidence.whereabouts import WhereaboutsMemory, beat_elsewhere, remember_twins, remember_whereabouts
from fleetd.core.model.facts import Known, ProcessFacts, Snapshot, Unknown, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.evidence import HostNamedTwice, WorkersBeatElsewhere


class EvidenceMemory(Value, frozen=True, kw_only=True):
    """What is remembered of Redis between two readings. It begins anew with fleetd."""

    at_seconds: float | None = None  # of the last reading
    liveness: LivenessMemory = LivenessMemory()
    queues: dict[str, QueueMemory] = {}
    useless_seconds: dict[str, float] = {}  # by identity: for how long a process has looked as if it finished nothing
    whereabouts: WhereaboutsMemory = WhereaboutsMemory()
    own: dict[str, InstanceKey] = {}  # by identity: processes without a tag that are of a unit here
    twin_seconds: dict[InstanceKey, float] = {}  # for how long each of our units was seen to beat elsewhere as well

    def believing(self, stalled: tuple[str, ...]) -> EvidenceMemory:
        """With processes, by identity, that another host has watched for long enough."""
        told = dict.fromkeys(stalled, CONFIRMED_SECONDS)
        return structs.replace(self, useless_seconds={**told, **self.useless_seconds})


class Evidence(Value, frozen=True, kw_only=True):
    """What a reading proves beyond its facts. Everything by identity is keyed as Sidekiq names the process."""

    proved_seconds: float = 0.0  # for how long it proves that absence is real; see liveness.py
    ghosts: tuple[ProcessFacts, ...] = ()  # heartbeats of processes that no longer live
    ghost_ages_seconds: dict[str, float] = {}  # by identity: for how long each has been known to be one
    ghost_stills_seconds: dict[str, float] = {}  # by identity: for how long each has not moved
    stalled: dict[str, Stalled] = {}  # by identity: processes that live but finish nothing
    clocks: dict[str, float] = {}  # by host name: how far its clock is ahead of Redis's, where it is wrong
    skews: tuple[Skew, ...] = ()  # the same for whoever enqueues a queue
    elsewhere: WorkersBeatElsewhere | None = None  # this is not the Redis of our workers, so it counts as unknown
    twins: tuple[HostNamedTwice, ...] = ()


class Weighed(Value, frozen=True, kw_only=True):
    """A snapshot whose processes all live and whose ages are by one clock, and what else it proves."""

    snapshot: Snapshot
    evidence: Evidence
    memory: EvidenceMemory


def weigh(policy: Policy, snapshot: Snapshot, memory: EvidenceMemory) -> Weighed:
    """Weigh one snapshot. While Redis is unknown nothing is proved, and nothing is forgotten."""
    if not isinstance(snapshot.sidekiq, Known):
        return Weighed(snapshot=snapshot, evidence=Evidence(), memory=memory)
    raw, now = snapshot.sidekiq.value, snapshot.now_seconds
    told = tell_apart(policy.pace, raw, memory.liveness, now - snapshot.sidekiq.age_seconds)
    same_redis = raw.redis_run_id == memory.liveness.redis_run_id  # another one may hold older jobs
    ages = possible_ages(raw, told.gone, memory.queues if same_redis else {}, now)
    elapsed = policy.pace.punctual(memory.at_seconds, now)
    stalled, useless = find_stalled(told.live, ages.queues, memory.useless_seconds, elapsed)
    at_work = tuple(p for p in told.live if p.identity not in stalled)
    live = tuple(structs.replace(p, stalled=True) if p.identity in stalled else p for p in told.live)
    systemd = snapshot.systemd.value if isinstance(snapshot.systemd, Known) else None
    facts = structs.replace(
        raw,
        queues=with_threads(ages.queues, at_work, complete=raw.processes_complete),
        processes=own_units(live, systemd, policy.host, memory.own),
    )
    whereabouts = remember_whereabouts(memory.whereabouts, facts, systemd, policy.host, told.proved_seconds)
    elsewhere = beat_elsewhere(whereabouts, facts, systemd)
    twins, twin_seconds = remember_twins(memory.twin_seconds, facts.processes, systemd, policy.host, elapsed)
    believed = Known(value=facts, age_seconds=snapshot.sidekiq.age_seconds)
    return Weighed(
        snapshot=structs.replace(snapshot, sidekiq=believed if elsewhere is None else Unknown(why="")),
        evidence=Evidence(
            proved_seconds=told.proved_seconds,
            ghosts=told.ghosts,
            ghost_ages_seconds=_ghost_ages(told, now),
            ghost_stills_seconds={g.identity: told.memory.beats[g.identity].still_seconds for g in told.ghosts},
            stalled=stalled,
            clocks=_clocks(told),
            skews=ages.skews,
            elsewhere=elsewhere,
            twins=twins,
        ),
        memory=EvidenceMemory(
            at_seconds=now,
            liveness=told.memory,
            queues=ages.memory,
            useless_seconds=useless,
            whereabouts=whereabouts,
            own=remembered_own(facts.processes, memory.own, complete=raw.processes_complete),
            twin_seconds=twin_seconds,
        ),
    )


def _ghost_ages(told: Liveness, now_seconds: float) -> dict[str, float]:
    beats = told.memory.beats
    since = {ghost.identity: beats[ghost.identity].ghost_since_seconds for ghost in told.ghosts}
    return {identity: now_seconds - at for identity, at in since.items() if at is not None}


def _clocks(told: Liveness) -> dict[str, float]:
    found = {}
    for process in told.live:
        clock = told.memory.beats[process.identity].clock
        if clock is not None and clock.ahead_seconds:
            found[process.hostname] = clock.ahead_seconds
    return found
