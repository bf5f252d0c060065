"""The budget: how many connections may be claimed on each source that limits them (law 2).

Budget = limit − reserve − others. The sources are the one that workers connect to (Postgres, or PgBouncer's client
slots), Postgres behind PgBouncer, and a replica that Mastodon reads from. The tightest one binds.

Our connections can't always be told from others': through PgBouncer they have no names, a worker may not bear its name
(naming.py), and a Sidekiq process that fleetd did not render may hold some. Then there are two numbers for others. The
lower bound is what is seen beyond the claims of those workers: when our claims don't fit beside it, fleetd gives way.
The upper bound is everything that is seen: growth is checked against it, unless the configuration declares what others
take.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.core.capacity.claims import Claims, ProcessClaims
from fleetd.core.capacity.naming import NamingMemory
from fleetd.core.capacity.others import OthersMemory, remember_others
from fleetd.core.model.facts import DatabaseFacts, HostFacts, Known, PgBouncerFacts, Snapshot, Unknown, Value
from fleetd.core.model.policy_tables import ConnectionPolicy, Policy
from fleetd.core.model.reasons.base import ConnectionSource
from fleetd.core.model.reasons.counts import LimitSet, UnreadSource


class BudgetMemory(Value, frozen=True, kw_only=True):
    """Others' connections on each source, and the claims last read from heartbeats."""

    others: dict[str, OthersMemory] = {}
    naming: NamingMemory = NamingMemory()
    nameless_connections: int = 0  # what was claimed without names at the last reading
    processes: ProcessClaims = ProcessClaims()


class SourceBudget(Value, frozen=True, kw_only=True):
    """The budget of one source, with the numbers it is made of."""

    source: ConnectionSource
    limit_connections: int
    reserve_connections: int
    others_connections: int  # the lower bound: certainly others'
    bound_connections: int  # the upper bound: growth is checked against it
    seen_connections: int
    peak_connections: int
    declared_connections: int  # plus what Sidekiq processes that fleetd did not render may open
    open_connections: int
    rising: bool
    refused: bool
    exact: bool = True
    told_apart: bool = True
    doubted: bool = False  # whether it can be told apart is known in some seconds (naming.py)
    #: Postgres behind PgBouncer, if all pools fit: what they may open, so claims are not limited here. Else None.
    pool_connections: int | None = None
    limit_set: LimitSet = LimitSet()

    @property
    def budget_connections(self) -> int:
        return max(0, self.limit_connections - self.reserve_connections - self.others_connections)

    def headroom_connections(self, claims_connections: int) -> int | None:
        """Connections that may still be claimed; 0 while clients are refused; None: this source sets no limit."""
        if self.refused:
            return 0
        if self.pool_connections is not None:
            return None
        return max(0, self.limit_connections - self.reserve_connections - self.bound_connections - claims_connections)

    def overdrawn_connections(self, claims_connections: int) -> int:
        """By how many connections others, all claims and the reserve exceed the limit."""
        if self.refused or self.pool_connections is not None:
            return 0
        taken = self.reserve_connections + self.others_connections + claims_connections
        return max(0, taken - self.limit_connections)

    def excess_connections(self, claims_connections: int, staying_connections: int) -> int:
        """By how many connections the claims that stay exceed the budget.

        Where ours can't be told from others', the open connections without those that leave must fit as well.
        """
        if self.refused or self.pool_connections is not None:  # a refused reading repeats the last good numbers
            return 0
        over = staying_connections - self.budget_connections
        if not self.told_apart:
            leaving = claims_connections - staying_connections
            over = max(over, self.open_connections - leaving - (self.limit_connections - self.reserve_connections))
        return max(0, over)

    def carries(self, claims_connections: int) -> bool:
        """Whether all of these claims may be opened now."""
        if self.refused or self.pool_connections is not None:
            return not self.refused
        if self.doubted:
            return claims_connections <= self.limit_connections - self.reserve_connections - self.bound_connections
        return claims_connections <= self.budget_connections


class ConnectionBudget(Value, frozen=True, kw_only=True):
    """The budgets of all sources that could be read. While a watched source is unread, nothing grows above `min`."""

    sources: tuple[SourceBudget, ...]
    unread: tuple[UnreadSource, ...] = ()
    foreign_hosts: tuple[str, ...] = ()
    nameless: tuple[str, ...] = ()  # workers, by application_name, whose names were looked for and are missing

    def headroom_connections(self, claims_connections: int) -> int | None:
        """Connections that may still be claimed; None: no source that was read limits them."""
        left = [s.headroom_connections(claims_connections) for s in self.sources]
        return min((n for n in left if n is not None), default=None)

    def excess_connections(self, claims_connections: int, staying_connections: int) -> int:
        excess = [s.excess_connections(claims_connections, staying_connections) for s in self.sources]
        return max(excess, default=0)

    def carries(self, claims_connections: int) -> bool:
        return all(s.carries(claims_connections) for s in self.sources)

    def tightest(self, claims_connections: int) -> SourceBudget | None:
        """The source with the least headroom; of equals the one that workers connect to. None: none was read."""

        def left(source: SourceBudget) -> int:
            room = source.headroom_connections(claims_connections)
            if room is None:
                return 1_000_000
            return room if room > 0 else source.budget_connections - claims_connections

        return min(self.sources, key=left, default=None)


