"""What this host claims of each source, as the ledger of a fleet counts it (law 2 over hosts).

A claim is counted where its process connects to: Postgres or PgBouncer, and a replica. Each source goes by its own
identity, because hosts may call one server by several names, and each may have a PgBouncer of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from fleetd.core.capacity.budget import ConnectionBudget, SourceBudget
from fleetd.core.capacity.claims import Claims
from fleetd.core.fleet.state import BySource
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Known, Snapshot, Unknown
from fleetd.core.model.identity import SCHEDULER, InstanceKey, application_name
from fleetd.core.model.reasons.base import ConnectionSource

#: The identity of each source that a worker takes connections of.
Sources: TypeAlias = Mapping[ConnectionSource, str]

_NAME = re.compile(r"mastodon-sidekiq(?:@([1-9][0-9]{0,3})|(-scheduler))\.")


def remember_identities(before: Mapping[ConnectionSource, str], snapshot: Snapshot) -> dict[ConnectionSource, str]:
    """The sources whose connections a worker takes, with the identity that each had when it was last read.

    Behind PgBouncer workers take its client slots; what they open in Postgres is bounded by its pools.
    """
    taken: dict[ConnectionSource, Known[Any] | Unknown | None] = {
        "pgbouncer": snapshot.pgbouncer,
        "postgres": snapshot.database if snapshot.pgbouncer is None else None,
        "replica": snapshot.replica,
    }
    found: dict[ConnectionSource, str] = {}
    for source, reading in taken.items():
        if isinstance(reading, Known):
            found[source] = reading.value.identity or source
        elif reading is not None and source in before:
            found[source] = before[source]
    return found


def is_own(name: str, host: str) -> bool:
    """Whether an application_name is of one of this host's units."""
    match = _NAME.match(name)
    if match is None:
        return False
    return application_name(SCHEDULER if match[2] else InstanceKey(int(match[1])), host) == name


def own_claims(tick: HostTick, claims: Claims, started: list[Step], sources: Sources) -> dict[str, BySource] | None:
    """What this host's processes may open, those that it starts now included; None: unknown.

    A process that has ended keeps what is still open in its name.
    """
    if tick.instances is None or not sources:
        return None
    policy, host = tick.policy, tick.policy.host
    up = {application_name(v.key, host): v.claim_connections for v in tick.active if v.is_present}
    for step in started:
        if step.verb == "start":
            profile = policy.profile(step.profile or "")
            size = policy.scheduler.claim_connections if profile is None else profile.claim_connections
            up[application_name(step.key, host)] = max(size, up.get(application_name(step.key, host), 0))
    open_now = _open(tick.snapshot)
    for name, connections in claims.connections.items():
        if is_own(name, host) and (name in up or name in open_now):
            up[name] = max(connections if name in up else open_now[name], up.get(name, 0))
    return {name: dict.fromkeys(sources.values(), connections) for name, connections in up.items() if connections}


def _open(snapshot: Snapshot) -> dict[str, int]:
    """Connections that Postgres or a replica sees open, by application_name."""
    found: dict[str, int] = {}
    for reading in (snapshot.database, snapshot.replica):
        if isinstance(reading, Known):
            for name, connections in reading.value.worker_connections.items():
                found[name] = max(found.get(name, 0), connections)
    return found


def missing_to_min(tick: HostTick, started: list[Step], sources: Sources) -> BySource:
    """What the profiles may still open on their way up to `min`, for which nobody is asked."""
    starts = [step.profile for step in started if step.verb == "start"]
    missing = sum(
        max(0, p.min_instances - tick.running[p.name] - starts.count(p.name)) * p.claim_connections
        for p in tick.policy.profiles
        if p.name in tick.running
    )
    return dict.fromkeys(sources.values(), missing) if missing else {}


def scheduler_claim(tick: HostTick, sources: Sources) -> BySource:
    """What a scheduler here would open; nothing where it never runs."""
    if tick.policy.scheduler.place == "elsewhere":
        return {}
    return dict.fromkeys(sources.values(), tick.policy.scheduler.claim_connections)


def claim_limits(budget: ConnectionBudget, sources: Sources, *, scheduler: bool) -> BySource:
    """The most that all workers of the fleet may claim of each source, as just read.

    What grows must fit beside the upper bound of others' connections; a scheduler beside what certainly is others'.
    """
    return {
        sources[source.source]: _limit(source, scheduler=scheduler)
        for source in budget.sources
        if source.source in sources and source.pool_connections is None
    }


def _limit(source: SourceBudget, *, scheduler: bool) -> int:
    if source.refused:
        return 0
    if scheduler:
        return source.budget_connections
    return max(0, source.limit_connections - source.reserve_connections - source.bound_connections)


def seen_elsewhere(tick: HostTick, claims: Claims) -> dict[str, int]:
    """What other hosts' processes may open, by heartbeats and open connections: some are in no ledger."""
    return {name: n for name, n in claims.connections.items() if not is_own(name, tick.policy.host)}
