"""What the profiles' claims at min leave of each limit, by the same budget as the daemon's (core/capacity)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fleetd.adapters.database.login import own_role_line
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.min_of_hosts import SetAside, set_aside
from fleetd.app.endpoints import Endpoints
from fleetd.app.route import OWN_ROLE
from fleetd.core.capacity.admission import unattributable
from fleetd.core.capacity.budget import BudgetMemory, SourceBudget
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.fleet_claims import is_own, remember_identities
from fleetd.core.capacity.naming import NamingMemory
from fleetd.core.fleet.state import LedgerState
from fleetd.core.instances.assess import assess
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.identity import SCHEDULER, application_name
from fleetd.core.model.policy_tables import Policy
from fleetd.core.plan import FleetDecision, FleetMemory, plan
from fleetd.words.formatting import CONNECTION_SOURCES, limit_text
from fleetd.words.reasons import sentence

_NO_GROWTH: Final = "Without it nothing grows above min."


def connection_checks(
    policy: Policy,
    endpoints: Endpoints,
    snapshot: Snapshot,
    leaving: tuple[str, ...] = (),
    ledger: LedgerState | None = None,
) -> Iterator[Check]:
    """`policy`: with the pools that workers really have. `leaving`: others' units that run this Mastodon's Sidekiq.

    `ledger`: of the fleet whose hosts share these sources; None: there is no other host, or that is unknown.
    """
    fleet = plan(assess(policy, snapshot, HostMemory()).tick, _memory(snapshot))
    for lost in fleet.budget.unread:
        login = endpoints.postgres if lost.source == "postgres" else None
        line = own_role_line(login.port) if login is not None and login.user == OWN_ROLE else ""
        yield Check(subject=CONNECTION_SOURCES[lost.source], verdict="broken", what=lost.why, why=_NO_GROWTH, line=line)
    identities = remember_identities({}, snapshot)
    for source in fleet.budget.sources:
        aside = SetAside()
        if ledger is not None and source.source in identities:
            aside = set_aside(ledger, policy.host, identities[source.source])
        yield from _source(policy, endpoints, fleet, source, leaving, aside)


def _memory(snapshot: Snapshot) -> FleetMemory:
    """None but that others have not just risen: the first reading shows no rise."""
    others = snapshot.database.value.others_connections if isinstance(snapshot.database, Known) else 0
    return FleetMemory(budget=BudgetMemory(naming=NamingMemory(others_connections=others)))


def _source(
    policy: Policy,
    endpoints: Endpoints,
    fleet: FleetDecision,
    source: SourceBudget,
    leaving: tuple[str, ...],
    aside: SetAside,
) -> Iterator[Check]:
    name = CONNECTION_SOURCES[source.source]
    if source.refused:
        why = f"{_NO_GROWTH} See who holds them: `fleetctl connections`, or pg_stat_activity as a superuser."
        yield Check(subject=name, verdict="broken", what="it lets no more clients in", why=why)
        return
    parts, ours = _claimed(policy, fleet.claims, source, aside)
    left = _left(source, ours)
    arithmetic = ", less ".join(
        (
            f"limit {limit_text(source.limit_connections, source.limit_set)}",
            f"reserve {source.reserve_connections}",
            f"others' {source.others_connections}",
            *parts,
        )
    )
    arithmetic = f"{_plainly(policy, source, ours, aside)}{arithmetic}: {left} left"
    yield _weighed(policy, fleet, source, leaving, aside, arithmetic, left)
    login = endpoints.replica if source.source == "replica" else endpoints.postgres
    if not source.exact and login is not None:
        yield Check(
            subject=name,
            verdict="look",
            what="it hides the kind of other roles' connections from fleetd",
            why="Every one of them then counts as a client, which may be too many.",
            line=f"sudo -u postgres psql -c 'GRANT pg_monitor TO {login.user}'",
        )


def _weighed(
    policy: Policy,
    fleet: FleetDecision,
    source: SourceBudget,
    leaving: tuple[str, ...],
    aside: SetAside,
    arithmetic: str,
    left: int,
) -> Check:
    """What the connections that are left beside everybody's min mean."""
    name, limits = CONNECTION_SOURCES[source.source], source.pool_connections is None
    doubtful = source.bound_connections - source.others_connections
    smallest = min((profile.claim_connections for profile in policy.profiles), default=0)
    if leaving and limits and left < smallest:
        why = (
            f"Others' are also those of {', '.join(leaving)}, until `fleetctl migrate` has taken over. Look again then."
        )
        return Check(subject=name, verdict="look", what=arithmetic, why=why)
    if left < 0:
        why = "Then nothing starts above min, and at min clients may be refused. See `fleetctl connections`."
        if aside.hosts and limits:
            hosts = ", ".join(f"{host} {connections}" for host, connections in _mins(policy, aside))
            why += (
                f" Each host starts its min without asking: lower it by {-left} in all ({hosts}), or raise the limit."
            )
        return Check(subject=name, verdict="broken", what=arithmetic, why=why)
    if limits and left < smallest:
        why = f"No further instance fits, the smallest claims {smallest}: fewer threads, or a higher limit."
        return Check(subject=name, verdict="look", what=arithmetic, why=why)
    if limits and left - doubtful < smallest:
        why = sentence(unattributable(source, fleet.budget))
        return Check(subject=name, verdict="look", what=f"{arithmetic}, or {left - doubtful}", why=why)
    return Check(subject=name, verdict="ok", what=arithmetic)