def connection_limit(limit: int | None, facts: DatabaseFacts) -> int:
    """The connections an ordinary role can reach: max_connections − reserved, capped by role, database and `limit`.

    Source: PostgreSQL documentation, "Connections and Authentication".
    """
    return _limit_and_setting(limit, facts)[0]


def _limit_and_setting(limit: int | None, facts: DatabaseFacts) -> tuple[int, LimitSet]:
    """The limit, and the setting that it comes from."""
    every, role, database = facts.client_connections, facts.role_limit_connections, facts.database_limit_connections
    reserved = facts.reserved_connections
    server = LimitSet(by="server", to_connections=facts.max_connections, reserved_connections=reserved)
    limits = [
        (facts.max_connections - reserved, server),
        (_limit_with_outsiders(role, every, facts.role_connections), LimitSet(by="role", to_connections=role or 0)),
        (
            _limit_with_outsiders(database, every, facts.database_connections),
            LimitSet(by="database", to_connections=database or 0),
        ),
        (limit, LimitSet(by="configuration", to_connections=limit or 0)),
    ]
    known = [(connections, setting) for connections, setting in limits if connections is not None]
    least, setting = min(known, key=lambda entry: entry[0])
    return max(0, least), setting


def _limit_with_outsiders(limit: int | None, all_clients: int, counted_clients: int) -> int | None:
    """A role's or database's limit, as a limit on all clients: those that it does not count are added to it."""
    return None if limit is None else limit + max(0, all_clients - counted_clients)


def connection_budget(
    policy: Policy, snapshot: Snapshot, claims: Claims, memory: BudgetMemory
) -> tuple[ConnectionBudget, BudgetMemory]:
    """The budget now, and the memory with this reading."""
    found = _SourceBudgets(policy.connections, claims, memory, snapshot.now_seconds)
    bouncer = snapshot.pgbouncer
    if bouncer is None:
        found.postgres(snapshot.database, "postgres", named=policy.connections.named)
    else:
        found.pgbouncer(bouncer)
        if isinstance(bouncer, Known) and snapshot.database is not None:
            found.behind(snapshot.database, bouncer.value)
        elif isinstance(snapshot.database, Unknown):
            found.miss("postgres", snapshot.database)
    if snapshot.replica is not None:
        found.postgres(snapshot.replica, "replica", named=policy.connections.named and bouncer is None)
    budget = ConnectionBudget(
        sources=tuple(found.budgets),
        unread=tuple(found.unread),
        foreign_hosts=memory.processes.foreign_hosts,
        nameless=tuple(sorted(claims.nameless & memory.naming.missing_seconds.keys())),
    )
    return budget, structs.replace(memory, others=found.others, nameless_connections=claims.nameless_connections)


