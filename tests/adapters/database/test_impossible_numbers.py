"""Numbers in the answers of Postgres and PgBouncer that can't be: no reading, and a sentence that says which."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fleetd.adapters.database.pgbouncer import PgBouncerConsole, facts_from, settings_from
from fleetd.adapters.database.postgres import facts_from as postgres_facts
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.bounds import ImpossibleNumberError
from fleetd.errors import SourceUnavailableError
from tests.support.builders.database_rows import ConsoleAnswers, postgres_row
from tests.support.builders.pgbouncer_rows import VERSIONS, recorded

DIGITS = int("9" * 400)
IMPOSSIBLE: list[Any] = [
    "inf",
    "-inf",
    "nan",
    -1,
    "-1",
    2**31,
    DIGITS,
    str(DIGITS),
    "many",
    1.5,
    float("nan"),
    b"x",
    [],
]
MASTODON = ("mastodon", "mastodon")


def console() -> PgBouncerConsole:
    settings = PostgresSettings(host="127.0.0.1", port=6432, user="mastodon", dbname="pgbouncer")
    return PgBouncerConsole(settings, mastodon=MASTODON, monotonic=lambda: 0.0)


def read(rows: dict[str, Any]) -> Any:
    return asyncio.run(console()._count(ConsoleAnswers(rows)))  # type: ignore[arg-type]


def configured(rows: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    kept = [row for row in rows["CONFIG"] if row["key"] != key]
    return {**rows, "CONFIG": [*kept, {"key": key, "value": value}]}


@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e10", "9" * 400, "many"])
def test_an_impossible_max_client_conn_is_no_reading(value: str) -> None:
    with pytest.raises(SourceUnavailableError) as caught:
        read(configured(recorded("1.25.1"), "max_client_conn", value))
    assert "can't be right: max_client_conn is not a number from 0 to 2147483647" in str(caught.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_highest_max_client_conn_is_read(version: str) -> None:
    """Written by people who want no limit."""
    rows = configured(recorded(version), "max_client_conn", str(2**31 - 1))
    assert read(rows).client_limit_connections <= 2**31 - 1


@pytest.mark.parametrize("value", IMPOSSIBLE, ids=repr)
@pytest.mark.parametrize("version", VERSIONS)
def test_no_number_of_the_console_raises_anything_else(version: str, value: Any) -> None:
    rows = recorded(version)
    read_whole = 0
    for what in ("LISTS", "POOLS", "DATABASES", "USERS"):
        for index, row in enumerate(rows[what]):
            for column in row:
                changed = [*rows[what]]
                changed[index] = {**row, column: value}
                try:
                    facts = read({**rows, what: changed})
                except SourceUnavailableError:
                    pass
                else:
                    read_whole += 1
                    assert 0 <= facts.client_connections < 2**40
                    assert all(0 <= pool.size_connections < 2**40 for pool in facts.pools)
    assert read_whole > 0, "columns that fleetd does not use may hold anything"


@pytest.mark.parametrize("column", ["cl_active", "cl_waiting", "maxwait", "maxwait_us", "sv_active", "sv_used"])
def test_an_impossible_number_of_a_pool_is_named(column: str) -> None:
    rows = recorded("1.18.0")
    rows["POOLS"][0][column] = str(DIGITS)
    settings = settings_from(rows["CONFIG"], rows["USERS"])
    with pytest.raises(ImpossibleNumberError, match=f"^{column} is not"):
        facts_from(settings, rows["LISTS"], rows["POOLS"], rows["DATABASES"], MASTODON)


COUNTS = ("max_connections", "reserved_connections", "clients", "of_role", "of_database", "hidden", "own")


@pytest.mark.parametrize("value", [v for v in IMPOSSIBLE if v != -1], ids=repr)
@pytest.mark.parametrize("column", [*COUNTS, "role_limit", "database_limit"])
def test_an_impossible_number_of_postgres_is_no_reading(column: str, value: Any) -> None:
    with pytest.raises(SourceUnavailableError, match=rf"Postgres here can't be right: {column} is not"):
        postgres_facts(postgres_row() | {column: value}, "Postgres here", standby=False)


@pytest.mark.parametrize("column", COUNTS)
def test_a_negative_count_of_postgres_is_no_reading(column: str) -> None:
    with pytest.raises(SourceUnavailableError, match=column):
        postgres_facts(postgres_row() | {column: -1}, "Postgres here", standby=False)


def test_no_limit_of_postgres_is_minus_one() -> None:
    row = postgres_row() | {"role_limit": -1, "database_limit": 2**31 - 1}
    facts = postgres_facts(row, "Postgres here", standby=False)
    assert (facts.role_limit_connections, facts.database_limit_connections) == (None, 2**31 - 1)


@pytest.mark.parametrize("value", [*IMPOSSIBLE, None], ids=repr)
def test_an_impossible_number_of_backends_at_work_is_unknown(value: Any) -> None:
    row = postgres_row() | {"active": value, "stalled": value}
    facts = postgres_facts(row, "Postgres here", standby=False)
    assert (facts.active_backends, facts.stalled_backends) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"workers": json.dumps({"mastodon-sidekiq@1.w1": DIGITS})},
        {"workers": '{"mastodon-sidekiq@1.w1": NaN}'},
        {"workers": '{"mastodon-sidekiq@1.w1": %s}' % ("9" * 5000)},
        {"workers": '{"mastodon-sidekiq@1.w1": -3}'},
        {"workers": "[" * 100_000},
        {"workers": "[]"},
        {"workers": None},
        {"consumers": '[["mastodon", "10.0.0.1", "puma", Infinity]]'},
        {"consumers": '[["mastodon"]]'},
        {"consumers": "7"},
        {"role_limit": []},
    ],
    ids=lambda change: str(change)[:40],
)
def test_nonsense_of_postgres_is_no_reading(change: dict[str, Any]) -> None:
    with pytest.raises(SourceUnavailableError):
        postgres_facts(postgres_row() | change, "Postgres here", standby=False)


@pytest.mark.parametrize("column", list(postgres_row()))
def test_a_row_that_lacks_a_column_is_no_reading(column: str) -> None:
    row = postgres_row()
    del row[column]
    if column not in {"role", "database", "own_user"}:  # only named in sentences
        with pytest.raises(SourceUnavailableError, match="is that really Postgres"):
            postgres_facts(row, "Postgres here", standby=False)
