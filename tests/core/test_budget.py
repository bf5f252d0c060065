"""The budget, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from fleetd.core.budget import (
    TAGGED_NAMES_MAX,
    BudgetMemory,
    ConnectionBudget,
    connection_budget,
    connection_limit,
    count_claims,
    memory_room_bytes,
    remember_others,
    remember_processes,
)
from fleetd.core.facts import DatabaseFacts, Known
from fleetd.core.policy import ConnectionPolicy, DeclaredClaim, MemoryPolicy, SchedulerPolicy
from tests.core.facts_by_hand import (
    AWAY,
    MIB,
    database,
    machine,
    process,
    seen,
    sidekiq,
    snapshot,
    systemd,
    tag,
    unit,
)
from tests.fakes import policy, strict

ANY = ConnectionPolicy()


@pytest.mark.parametrize(
    ("facts", "limit"),
    [
        (database(), 97),
        (database(reserved=8), 92),
        # The role may have 40, has 30 of all 50 clients: the 20 of others stand beside it.
        (database(clients=50, role=30, role_limit=40), 60),
        (database(clients=50, in_database=45, database_limit=50), 55),
        (database(role_limit=0), 20),
        (database(maximum=2, reserved=3), 0),
    ],
)
def test_limit_is_the_lowest_of_all(facts: DatabaseFacts, limit: int) -> None:
    assert connection_limit(ANY, facts) == limit


def test_a_configured_limit_lowers_and_never_raises() -> None:
    assert connection_limit(ConnectionPolicy(limit=60), database()) == 60
    assert connection_limit(ConnectionPolicy(limit=600), database()) == 97


def test_others_are_what_is_not_ours_by_name() -> None:
    facts = database(clients=50, workers={"mastodon-sidekiq@1.w1": 12})
    assert facts.others_connections == 37  # 50 − 12 − fleetd's 1


def test_peak_of_others_halves_in_its_half_life() -> None:
    memory = remember_others(ANY, BudgetMemory(), database(clients=61), 100.0)
    assert memory.others_peak_connections == 60.0
    # 300 s later 20 are seen: half of the 40 above them is kept.
    memory = remember_others(ANY, memory, database(clients=21), 400.0)
    assert memory.others_peak_connections == pytest.approx(40.0)


def test_peak_rises_at_once() -> None:
    memory = remember_others(ANY, BudgetMemory(), database(clients=21), 100.0)
    assert remember_others(ANY, memory, database(clients=81), 105.0).others_peak_connections == 80.0


def test_budget_is_limit_less_reserve_less_others() -> None:
    memory = remember_others(ANY, BudgetMemory(), database(clients=21), 100.0)
    budget = connection_budget(ANY, database(clients=21), memory)
    assert budget.budget_connections == 97 - 10 - 20
    assert budget.room_connections(60) == 7
    assert budget.room_connections(68) == 0


def test_declared_others_count_when_more_than_seen() -> None:
    budget = connection_budget(
        ConnectionPolicy(declared=(DeclaredClaim(name="web", connections=50),)),
        database(clients=21),
        BudgetMemory(),
    )
    assert budget.others_connections == 50


def test_foreign_workers_count_by_what_they_may_open() -> None:
    stock = process("", threads=25, hostname="main")
    memory = remember_processes(BudgetMemory(), sidekiq(processes=(stock,)))
    assert (
        connection_budget(
            ConnectionPolicy(declared=(DeclaredClaim(name="web", connections=10),)),
            database(clients=21),
            memory,
        ).others_connections
        == 37
    )


def test_refusing_postgres_has_no_room_and_carries_nothing() -> None:
    budget = ConnectionBudget(
        limit_connections=97, reserve_connections=10, others_connections=0, refused=True
    )
    assert budget.room_connections(0) == 0
    assert not budget.carries(0)


def claims_of(
    *beats: object, observed: dict[str, int] | None = None, place: str = "elsewhere"
) -> dict[str, int]:
    """@1 serves, @2 boots, @3 stops, @4 is down; 7 connections each."""
    scheduler = SchedulerPolicy(place=place, threads=5, db_pool=7)  # type: ignore[arg-type]
    rules = policy(strict(numbers="1-4"), scheduler=scheduler)
    units = systemd({1: unit(), 2: unit("activating"), 3: unit("deactivating")})
    shot = snapshot(rules, redis=sidekiq(processes=beats), units=units)  # type: ignore[arg-type]
    memory = remember_processes(BudgetMemory(), sidekiq(processes=beats))  # type: ignore[arg-type]
    postgres = AWAY if observed is None else Known(value=database(workers=observed))
    return count_claims(rules, seen(rules, shot), memory, postgres).connections


def test_claims_count_what_starts_and_what_drains() -> None:
    assert claims_of() == {
        "mastodon-sidekiq@1.w1": 7,
        "mastodon-sidekiq@2.w1": 7,
        "mastodon-sidekiq@3.w1": 7,
        "mastodon-sidekiq@4.w1": 0,
        "mastodon-sidekiq-scheduler.w1": 0,
    }


def test_claims_come_from_what_a_process_was_started_with() -> None:
    # Configured now: 5 threads, pool 7. It was started with 25 threads and a pool of 20.
    beat = process(tag(1, pool=20), threads=25)
    assert claims_of(beat)["mastodon-sidekiq@1.w1"] == 20


def test_strays_count() -> None:
    other_host = process(tag(1, host="w2", pool=30), threads=60)
    not_configured = process(tag(77), threads=5)
    found = claims_of(other_host, not_configured)
    assert found["mastodon-sidekiq@1.w2"] == 30
    assert found["mastodon-sidekiq@77.w1"] == 7


def test_connections_seen_under_a_name_count_after_its_unit_is_gone() -> None:
    assert claims_of(observed={"mastodon-sidekiq@4.w1": 5})["mastodon-sidekiq@4.w1"] == 5


def test_scheduler_is_set_aside_where_it_may_have_to_start() -> None:
    assert claims_of(place="auto")["mastodon-sidekiq-scheduler.w1"] == 7
    assert claims_of(place="here")["mastodon-sidekiq-scheduler.w1"] == 7


def test_names_beyond_the_bound_share_an_entry_and_still_count() -> None:
    beats = tuple(process(tag(n % 9999, host=f"h{n}")) for n in range(TAGGED_NAMES_MAX + 10))
    memory = remember_processes(BudgetMemory(), sidekiq(processes=beats))
    assert len(memory.tagged_claims) == TAGGED_NAMES_MAX + 1
    assert sum(memory.tagged_claims.values()) == 7 * (TAGGED_NAMES_MAX + 10)


def test_memory_carries_what_is_left_after_what_still_grows() -> None:
    rules = policy(memory=MemoryPolicy(reserve_bytes=512 * MIB, instance_bytes=1024 * MIB))
    facts = machine(rules, available=4096 * MIB)
    assert memory_room_bytes(rules, facts, []) == 3584 * MIB
    # One just ordered (0 of 1024) and one at 600: 1024 + 424 still to come.
    assert memory_room_bytes(rules, facts, [1024 * MIB, 424 * MIB]) == 2136 * MIB
    assert memory_room_bytes(rules, machine(rules, available=0), []) == 0
