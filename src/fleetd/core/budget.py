"""Budget: from want to affordable. Connections of the database and memory of the host (law 2).

Budget = limit − reserve − others. A claim is what an instance may open, not what it has open now: Rails opens
connections lazily, so a fleet counted by open connections overruns the database an hour after it looked fine.
"""

from __future__ import annotations

import math

from msgspec import structs

from fleetd.core.facts import DatabaseFacts, HostFacts, Known, SidekiqFacts, Unknown, Value
from fleetd.core.identity import application_name, parse_tag
from fleetd.core.lifecycle import InstanceView, claim_of
from fleetd.core.policy import ConnectionPolicy, Policy

#: Worker names remembered from heartbeats; INSTANCES_MAX of the configuration on four hosts.
TAGGED_NAMES_MAX = 256


class BudgetMemory(Value, frozen=True, kw_only=True):
    """The decaying peak of everyone else's connections, and what Sidekiq's heartbeats claimed when last readable."""

    at_seconds: float | None = None
    others_peak_connections: float = 0.0
    foreign_claims_connections: int = 0  # of processes that fleetd did not render
    tagged_claims: dict[str, int] = {}  # application_name of those it did, on every host, to connections


class ConnectionBudget(Value, frozen=True, kw_only=True):
    """What the fleet may claim, and the arithmetic behind it."""

    limit_connections: int
    reserve_connections: int
    others_connections: int
    refused: bool

    @property
    def budget_connections(self) -> int:
        return max(0, self.limit_connections - self.reserve_connections - self.others_connections)

    def room_connections(self, claims_connections: int) -> int:
        """Connections that may still be claimed; none while Postgres refuses clients."""
        return 0 if self.refused else max(0, self.budget_connections - claims_connections)

    def carries(self, claims_connections: int) -> bool:
        """Whether such claims, already counted, may be opened now."""
        return not self.refused and claims_connections <= self.budget_connections


class Claims(Value, frozen=True, kw_only=True):
    """Connections that everything fleetd rendered may open, by application_name, on every host."""

    connections: dict[str, int]

    @property
    def total_connections(self) -> int:
        return sum(self.connections.values())

    def staying_connections(self, policy: Policy, instances: tuple[InstanceView, ...]) -> int:
        """Without those of this host's instances that are on their way out or gone."""
        leaving = {application_name(v.number, policy.host) for v in instances if v.profile and not v.counts}
        return sum(n for name, n in self.connections.items() if name not in leaving)


def connection_limit(policy: ConnectionPolicy, facts: DatabaseFacts) -> int:
    """What an ordinary role can reach: max_connections − reserved, capped by role, database and configuration."""
    limits = [
        facts.max_connections - facts.reserved_connections,
        _limit_with_outsiders(facts.role_limit_connections, facts.client_connections, facts.role_connections),
        _limit_with_outsiders(
            facts.database_limit_connections, facts.client_connections, facts.database_connections
        ),
        policy.limit,
    ]
    return max(0, min(limit for limit in limits if limit is not None))


def _limit_with_outsiders(limit: int | None, all_clients: int, counted_clients: int) -> int | None:
    """A role's or database's limit, in terms of all clients: those it doesn't count are added on both sides."""
    return None if limit is None else limit + max(0, all_clients - counted_clients)


def remember_others(
    policy: ConnectionPolicy, memory: BudgetMemory, facts: DatabaseFacts, now_seconds: float
) -> BudgetMemory:
    """Others' connections as a decaying peak: a moment's dip is not room, a nightly dump is forgotten in time."""
    seen = float(facts.others_connections)
    if memory.at_seconds is not None and now_seconds >= memory.at_seconds:
        halvings = (now_seconds - memory.at_seconds) / policy.others_peak_half_life_seconds
        seen += max(0.0, memory.others_peak_connections - seen) * 0.5**halvings
    return structs.replace(memory, at_seconds=now_seconds, others_peak_connections=seen)


def remember_processes(memory: BudgetMemory, sidekiq: SidekiqFacts) -> BudgetMemory:
    """What every process may open, by its heartbeat; kept while Redis is unknown (law 3: unknown is not zero)."""
    tagged: dict[str, int] = {}
    foreign = 0
    for process in sidekiq.processes:
        tag = parse_tag(process.tag)
        if tag is None:
            foreign += claim_of(process)
            continue
        # Law 7: names beyond a bound share one entry, which counts them all.
        name = application_name(tag.number, tag.host)
        if name in tagged or len(tagged) < TAGGED_NAMES_MAX:
            tagged[name] = max(tagged.get(name, 0), claim_of(process))
        else:
            tagged["(more)"] = tagged.get("(more)", 0) + claim_of(process)
    return structs.replace(memory, foreign_claims_connections=foreign, tagged_claims=tagged)


def connection_budget(
    policy: ConnectionPolicy, facts: DatabaseFacts, memory: BudgetMemory
) -> ConnectionBudget:
    """The budget of this moment. Others: observed (decaying peak) or declared with foreign workers, the greater.

    Foreign workers are Sidekiq processes that fleetd did not render; they open lazily too. `memory` has already seen
    these facts.
    """
    others = max(
        math.ceil(memory.others_peak_connections - 1e-9),
        facts.others_connections,
        policy.declared_connections("database") + memory.foreign_claims_connections,
    )
    return ConnectionBudget(
        limit_connections=connection_limit(policy, facts),
        reserve_connections=policy.reserve,
        others_connections=others,
        refused=facts.refused,
    )


def count_claims(
    policy: Policy,
    instances: tuple[InstanceView, ...],
    memory: BudgetMemory,
    database: Known[DatabaseFacts] | Unknown | None,
) -> Claims:
    """What everything fleetd rendered may open now: starting, draining and strays included, on every host.

    The most of three counts for each name: what this host's systemd says is there or coming, what a heartbeat says
    (`memory` has already seen it), what Postgres sees open, also after the unit is gone. The scheduler's claim is
    set aside on a host that may have to start it.
    """
    by_name = {application_name(v.number, policy.host): v.claim_connections for v in instances}
    scheduler = application_name("scheduler", policy.host)
    if policy.scheduler.place != "elsewhere":
        by_name[scheduler] = max(by_name.get(scheduler, 0), policy.scheduler.claim_connections)
    observed = database.value.worker_connections if isinstance(database, Known) else {}
    for seen in (memory.tagged_claims, observed):
        for name, connections in seen.items():
            by_name[name] = max(by_name.get(name, 0), connections)
    return Claims(connections=by_name)


def memory_room_bytes(policy: Policy, machine: HostFacts, to_come_bytes: list[int]) -> int:
    """Memory that new instances may grow into; `to_come_bytes`: what each of those just started will still take."""
    return max(0, machine.memory_available_bytes - policy.memory.reserve_bytes - sum(to_come_bytes))
