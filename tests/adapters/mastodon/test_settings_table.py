"""Mastodon's settings are read as each of its releases reads them.

settings_table.jsonl holds inputs, and what the releases themselves made of them. It was produced once, by running the
sources that each release locks, under Ruby: for Mastodon 4.2, 4.3, 4.4, 4.5 and 4.6 dotenv 2.8.1, 3.1.4, 3.1.8, 3.1.8,
3.2.0;
Mastodon's own redis_config.rb or redis_configuration.rb with addressable 2.8.5, 2.8.7, 2.9.0, 2.9.0, 2.9.0, and behind
it redis-rb 4.8.1, 4.8.1, redis-client 0.24.0, 0.26.1, 0.29.0 as Sidekiq calls it; Mastodon's own database.yml and
database_helper.rb with ActiveRecord 7.0.8, 7.1.6, 8.0.4.1, 8.0.4.1, 8.1.3; Ruby's uri 0.12.2, 0.13.3, 1.0.4, 1.0.4,
1.1.1 and the scalars of psych 5.0.1, 5.1.2, 5.2.6, 5.2.6, 5.4.0. Sidekiq's concurrency was 7. A command in a value was
not run but stands as COMMAND(…). `fails`: Mastodon does not start with it or has nothing that it can connect to (no
host or socket, a port out of range, a mode that libpq refuses). No code of those projects is here.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from fleetd.adapters.mastodon.database_rules import database_settings, parameters_of, replica_settings
from fleetd.adapters.mastodon.dotenv import NAMES, Variables, read_dotenv
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.adapters.mastodon.releases import Release
from fleetd.config.connections import RedisSettings
from fleetd.errors import ConfigProblem
from tests.support.project import PROJECT

TABLE = PROJECT / "tests/adapters/mastodon/settings_table.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text().splitlines()]
REFUSED_SHARE_MAX = 0.05
#: What an installation by the book has must never be refused.
BY_THE_BOOK = ("as the setup task writes it", "as the guide has it", "the guide", "several files", "nothing set")


def cells(part: str) -> list[tuple[dict[str, Any], Release, dict[str, Any]]]:
    """A row, a release and what that made of it."""
    return [
        (row, (int(release[0]), int(release[2:])), expected["is"])
        for row in ROWS
        if row["part"] == part
        for expected in row["expected"]
        for release in expected["releases"]
    ]


def files(row: dict[str, Any]) -> list[tuple[str, str]] | None:
    """(name, text); None: one is not UTF-8, which is said where it is read."""
    texts = []
    for name in NAMES:
        if name not in row["files"]:
            continue
        text = row["files"][name]
        try:
            texts.append((name, text if isinstance(text, str) else base64.b64decode(text["base64"]).decode()))
        except UnicodeDecodeError:
            return None
    return texts


def dotenv(row: dict[str, Any], release: Release, expected: dict[str, Any]) -> tuple[Any, Any, bool]:
    """What was read, what is expected, and whether a part of it was refused."""
    texts, outside = files(row), row.get("environment", {})
    if texts is None:
        return {"fails": True}, expected, False
    variables = read_dotenv(texts, outside, release)
    if "fails" in expected:
        refused = any(problems_of(variables, name) for name in ("DB_PASS", "DB_USER"))
        return {"fails": bool(variables.broken) or refused}, expected, False
    got = {name: value for name, value in variables.known().items() if outside.get(name) != value}
    commands = {name for name, value in expected["environment"].items() if "COMMAND(" in value}
    for name in commands:
        assert "line" in str(problems_of(variables, name)[0])
    wanted = {name: value for name, value in expected["environment"].items() if name not in commands}
    return (got, variables.broken), (wanted, []), bool(commands)


def problems_of(variables: Variables, name: str) -> list[ConfigProblem]:
    """Why it is refused."""
    problems: list[ConfigProblem] = []
    variables.get(name, problems)
    return problems


def redis(row: dict[str, Any], release: Release, expected: dict[str, Any]) -> tuple[Any, Any, bool]:
    """As above."""
    problems: list[ConfigProblem] = []
    got = redis_settings(Variables(row["environment"]), problems, release)
    if "fails" in expected:
        return {"fails": got is None}, expected, False
    assert (got is None) is bool(problems)
    return (None if got is None else parts(got)), expected, got is None


def parts(settings: RedisSettings) -> dict[str, Any]:
    """In the table's words."""
    names = (
        "sentinel_master unix_socket username password sentinel_username sentinel_password namespace db tls"
        if settings.unix_socket or settings.sentinels
        else "host port username password namespace db tls"
    )
    found = {name: value for name in names.split() if (value := getattr(settings, name)) is not None}
    return found | ({"sentinels": [list(one) for one in settings.sentinels]} if settings.sentinels else {})


def database(row: dict[str, Any], release: Release, expected: dict[str, Any]) -> tuple[Any, Any, bool]:
    """As above. The pool is compared where an address has one: else fleetd sets DB_POOL."""
    variables, problems = Variables(row["environment"]), list[ConfigProblem]()
    found = {
        "primary": database_settings(variables, problems, release),
        "replica": replica_settings(variables, problems, release),
    }
    if "fails" in expected:
        return {"fails": bool(problems)}, expected, False
    if problems:
        return None, expected, True
    got = {}
    for which, one in found.items():
        if one is None:
            continue
        parameters = parameters_of(variables, problems, release, which)  # type: ignore[arg-type]
        assert parameters is not None
        pool = expected[which]["pool"] if one.pool is None and which in expected else one.pool
        got[which] = {"libpq": parameters.libpq, "prepared_statements": parameters.prepared_statements, "pool": pool}
    return got, expected, False


PARTS = {"dotenv": dotenv, "redis": redis, "database": database}


def test_the_table_is_large_and_covers_every_release() -> None:
    assert len(ROWS) >= 300
    for row in ROWS:
        assert sorted(r for one in row["expected"] for r in one["releases"]) == ["4.2", "4.3", "4.4", "4.5", "4.6"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_read_is_what_mastodon_reads(part: str) -> None:
    wrong, refused = [], 0
    for row, release, expected in cells(part):
        got, wanted, is_refused = PARTS[part](row, release, expected)
        refused += is_refused
        if is_refused and row["about"] in BY_THE_BOOK:
            wrong.append((row, release, "refused"))
        elif got != wanted and got is not None:
            wrong.append((row, release, got))
    assert wrong == []
    assert refused <= REFUSED_SHARE_MAX * len(cells(part))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("DATABASE_URL", 5), ("PRIMARY_DATABASE_URL", 5), ("REPLICA_DATABASE_URL", None)],
)
def test_a_pool_in_an_address_beats_db_pool(name: str, expected: int | None) -> None:
    found = database_settings(Variables({name: "postgresql://h/d?pool=5", "DB_POOL": "25"}), [])
    assert found is not None
    assert found.pool == expected