def left_at_min(policy: Policy, snapshot: Snapshot) -> int | None:
    """Connections that are left beside everybody else's and all of min; negative: min does not fit. None: unknown."""
    fleet = plan(assess(policy, snapshot, HostMemory()).tick, _memory(snapshot))
    if fleet.budget.unread:
        return None
    return min((_left(s, _claimed(policy, fleet.claims, s, SetAside())[1]) for s in fleet.budget.sources), default=None)


def _plainly(policy: Policy, source: SourceBudget, ours: int, aside: SetAside) -> str:
    """`at min you use 66 of 87; one more of default (27) does not fit: `, before the arithmetic."""
    if source.pool_connections is not None or not policy.profiles:
        return ""
    least = min(policy.profiles, key=lambda profile: profile.claim_connections)
    left, doubtful = _left(source, ours), source.bound_connections - source.others_connections
    fits = "fits" if left - doubtful >= least.claim_connections else "may not fit"
    fits = fits if left >= least.claim_connections else "does not fit"
    usable = max(0, source.limit_connections - source.reserve_connections - source.others_connections)
    whose = f"at min all {len(aside.hosts) + 1} hosts together" if aside.hosts else "at min you"
    return f"{whose} use {ours} of {usable}; one more of {least.name} ({least.claim_connections}) {fits}: "


def _left(source: SourceBudget, ours: int) -> int:
    return source.limit_connections - source.reserve_connections - source.others_connections - ours


def _claimed(policy: Policy, claims: Claims, source: SourceBudget, aside: SetAside) -> tuple[list[str], int]:
    """What is not others', for the arithmetic, and its sum."""
    if source.pool_connections is not None:
        return [f"{source.pool_connections} that PgBouncer's pools may open"], source.pool_connections
    at_min = policy.min_connections
    here = {application_name(key, policy.host) for profile in policy.profiles for key in profile.numbers}
    here.add(application_name(SCHEDULER, policy.host))
    elsewhere = sum(
        count
        for name, count in claims.connections.items()
        if name not in here and not any(is_own(name, other.host) for other in aside.hosts)
    )
    whose = "no host's profiles name" if aside.hosts else f"{policy.host}'s profiles don't name"
    parts = [f"{elsewhere} of workers that {whose}"] if elsewhere else []
    if not aside.hosts:
        return [*parts, f"{at_min} that the profiles claim at min"], at_min + elsewhere
    scheduler = max(aside.scheduler_connections, at_min - policy.instances_min_connections)
    parts += [f"{connections} of {host}'s min" for host, connections in _mins(policy, aside)]
    parts += [f"{scheduler} of one scheduler"] if scheduler else []
    return parts, sum(connections for _, connections in _mins(policy, aside)) + scheduler + elsewhere


def _mins(policy: Policy, aside: SetAside) -> list[tuple[str, int]]:
    """What each host claims at min, this one first; of one whose profiles are unknown, what it runs and may start."""
    return [(policy.host, policy.instances_min_connections), *((host.host, host.connections) for host in aside.hosts)]
