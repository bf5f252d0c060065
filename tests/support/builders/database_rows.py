"""Answers of Postgres and of PgBouncer's console, without a server."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self


def postgres_row(**changed: Any) -> dict[str, Any]:
    """What postgres.QUERY gives for a cluster with 20 clients of others."""
    row: dict[str, Any] = {
        "in_recovery": False,
        "own_user": "fleetd",
        "role": "mastodon",
        "database": "mastodon_production",
        "max_connections": 200,
        "reserved_connections": 3,
        "role_limit": -1,
        "database_limit": -1,
        "clients": 21,
        "of_role": 20,
        "of_database": 20,
        "hidden": 0,
        "own": 1,
        "workers": "{}",
        "consumers": '[["mastodon", "10.0.0.1", "puma", 20]]',
        "active": 2,
        "stalled": 0,
    }
    return row | changed


class _Cursor(AbstractAsyncContextManager["_Cursor"]):
    def __init__(self, rows: dict[str, Any]) -> None:
        self._rows = rows
        self._shown = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def execute(self, query: bytes) -> None:
        self._shown = query.decode().removeprefix("SHOW ")

    async def fetchall(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._rows[self._shown]]


class ConsoleAnswers:
    """A connection to a console that answers SHOW X with the rows of X."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self.rows = rows

    def allow(self, bytes_max: int) -> None: ...

    def cursor(self) -> _Cursor:
        return _Cursor(self.rows)
