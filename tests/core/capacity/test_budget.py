"""The budget, with numbers worked out by hand."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.capacity.budget import (
    BudgetMemory,
    ConnectionBudget,
    SourceBudget,
    connection_budget,
    connection_limit,
    memory_left_bytes,
)
from fleetd.core.capacity.claims import Claims, ProcessClaims
from fleetd.core.model.facts import DatabaseFacts, PgBouncerFacts, Unknown
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy, DeclaredClaim, MemoryPolicy, Policy, Profile
from fleetd.core.model.reasons.counts import UnreadSource
from tests.support.builders.readings import AWAY, MIB, bouncer, database, machine, snapshot
from tests.support.world.ports import policy

NO_STOCK = ProcessClaims()
STOCK = ProcessClaims(foreign_connections=27, foreign_hosts=("main",))


def declares(connections: int, *, on: str = "database", **more: object) -> ConnectionPolicy:
    claim = DeclaredClaim(name="web", connections=connections, on=on)  # type: ignore[arg-type]
    return ConnectionPolicy(declared=(claim,), **more)  # type: ignore[arg-type]


def budget_of(
    rules: ConnectionPolicy | None = None,
    *,
    postgres: DatabaseFacts | None = None,
    pgbouncer: PgBouncerFacts | Unknown | None = None,
    replica: DatabaseFacts | Unknown | None = None,
    claims: int = 0,
    processes: ProcessClaims = NO_STOCK,
    watch_postgres: bool = True,
) -> ConnectionBudget:
    shot = snapshot(policy(connections=rules), postgres=postgres, pgbouncer=pgbouncer, replica=replica)
    if not watch_postgres:
        shot = structs.replace(shot, database=None)
    made = policy(connections=rules)
    ours = Claims(connections={"mastodon-sidekiq@1.w1": claims})
    return connection_budget(made, shot, ours, BudgetMemory(processes=processes))[0]


def only(budget: ConnectionBudget) -> SourceBudget:
    [source] = budget.sources
    return source


@pytest.mark.parametrize(
    ("facts", "limit"),
    [
        (database(), 97),
        (database(reserved=8), 92),
        # The role may have 40. It has 30 of the 50 clients, and the other 20 come on top.
        (database(clients=50, role=30, role_limit=40), 60),
        (database(clients=50, in_database=45, database_limit=50), 55),
        (database(role_limit=0), 20),
        (database(maximum=2, reserved=3), 0),
    ],
)
def test_limit_is_the_lowest_of_all(facts: DatabaseFacts, limit: int) -> None:
    assert connection_limit(None, facts) == limit


def test_a_configured_limit_lowers_and_never_raises() -> None:
    assert connection_limit(60, database()) == 60
    assert connection_limit(600, database()) == 97


def test_connections_without_one_of_our_names_are_others() -> None:
    facts = database(clients=50, workers={"mastodon-sidekiq@1.w1": 12})
    assert facts.others_connections == 37  # 50 − 12 − fleetd's 1


def test_budget_is_limit_minus_reserve_minus_others() -> None:
    budget = budget_of(postgres=database(clients=21))
    assert only(budget).budget_connections == 97 - 10 - 20
    assert budget.headroom_connections(60) == 7
    assert budget.headroom_connections(68) == 0
    assert budget.carries(67)
    assert not budget.carries(68)


def test_declared_others_count_when_more_than_seen() -> None:
    assert only(budget_of(declares(50), postgres=database(clients=21))).others_connections == 50
    assert only(budget_of(declares(10), postgres=database(clients=21))).others_connections == 20


def test_a_large_site_has_connections_for_all_its_eight_instances() -> None:
    """8 × 60 threads with a pool of 90, the scheduler, 700 connections, web with 8 × 15: all of them open."""
    big = Profile(
        name="p",
        order="strict",
        queues=(("default", 1),),
        threads=60,
        db_pool=90,
        numbers=tuple(map(InstanceKey, range(1, 9))),
        min_instances=1,
        max_instances=8,
    )
    claims = 8 * big.claim_connections + 12
    workers = {f"mastodon-sidekiq@{n}.w1": 61 for n in range(1, 9)}
    seen = database(maximum=700, clients=120 + 8 * 61 + 1, workers=workers)
    assert claims == 8 * 62 + 12
    assert budget_of(declares(120), postgres=seen, claims=claims).carries(claims)


# -- where ours can't be told from others'


def test_foreign_workers_count_by_what_they_may_open() -> None:
    source = only(budget_of(declares(10), postgres=database(clients=21), processes=STOCK))
    assert source.others_connections == source.bound_connections == 37


def test_beside_a_foreign_worker_growth_counts_all_that_others_may_own() -> None:
    # 20 are seen. They are web's, or belong to the stock unit, which may open 27.
    budget = budget_of(postgres=database(clients=21), processes=STOCK)
    assert only(budget).others_connections == 27
    assert only(budget).bound_connections == 20 + 27
    assert budget.headroom_connections(0) == 97 - 10 - 47
    assert budget.carries(97 - 10 - 27), "it gives way to what is surely others' only"


def test_through_pgbouncer_others_are_between_the_excess_over_our_claims_and_all() -> None:
    budget = budget_of(pgbouncer=bouncer(limit=200, clients=91), claims=60, watch_postgres=False)
    assert only(budget).others_connections == 30
    assert only(budget).bound_connections == 90
    assert budget.headroom_connections(60) == 200 - 10 - 90 - 60


def test_through_pgbouncer_a_declaration_binds_unless_more_is_seen() -> None:
    def source(declared: int) -> SourceBudget:
        facts = bouncer(limit=200, clients=91)
        return only(budget_of(declares(declared), pgbouncer=facts, claims=60, watch_postgres=False))

    assert source(50).others_connections == source(50).bound_connections == 50
    assert source(20).others_connections == source(20).bound_connections == 30


def test_instances_give_way_when_pgbouncer_is_full_whoever_fills_it() -> None:
    budget = budget_of(pgbouncer=bouncer(limit=100, clients=96), claims=60, watch_postgres=False)
    # At least 35 are others', so our 60 are 5 more than 100 − 10 − 35 = 55. Also, 95 are open of the usable 90.
    assert budget.excess_connections(60, 60) == 5
    assert budget.excess_connections(60, 53) == 0, "one that leaves gives its 7 back"


def test_unnamed_workers_on_postgres_itself_are_treated_the_same() -> None:
    rules = ConnectionPolicy(named=False)
    budget = budget_of(rules, postgres=database(clients=51), claims=40)
    assert only(budget).others_connections == 10
    assert only(budget).bound_connections == 50


# -- several sources


def test_postgres_behind_pgbouncer_does_not_bind_while_the_whole_pool_fits() -> None:
    # 97 − 10 are usable. There are 20 servers of a pool of 20, and 10 direct clients.
    budget = budget_of(postgres=database(clients=31), pgbouncer=bouncer(limit=400, clients=41), claims=30)
    behind = next(s for s in budget.sources if s.source == "postgres")
    assert behind.others_connections == 10
    assert behind.pool_connections == 20
    assert behind.headroom_connections(30) is None
    assert budget.tightest(30) is not behind


def test_postgres_behind_pgbouncer_binds_when_its_pool_can_never_be_filled() -> None:
    # 80 clients bypass PgBouncer. Of the 87 usable, 7 are left for a pool of 20, which has 5 servers open.
    facts = bouncer(limit=400, clients=41, servers=5)
    budget = budget_of(declares(1), postgres=database(clients=86), pgbouncer=facts, claims=4)
    behind = next(s for s in budget.sources if s.source == "postgres")
    assert behind.pool_connections is None
    assert behind.others_connections == 80 + 1
    assert budget.tightest(4) is behind
    assert budget.headroom_connections(4) == 0


def test_a_replica_has_a_budget_of_its_own() -> None:
    budget = budget_of(
        declares(60), postgres=database(maximum=300, clients=21), replica=database(maximum=50, clients=11)
    )
    assert {s.source: s.others_connections for s in budget.sources} == {"postgres": 60, "replica": 10}
    assert budget.headroom_connections(0) == 47 - 10 - 10
    tightest = budget.tightest(0)
    assert tightest is not None
    assert tightest.source == "replica"
    declared = budget_of(declares(20, on="replica"), postgres=database(), replica=database())
    assert {s.source: s.others_connections for s in declared.sources} == {"postgres": 19, "replica": 20}


def test_an_unreadable_source_makes_headroom_unknown_while_the_others_still_bind() -> None:
    budget = budget_of(postgres=database(clients=90), replica=AWAY)
    assert budget.unread == (UnreadSource(source="replica", why="no answer"),)
    assert not budget.carries(10)
    away = budget_of(pgbouncer=AWAY, postgres=database())
    assert away.unread == (UnreadSource(source="pgbouncer", why="no answer"),)
    assert budget_of(postgres=None).unread == (UnreadSource(source="postgres", why="no answer"),)
    assert budget_of(postgres=database()).unread == ()


def test_a_source_that_refuses_has_no_headroom_but_stops_nothing() -> None:
    budget = budget_of(postgres=database(refused=True))
    assert budget.headroom_connections(0) == 0
    assert not budget.carries(0)
    assert budget.excess_connections(200, 200) == 0, "its numbers are old"


def test_the_numbers_of_a_refused_reading_are_not_counted_twice() -> None:
    rules: Policy = policy()
    ours = Claims(connections={})
    calm = snapshot(rules, now=1000.0, postgres=database(clients=61))
    _, memory = connection_budget(rules, calm, ours, BudgetMemory())
    later = snapshot(rules, now=1300.0, postgres=database(clients=61, refused=True))
    _, kept = connection_budget(rules, later, ours, memory)
    assert kept == memory


def test_memory_left_excludes_what_young_instances_will_still_take() -> None:
    rules = policy(memory=MemoryPolicy(reserve_bytes=512 * MIB, instance_bytes=1024 * MIB))
    facts = machine(rules, available=4096 * MIB)
    assert memory_left_bytes(rules, facts, []) == 3584 * MIB
    # One was just ordered (0 of 1024) and one is at 600, so 1024 + 424 are still to come.
    assert memory_left_bytes(rules, facts, [1024 * MIB, 424 * MIB]) == 2136 * MIB
    assert memory_left_bytes(rules, machine(rules, available=0), []) == 0
