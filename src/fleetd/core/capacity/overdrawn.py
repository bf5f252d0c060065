"""A full database: others, claims and the reserve exceed a limit, or it refuses clients; and who holds what.

It is told whether or not a profile wants to grow. When others take the connections of a fleet at `min`, no count
changes, and nothing else would say so (law 8).
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.capacity.admission import Admitted, Limits
from fleetd.core.capacity.budget import SourceBudget
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.left_over import orphans
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Consumer, Known, PgBouncerFacts, Snapshot
from fleetd.core.model.reasons.base import ConnectionSource

#: Clients that one sentence names.
HOLDERS_MAX = 3
#: Pools of PgBouncer that are told apart.
POOLS_MAX = 12
_LEAVING = frozenset(
    {InstanceState.QUIETING, InstanceState.DRAINING, InstanceState.UNDRAINABLE, InstanceState.STOPPING}
)
Full = reasons.ConnectionsOverdrawn | reasons.ClientsRefused


def overdrawn(tick: HostTick, admitted: Admitted | None, limits: Limits) -> tuple[Full, ...]:
    """One reason for each source that is too full. `admitted` None: systemd is unknown.

    Then it is unknown too what is claimed, and only a refusal is certain.
    """
    claims = limits.claims.total_connections
    found: list[Full] = []
    for source in limits.budget.sources:
        if source.refused:
            found.append(reasons.ClientsRefused(source=source.source))
        elif admitted is not None and source.overdrawn_connections(claims) > 0:
            found.append(_reason(tick, admitted, source, claims))
    return tuple(found)


def _reason(tick: HostTick, admitted: Admitted, source: SourceBudget, claims: int) -> reasons.ConnectionsOverdrawn:
    gives_back, going = _gives_back(tick, admitted)
    return reasons.ConnectionsOverdrawn(
        source=source.source,
        over_connections=source.overdrawn_connections(claims),
        limit_connections=source.limit_connections,
        limit_set=source.limit_set,
        reserve_connections=source.reserve_connections,
        others_connections=source.others_connections,
        others_by=_others_by(source),
        seen_connections=source.seen_connections,
        claimed_connections=claims,
        min_connections=tick.policy.min_connections,
        holders=consumers(tick.snapshot, source.source)[:HOLDERS_MAX],
        told_apart=source.told_apart,
        gives_back=gives_back,
        going_instances=going,
    )


def _others_by(source: SourceBudget) -> Literal["seen", "peak", "rise", "taken"]:
    others = source.others_connections
    if others == source.seen_connections:
        return "seen"
    if others == source.declared_connections:
        return "taken"
    return "peak" if others == source.peak_connections else "rise"


def _gives_back(
    tick: HostTick, admitted: Admitted
) -> tuple[Literal["drains", "unwatched", "kept", "min", "closing"], int]:
    """What fleetd does about it, and how many instances go."""
    pinned = [v.profile for v in tick.active if v.is_capacity and v.pinned == reasons.PinKind.RUN]
    surplus = {name: max(0, tick.running[name] - count) for name, count in admitted.counts.items()}
    going = sum(min(n, max(0, tick.running[name] - pinned.count(name))) for name, n in surplus.items())
    going += sum(1 for v in tick.active if v.state in _LEAVING)
    # Those left over of a profile that is gone are nobody's min: a rollout drains them all, in a hold only the budget.
    gone = orphans(tick)
    going += len(gone) if tick.held is None else sum(admitted.gives_back.values())
    if going:
        return "drains", going
    if any(surplus.values()) or any(tick.policy.profile(name or "") is None for name in pinned):
        return "kept", 0
    if not gone and not any(tick.running[p.name] > p.min_instances for p in tick.policy.profiles):
        return "min", 0
    return ("unwatched" if tick.sidekiq is None else "closing"), 0


def consumers(snapshot: Snapshot, source: ConnectionSource) -> tuple[Consumer, ...]:
    """Whose connections are seen on a source besides our named ones, most first; on PgBouncer its pools, ours too."""
    if source == "pgbouncer":
        return _pools(snapshot.pgbouncer.value) if isinstance(snapshot.pgbouncer, Known) else ()
    reading = snapshot.replica if source == "replica" else snapshot.database
    return reading.value.consumers if isinstance(reading, Known) else ()


def _pools(facts: PgBouncerFacts) -> tuple[Consumer, ...]:
    pools = sorted(facts.pools, key=lambda pool: -pool.client_connections)[:POOLS_MAX]
    return tuple(
        Consumer(name=f"{pool.user} in {pool.database}", connections=pool.client_connections)
        for pool in pools
        if pool.client_connections
    )
