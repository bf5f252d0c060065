"""PgBouncer's client slots and pools, read from its admin console (port PgBouncerSource).

The console is the database `pgbouncer` for users in `stats_users` or `admin_users`. It knows the simple query
protocol only, one command a query ("SHOW LISTS; SHOW POOLS" is an invalid command), so a reading is three round trips:
LISTS, POOLS and DATABASES; what changes with a reload only, CONFIG and USERS, is asked on connecting and once a
minute. Each takes PgBouncer 0.1 to 0.3 ms (benchmarks/connections_watch.md).

What was feared:
- Reading the server behind it instead: a query through PgBouncer takes a server connection from Mastodon's pool, and
  waits in line for it just when the line is the news.
- The console is let in beyond `max_client_conn`, so being let in says nothing about room: the numbers do.
- Load, a hung server, secrets: see kept_connection.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import psycopg

from fleetd.adapters.kept_connection import Connection, KeptConnection, Row
from fleetd.adapters.pgbouncer_facts import ConsoleSettings, facts_from, settings_from
from fleetd.adapters.postgres_login import Login
from fleetd.config.connections import CONSOLE, PostgresSettings
from fleetd.core.model.facts import PgBouncerFacts
from fleetd.errors import SourceUnavailableError

SETTINGS_SECONDS = 60.0
_NO_CONSOLE = (
    "{where} does not answer as the console of PgBouncer 1.18 to 1.25 does{lacking}: is that PgBouncer? If Mastodon "
    'reaches Postgres directly, set connections.through = "postgres"'
)


class PgBouncerConsole:
    """Reads the console at `settings` (its dbname does not matter).

    `mastodon`: database and user that the workers connect with. `monotonic`: seconds, for the pauses between attempts
    to connect and the age of the settings.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        mastodon: tuple[str, str],
        monotonic: Callable[[], float],
        deadline_seconds: float = 3.0,
    ) -> None:
        self._login = Login(
            msgspec.structs.replace(settings, dbname=CONSOLE), deadline_seconds, kind="pgbouncer"
        )
        self._mastodon = mastodon
        self._monotonic = monotonic
        self._settings: ConsoleSettings | None = None
        self._settings_from: Connection | None = None
        self._settings_seconds = 0.0
        self._last_good: PgBouncerFacts | None = None
        self._kept = KeptConnection(
            self._login,
            count=self._count,
            refuses=self._refuses,
            monotonic=monotonic,
            deadline_seconds=deadline_seconds,
        )

    async def read(self) -> PgBouncerFacts:
        """One reading within the deadline; `refused` when PgBouncer takes no more clients of Mastodon's.

        Raises SourceUnavailableError with a sentence when it can't be had.
        """
        facts = await self._kept.read()
        if facts is not None:
            self._last_good = facts
            return facts
        if self._last_good is not None:
            return msgspec.structs.replace(self._last_good, refused=True)
        return PgBouncerFacts(
            client_limit_connections=0,
            client_connections=0,
            own_connections=0,
            pools=(),
            mastodon=self._mastodon,
            refused=True,
        )

    async def close(self) -> None:
        """Closes the connection; a read after this opens a new one."""
        await self._kept.close()

    async def _count(self, connection: Connection) -> PgBouncerFacts:
        try:
            settings = await self._current_settings(connection)
            lists = await _show(connection, "LISTS")
            pools = await _show(connection, "POOLS")
            databases = await _show(connection, "DATABASES")
            return facts_from(settings, lists, pools, databases, self._mastodon)
        except (KeyError, TypeError, ValueError, StopIteration, psycopg.ProgrammingError) as error:
            lacking = f" ({error})" if isinstance(error, KeyError) else ""
            raise SourceUnavailableError(
                _NO_CONSOLE.format(where=self._login.where, lacking=lacking)
            ) from None

    async def _current_settings(self, connection: Connection) -> ConsoleSettings:
        now = self._monotonic()
        known = self._settings if self._settings_from is connection else None
        if known is None or now - self._settings_seconds >= SETTINGS_SECONDS:
            known = settings_from(await _show(connection, "CONFIG"), await _show(connection, "USERS"))
            self._settings, self._settings_from, self._settings_seconds = known, connection, now
        return known

    def _refuses(self, error: psycopg.Error) -> bool:
        text = self._login.clean(error)
        user = self._login.user
        if "not allowed" in text and "connections" not in text:
            raise SourceUnavailableError(
                f"{self._login.where} lets {user} not look at its console: add it in pgbouncer.ini, stats_users = "
                f"'{user}', and RELOAD; or name another user, who also needs a line in auth_file, under [pgbouncer]"
            )
        if "does not exist" in text:
            raise SourceUnavailableError(_NO_CONSOLE.format(where=self._login.where, lacking=""))
        if "max_user_client_connections" in text and user != self._mastodon[1]:
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, whose user is at its max_user_client_connections: "
                "raise it, or name another user under [pgbouncer]"
            )
        if "max_db_client_connections" in text:
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, because max_db_client_connections clients are at "
                "its console: close some, or add fleetd's user to admin_users"
            )
        return "no more connections allowed" in text or "client connections exceeded" in text


async def _show(connection: Connection, what: str) -> list[Row]:
    async with connection.cursor() as cursor:
        await cursor.execute(f"SHOW {what}".encode())
        return await cursor.fetchall()
