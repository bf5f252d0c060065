"""The connections in the Status: each source with its arithmetic, who takes what, and what the headroom allows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from fleetd.core.capacity.admission import unattributable
from fleetd.core.capacity.budget import ConnectionBudget, SourceBudget
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.overdrawn import consumers
from fleetd.core.model.facts import Known, RenderedSettings, Snapshot
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy, Policy
from fleetd.core.model.status import ClaimStatus, ConnectionSourceStatus, ConnectionStatus, ConsumerStatus
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence

#: The names that `application_name` writes.
_NAME = re.compile(r"mastodon-sidekiq(?:@([1-9][0-9]{0,3})|(-scheduler))(?:\.(.*))?")
#: Hosts told apart in the claims; the rest share a row.
HOSTS_MAX = 32


def connection_status(result: TickResult) -> ConnectionStatus:
    """Everything about connections of one tick."""
    policy, budget, claims = result.tick.policy, result.fleet.budget, result.fleet.claims
    total, saturation = claims.total_connections, result.fleet.saturation
    known = result.tick.instances is not None
    tightest = budget.tightest(total) if not budget.unread else None
    return ConnectionStatus(
        limit_connections=tightest.limit_connections if tightest else None,
        reserve_connections=tightest.reserve_connections if tightest else None,
        others_connections=tightest.others_connections if tightest else None,
        claims_connections=total if known else None,
        headroom_connections=_headroom(tightest, total) if tightest else None,
        open_connections=tightest.open_connections + 1 if tightest else None,
        sources=tuple(_source(policy.connections, result.snapshot, s, total, s is tightest) for s in budget.sources),
        claims=_claims(policy, claims, result.host.memory.left_over) if known else (),
        more_instances=_more(result) if known and not budget.unread else {},
        claim_per_instance={p.name: p.claim_connections for p in policy.profiles},
        unattributable=_unattributable(budget, total),
        saturation=sentence(saturation.holds) if saturation.holds is not None else "",
    )


def _headroom(source: SourceBudget, claims: int) -> int:
    """Connections that may still be claimed. Behind PgBouncer, if all its pools fit: what is left beside them."""
    headroom = source.headroom_connections(claims)
    if headroom is not None:
        return headroom
    return max(0, source.budget_connections - (source.pool_connections or 0))


def _source(
    policy: ConnectionPolicy, snapshot: Snapshot, source: SourceBudget, claims: int, binds: bool
) -> ConnectionSourceStatus:
    pool = None
    if source.source == "pgbouncer" and isinstance(snapshot.pgbouncer, Known):
        pool = snapshot.pgbouncer.value.mastodon_pool
    return ConnectionSourceStatus(
        name=source.source,
        limit_connections=source.limit_connections,
        reserve_connections=source.reserve_connections,
        others_connections=source.others_connections,
        others_seen_connections=source.seen_connections,
        others_peak_connections=source.peak_connections,
        others_declared_connections=source.declared_connections,
        others_bound_connections=source.bound_connections,
        claims_connections=claims if source.pool_connections is None else source.pool_connections,
        headroom_connections=_headroom(source, claims),
        open_connections=source.open_connections + 1,  # fleetd's own is a client too
        consumers=_consumers(policy, snapshot, source),
        binds=binds,
        refused=source.refused,
        exact=source.exact,
        pool_connections=source.pool_connections if pool is None else pool.size_connections,
        active_servers=pool.active_servers if pool else None,
        waiting_clients=pool.waiting_clients if pool else None,
        longest_wait_seconds=pool.longest_wait_seconds if pool else None,
        limit_set=source.limit_set,
    )


def _consumers(policy: ConnectionPolicy, snapshot: Snapshot, source: SourceBudget) -> tuple[ConsumerStatus, ...]:
    """Consumers as seen, the largest first, then the declared ones. The two are not matched: that would be a guess."""
    seen = consumers(snapshot, source.source)
    on = "replica" if source.source == "replica" else "database"
    direct = source.source != "postgres" or snapshot.pgbouncer is None
    declared = [claim for claim in policy.declared if claim.on == on and direct]
    return (
        *(ConsumerStatus(name=c.name, observed_connections=c.connections, declared_connections=None) for c in seen),
        *(ConsumerStatus(name=d.name, observed_connections=None, declared_connections=d.connections) for d in declared),
    )


def _claims(
    policy: Policy, claims: Claims, left_over: Mapping[InstanceKey, RenderedSettings]
) -> tuple[ClaimStatus, ...]:
    """Claims by host and profile, this host first. The profiles of other hosts' numbers are unknown here."""
    instances: Counter[tuple[str, str, bool]] = Counter()
    connections: Counter[tuple[str, str, bool]] = Counter()
    for name, count in claims.connections.items():
        if count == 0:
            continue
        match = _NAME.fullmatch(name)
        host = match[3] or "" if match else "more"
        if host != policy.host and len({h for h, _, _ in instances}) >= HOSTS_MAX:
            host = "more"
        profile, configured = "scheduler" if match and match[2] else "", True
        if match and match[1] and host == policy.host:
            profile, configured = _owner(policy, InstanceKey(int(match[1])), left_over)
        instances[host, profile, configured] += 1
        connections[host, profile, configured] += count
    rank = {p.name: place for place, p in enumerate(policy.profiles)}
    keys = sorted(instances, key=lambda k: (k[0] != policy.host, k[0], rank.get(k[1], len(rank)), k[1], not k[2]))
    return tuple(
        ClaimStatus(
            host=key[0], profile=key[1], instances=instances[key], connections=connections[key], configured=key[2]
        )
        for key in keys
    )


def _owner(policy: Policy, key: InstanceKey, left_over: Mapping[InstanceKey, RenderedSettings]) -> tuple[str, bool]:
    """The profile of one of this host's numbers, and whether the configuration names that number."""
    owner, settings = policy.profile_of(key), left_over.get(key)
    if owner is not None:
        return owner.name, True
    return ("not configured", True) if settings is None else (settings.profile, False)


def _more(result: TickResult) -> dict[str, int]:
    """How many more instances of each profile the headroom allows if it gets all of it; at most its free numbers."""
    headroom = result.fleet.budget.headroom_connections(result.fleet.claims_connections)
    present = Counter(v.profile for v in result.tick.active if v.is_present)
    return {
        p.name: min(
            max(0, p.max_instances - present[p.name]),
            p.max_instances if headroom is None else headroom // p.claim_connections,
        )
        for p in result.tick.policy.profiles
    }


def _unattributable(budget: ConnectionBudget, claims: int) -> str:
    """Why growth is checked against more than what is certainly others'; "": it is not."""
    source = budget.tightest(claims)
    if source is None or source.bound_connections <= source.others_connections:
        return ""
    return sentence(unattributable(source, budget))
