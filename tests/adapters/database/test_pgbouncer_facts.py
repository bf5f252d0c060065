"""From rows of PgBouncer's console to facts: rows recorded from 1.18, and rows with the columns of newer versions."""

from __future__ import annotations

from typing import Any

import pytest

from fleetd.adapters.database.pgbouncer import NAME_LENGTH_MAX, POOLS_MAX, facts_from, settings_from
from fleetd.core.model.facts import PgBouncerFacts, PoolFacts
from tests.support.builders.pgbouncer_rows import VERSIONS, recorded

MASTODON = ("mastodon", "mastodon")


def facts(rows: dict[str, Any], mastodon: tuple[str, str] = MASTODON) -> PgBouncerFacts:
    settings = settings_from(rows["CONFIG"], rows["USERS"])
    return facts_from(settings, rows["LISTS"], rows["POOLS"], rows["DATABASES"], mastodon)


def pool(rows: dict[str, Any], mastodon: tuple[str, str] = MASTODON) -> PoolFacts:
    found = facts(rows, mastodon).mastodon_pool
    assert found is not None
    return found


def configure(rows: dict[str, Any], **values: str) -> dict[str, Any]:
    kept = [row for row in rows["CONFIG"] if row["key"] not in values]
    return {**rows, "CONFIG": kept + [{"key": key, "value": value} for key, value in values.items()]}


def test_every_generation_of_the_console_is_there() -> None:
    assert {version.rpartition(".")[0] for version in VERSIONS} == {"1.18", "1.21", "1.23", "1.24", "1.25"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_same_clients_and_servers(version: str) -> None:
    read = facts(recorded(version))
    assert read.client_connections == 7
    assert read.own_connections == 1
    assert [(p.database, p.user) for p in read.pools] == [MASTODON, ("shop", "other")]
    [mastodon, shop] = read.pools
    assert (mastodon.client_connections, mastodon.waiting_clients) == (4, 1)
    assert mastodon.longest_wait_seconds == 2.25
    assert (mastodon.active_servers, mastodon.server_connections) == (3, 3)
    assert (shop.client_connections, shop.waiting_clients, shop.server_connections) == (2, 0, 1)
    assert read.mastodon_pool == mastodon


@pytest.mark.parametrize(
    ("version", "client_limit", "sizes"),
    [
        # pool_size 3 + reserve 1. shop's 10 are limited by max_db_connections 2.
        ("1.18.0", 50, [4, 2]),
        ("1.21.0", 50, [4, 2]),
        # SHOW USERS repeats boss's pool_size 2 for mastodon. The lower of both counts.
        ("1.23.1", 50, [3, 2]),
        # mastodon's user may have 5 clients and has 4 of all 7. Its database may have 6.
        ("1.24.1", 5 + 3, [4, 2]),
        # pool_size 0 and no other bound: one server connection for each client
        ("1.25.1", 50, [50, 2]),
    ],
)
def test_limits_by_version(version: str, client_limit: int, sizes: list[int]) -> None:
    read = facts(recorded(version))
    assert read.client_limit_connections == client_limit
    assert [p.size_connections for p in read.pools] == sizes


def test_the_databases_client_limit_binds_if_it_is_lower() -> None:
    rows = recorded("1.24.1")
    rows["DATABASES"][0]["max_client_connections"] = 4
    assert facts(rows).client_limit_connections == 4 + 3


def test_global_limits_apply_to_users_without_their_own() -> None:
    rows = recorded("1.18.0")
    assert pool(configure(rows, max_user_connections="2")).size_connections == 2
    assert pool(configure(rows, reserve_pool_timeout="0")).size_connections == 3, "then the reserve is off"
    assert pool(configure(rows, reserve_pool_timeout="0.5")).size_connections == 4


def test_a_wildcard_database_has_a_row_only_once_it_has_been_used() -> None:
    rows = configure(recorded("1.18.0"), default_pool_size="7", reserve_pool_size="2")
    rows["DATABASES"] = [row for row in rows["DATABASES"] if row["name"] != "mastodon"]
    assert pool(rows).size_connections == 9
    rows["POOLS"] = [row for row in rows["POOLS"] if row["database"] != "mastodon"]
    assert facts(rows).mastodon_pool is None


def test_a_database_with_a_forced_user_has_that_users_pool() -> None:
    assert facts(recorded("1.18.0"), ("shop", "mastodon")).mastodon == ("shop", "other")
    assert pool(recorded("1.18.0"), ("shop", "mastodon")).client_connections == 2


def test_a_users_client_limit_never_seems_larger_behind_a_forced_user() -> None:
    rows = recorded("1.24.1")
    # 5 for mastodon. Its clients of shop are shown in the pool of `other`, so both of those count.
    assert facts(rows, ("shop", "mastodon")).client_limit_connections == 5 + 7 - (4 + 2)


def test_the_list_of_pools_is_bounded_and_always_has_mastodons() -> None:
    rows = recorded("1.18.0")
    [mastodon] = [row for row in rows["POOLS"] if row["database"] == "mastodon"]
    crowd = [{**mastodon, "database": f"d{n}", "cl_active": 1000} for n in range(POOLS_MAX + 10)]
    rows["POOLS"] = [*crowd, mastodon]
    assert len(facts(rows).pools) == POOLS_MAX
    assert pool(rows).client_connections == 4


def test_foreign_names_are_bounded_and_exact() -> None:
    """What can't be shown of them is escaped where they are shown."""
    rows = recorded("1.18.0")
    rows["POOLS"][-1]["database"] = "ev\x1b[2Jil"
    assert facts(rows).pools[-1].database == "ev\x1b[2Jil"
    rows["POOLS"][-1]["database"] = "x" * 500
    assert facts(rows).pools[-1].database == "x" * (NAME_LENGTH_MAX - 1) + "…"


@pytest.mark.parametrize(
    ("version", "mode", "kept", "forgets"),
    [
        ("1.18", "session", None, False),
        ("1.18", "transaction", None, True),
        ("1.18", "statement", None, True),
        ("1.25", "transaction", "0", True),
        ("1.25", "transaction", "200", False),
    ],
)
def test_who_forgets_prepared_statements(version: str, mode: str, kept: str | None, forgets: bool) -> None:
    values = {"pool_mode": mode} | ({} if kept is None else {"max_prepared_statements": kept})
    rows = configure(recorded(next(v for v in VERSIONS if v.startswith(version))), **values)
    if kept is None:
        rows["CONFIG"] = [row for row in rows["CONFIG"] if row["key"] != "max_prepared_statements"]
    rows["DATABASES"] = [{**row, "pool_mode": None} for row in rows["DATABASES"]]
    rows["USERS"] = [{**row, "pool_mode": ""} for row in rows["USERS"]]
    assert facts(rows).forgets_statements is forgets
    other = "session" if forgets else "transaction"
    rows["DATABASES"] = [{**row, "pool_mode": other} for row in rows["DATABASES"]]
    assert facts(rows).forgets_statements is (other != "session" and kept in (None, "0"))


@pytest.mark.parametrize("what", ["CONFIG", "LISTS"])
def test_answers_that_are_not_from_a_pgbouncer_console_are_no_reading(what: str) -> None:
    with pytest.raises((KeyError, StopIteration)):
        facts({**recorded("1.18.0"), what: []})
