"""What answers where the workers connect: Postgres itself, PgBouncer, or another pooler. Found out by asking.

A port proves nothing: PgBouncer may listen on 5432 or 6543, in session mode as well, and Postgres on 6432. Asked as a
worker asks, with its login and with a name for the connection in `options` (as PGOPTIONS makes libpq send it):

- The process id that comes with the login is what a client needs to cancel a query. Postgres sends that of its backend,
  which `pg_backend_pid()` repeats. A pooler has to make up one of its own, because the backend changes or is not there
  yet (PostgreSQL documentation, "Frontend/Backend Protocol", BackendKeyData). A TCP proxy passes it on: it changes
  nothing for us, since each of its connections is one of Postgres's.
- PgBouncer refuses `options` before any login, unless its ignore_startup_parameters has it. Then the name gets lost.
- PgBouncer says what it is in its console: SHOW VERSION, in the database `pgbouncer`. A user who may not use that is
  told "not allowed", which no other server says. Pgcat has such a database as well, and says another name.

Workers are given names only where a name arrived and nobody stood between.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncClientCursor
from psycopg.rows import dict_row

from fleetd.adapters.database.bounded import BoundedConnection, TooMuchSentError
from fleetd.adapters.database.login import Login
from fleetd.config.connections import CONSOLE, PostgresSettings
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import SourceUnavailableError

#: Sent as a worker sends its own name.
_NAME = "mastodon-sidekiq-asks"
_OPTIONS = f"-c application_name={_NAME}"
_REFUSES_OPTIONS = "unsupported startup parameter"
_NOT_ALLOWED = "not allowed"
_ASKED = "SELECT pg_backend_pid() AS pid, current_setting('application_name') AS name"


async def find_pooler(login: PostgresSettings, *, deadline_seconds: float = 3.0) -> FoundPooler:
    """What answers there. Raises SourceUnavailableError when that can't be told now.

    `login`: as a worker connects. At most four connections, one after the other, each closed at once.
    """
    asker = _Asker(login, deadline_seconds)
    try:
        return await asyncio.wait_for(asker.ask(), deadline_seconds)
    except TimeoutError:
        raise SourceUnavailableError(f"{asker.where} did not answer within {deadline_seconds:g} s") from None


class _Asker:
    def __init__(self, login: PostgresSettings, deadline_seconds: float) -> None:
        self._settings = login
        self._deadline_seconds = deadline_seconds
        self.where = Login(login, deadline_seconds).where

    async def ask(self) -> FoundPooler:
        refused = False
        try:
            pid, row = await self._query(self._settings, _ASKED, options=_OPTIONS)
        except psycopg.Error as error:
            if _REFUSES_OPTIONS in str(error):
                version = await self._version()
                return FoundPooler(kind="pgbouncer", version=version or "")
            # Another pooler may refuse them in other words: what matters is whether it goes without.
            refused = True
            pid, row = await self._without_options()
        direct = row.get("pid") == pid
        if direct:
            return FoundPooler(kind="none", takes_names=not refused and row.get("name") == _NAME)
        version = await self._version()
        return FoundPooler(kind="pgbouncer" if version is not None else "unknown", version=version or "")

    async def _without_options(self) -> tuple[int, dict[str, Any]]:
        try:
            return await self._query(self._settings, _ASKED)
        except psycopg.Error as error:
            raise SourceUnavailableError(Login(self._settings, self._deadline_seconds).sentence(error)) from None

    async def _version(self) -> str | None:
        """PgBouncer's version, "" if it does not let us ask; None: it is not PgBouncer."""
        console = msgspec.structs.replace(self._settings, dbname=CONSOLE)
        try:
            _, row = await self._query(console, "SHOW VERSION")
        except psycopg.Error as error:
            return "" if _NOT_ALLOWED in str(error) else None
        name, _, version = str(next(iter(row.values()), "")).partition(" ")
        return version[:32] if name == "PgBouncer" else None

    async def _query(self, login: PostgresSettings, query: str, **more: str) -> tuple[int, dict[str, Any]]:
        """The process id of the login, and the first row. Raises psycopg.Error or SourceUnavailableError."""
        parameters = {**Login(login, self._deadline_seconds).parameters(), **more}
        if more:
            del parameters["application_name"]  # it would win over the one in `options`, which is what is asked about
        try:
            connection = await BoundedConnection.connect(
                **parameters,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                cursor_factory=AsyncClientCursor,
            )
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(query.encode())
                    return connection.info.backend_pid, await cursor.fetchone() or {}
            finally:
                await connection.close()
        except (TooMuchSentError, OSError, ValueError) as error:
            cleaned = Login(login, self._deadline_seconds).clean(error)
            raise SourceUnavailableError(f"{self.where} can't be asked: {cleaned}") from None