class _SourceBudgets:
    """Collects the budgets of the sources, and which sources could not be read."""

    def __init__(self, policy: ConnectionPolicy, claims: Claims, memory: BudgetMemory, now_seconds: float) -> None:
        self.policy = policy
        self.claims = claims.total_connections
        self.nameless = claims.nameless_connections
        self.doubted = bool(claims.nameless) and not memory.naming.missing_seconds
        self.names_seen = memory.naming.seen
        self.more_nameless = self.nameless > memory.nameless_connections
        self.foreign = memory.processes.foreign_connections
        self.now = now_seconds
        self.others = dict(memory.others)
        self.budgets: list[SourceBudget] = []
        self.unread: list[UnreadSource] = []

    def miss(self, source: ConnectionSource, reading: Unknown | None) -> None:
        why = reading.why if reading is not None else "it is not watched"
        self.unread.append(UnreadSource(source=source, why=why))

    def postgres(
        self, reading: Known[DatabaseFacts] | Unknown | None, source: Literal["postgres", "replica"], *, named: bool
    ) -> None:
        if not isinstance(reading, Known):
            self.miss(source, reading)
            return
        facts = reading.value
        on: Literal["database", "replica"] = "replica" if source == "replica" else "database"
        limit = _limit_and_setting(self.policy.limit if on == "database" else None, facts)
        every = max(0, facts.client_connections - facts.own_connections)
        named = named and not facts.pooled
        seen = facts.others_connections if named else max(0, every - self.claims)
        self._found(source, limit, seen, every=every, named=named, on=on, refused=facts.refused, exact=facts.exact)

    def pgbouncer(self, reading: Known[PgBouncerFacts] | Unknown) -> None:
        if not isinstance(reading, Known):
            self.miss("pgbouncer", reading)
            return
        facts = reading.value
        limit = facts.client_limit_connections, LimitSet()
        if self.policy.limit is not None and self.policy.limit < limit[0]:
            limit = self.policy.limit, LimitSet(by="configuration", to_connections=self.policy.limit)
        every = max(0, facts.client_connections - facts.own_connections)
        seen = max(0, every - self.claims)
        self._found("pgbouncer", limit, seen, every=every, named=False, on="database", refused=facts.refused)

    def behind(self, reading: Known[DatabaseFacts] | Unknown, bouncer: PgBouncerFacts) -> None:
        """Add Postgres behind PgBouncer: all of PgBouncer's clients can open no more there than the pools' size."""
        if not isinstance(reading, Known):
            self.miss("postgres", reading)
            return
        facts = reading.value
        limit, setting = _limit_and_setting(None, facts)
        servers = sum(pool.server_connections for pool in bouncer.pools)
        pools = sum(max(pool.size_connections, pool.server_connections) for pool in bouncer.pools)
        every = max(0, facts.client_connections - facts.own_connections)
        direct = self._remembered("behind", max(0, every - servers), facts.refused)
        fits = direct.expected_connections + pools <= limit - self.policy.reserve
        through = 0 if fits else max(0, servers - self.claims)
        others = direct.expected_connections + through
        self.budgets.append(
            SourceBudget(
                source="postgres",
                limit_connections=limit,
                reserve_connections=self.policy.reserve,
                others_connections=others,
                bound_connections=others if fits else direct.expected_connections + servers,
                seen_connections=direct.seen_connections + through,
                peak_connections=direct.fading_peak_connections,
                declared_connections=0,
                open_connections=every,
                rising=direct.rise_connections > 0,
                refused=facts.refused,
                exact=facts.exact,
                told_apart=fits,
                pool_connections=pools if fits else None,
                limit_set=setting,
            )
        )

    def _found(
        self,
        source: ConnectionSource,
        limit: tuple[int, LimitSet],
        seen: int,
        *,
        every: int,
        named: bool,
        on: Literal["database", "replica"],
        refused: bool,
        exact: bool = True,
    ) -> None:
        told_apart = named and not self.foreign and not self.nameless
        certain = self.others.pop(f"{source}, certainly", None) if named and not self.nameless else None
        if (
            certain is not None and self.names_seen
        ):  # names are seen again, so the peak of what bore none is not others'
            self.others[source] = certain
        possibly = self._remembered(source, seen, refused)
        others = self._certainly(source, seen, refused) if named and self.nameless else possibly
        declared = self.policy.declared_connections(on)
        sure = max(others.expected_connections, declared + self.foreign)
        bound = sure
        if not told_apart and not declared:  # counts what a foreign process has open twice: it is an upper bound
            bound = max(sure, (possibly.expected_connections if named else every) + self.foreign)
        self.budgets.append(
            SourceBudget(
                source=source,
                limit_connections=limit[0],
                limit_set=limit[1],
                reserve_connections=self.policy.reserve,
                others_connections=sure,
                bound_connections=bound,
                seen_connections=others.seen_connections,
                peak_connections=others.fading_peak_connections,
                declared_connections=declared + self.foreign,
                open_connections=every,
                rising=others.rise_connections > 0,
                refused=refused,
                exact=exact,
                told_apart=told_apart,
                doubted=named and self.doubted,
            )
        )

    def _certainly(self, source: ConnectionSource, seen: int, refused: bool) -> OthersMemory:
        """Others without what nameless workers may have open. What was remembered before they were found is theirs."""
        key = f"{source}, certainly"
        if self.more_nameless and not refused:
            self.others.pop(key, None)
        return self._remembered(key, max(0, seen - self.nameless), refused)

    def _remembered(self, key: str, seen: int, refused: bool) -> OthersMemory:
        before = self.others.get(key)
        if before is not None and refused:  # it repeats the last good numbers, which are remembered already
            return before
        memory = remember_others(before, seen, self.now, self.policy.others_peak_half_life_seconds)
        if not refused:
            self.others[key] = memory
        return memory


def memory_left_bytes(policy: Policy, machine: HostFacts, to_come_bytes: list[int]) -> int:
    """Memory that new instances may use. `to_come_bytes`: how much each young instance will still grow."""
    return max(0, machine.memory_available_bytes - policy.memory.reserve_bytes - sum(to_come_bytes))
