"""Connections of a Postgres cluster, read over one kept connection (port DatabaseSource): the primary, or a replica.

What was feared, and where it is met:
- A reading that looks like room and is none. Rows of other roles are counted as clients when Postgres hides their
  kind (see QUERY): never an undercount. The numbers of a standby where the primary is meant, or of a missing role,
  are refused.
- "Too many clients" (SQLSTATE 53300) is an answer, not a failure: headroom is zero.
- Load, a hung server, secrets: see kept_connection.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import psycopg
import structlog

from fleetd.adapters.kept_connection import Connection, KeptConnection, Row
from fleetd.adapters.postgres_facts import QUERY, Counted, facts_from, query_parameters
from fleetd.adapters.postgres_login import Login
from fleetd.adapters.postgres_refusal import refusal
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.facts import DatabaseFacts
from fleetd.errors import SourceUnavailableError

_log = structlog.get_logger("fleetd.postgres")

_TOO_MANY_CONNECTIONS = "53300"

#: Before the first good reading there are no numbers; `refused` alone counts then.
_NEVER_COUNTED = DatabaseFacts(
    max_connections=0,
    reserved_connections=0,
    role_limit_connections=None,
    database_limit_connections=None,
    client_connections=0,
    role_connections=0,
    database_connections=0,
    worker_connections={},
    own_connections=0,
    refused=True,
)


class PostgresConnections:
    """Reads how many connections Mastodon's role can still open.

    `mastodon_role`, `mastodon_database`: whose limits bind, when fleetd logs in with a role or database of its own;
    None: the ones it logs in with. `standby`: this is a replica, which is usually in recovery (and read all the same
    where it is not: people try their settings so). `monotonic`: seconds, for the pauses between attempts to connect.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        monotonic: Callable[[], float],
        mastodon_role: str | None = None,
        mastodon_database: str | None = None,
        standby: bool = False,
        deadline_seconds: float = 3.0,
    ) -> None:
        self._login = Login(settings, deadline_seconds, kind="replica" if standby else "postgres")
        self._role = mastodon_role
        self._database = mastodon_database
        self._standby = standby
        self._deadline_seconds = deadline_seconds
        self._last_good: DatabaseFacts | None = None
        self._said_upper_bound = False
        self._kept = KeptConnection(
            self._login,
            count=self._count,
            refuses=self._refuses,
            monotonic=monotonic,
            deadline_seconds=deadline_seconds,
        )

    async def read(self) -> DatabaseFacts:
        """One reading within the deadline; `refused` when Postgres takes no more clients (SQLSTATE 53300).

        Raises SourceUnavailableError with a sentence when the count can't be had.
        """
        facts = await self._kept.read()
        if facts is not None:
            self._last_good = facts
            return facts
        if self._last_good is None:
            return _NEVER_COUNTED
        return msgspec.structs.replace(self._last_good, refused=True)

    async def close(self) -> None:
        """Closes the connection; a read after this opens a new one."""
        await self._kept.close()

    async def _count(self, connection: Connection) -> DatabaseFacts:
        row: Row | None = None
        async with connection.cursor() as cursor:
            await cursor.execute(QUERY, query_parameters(self._role, self._database, self._deadline_seconds))
            while row is None:
                if cursor.description is not None:
                    row = await cursor.fetchone()
                elif not cursor.nextset():
                    break
        counted = facts_from(row, self._login.where, standby=self._standby)
        if isinstance(counted, SourceUnavailableError):
            raise counted
        self._say_upper_bound(counted)
        return counted.facts

    def _say_upper_bound(self, counted: Counted) -> None:
        if counted.facts.exact or self._said_upper_bound:
            return
        self._said_upper_bound = True
        _log.warning(
            f"{self._login.where} hides the kind of other roles' connections from this role; every one is counted as "
            f"a client, which may be too many. To count exactly: GRANT pg_monitor TO {counted.user}",
        )

    def _refuses(self, error: psycopg.Error) -> bool:
        which = refusal(str(error))
        if which is None:
            return error.sqlstate == _TOO_MANY_CONNECTIONS
        if (which == "role" and self._role not in (None, self._login.user)) or (
            which == "database" and self._database not in (None, self._login.database)
        ):
            raise SourceUnavailableError(
                f"{self._login.where} refuses fleetd's own login, whose {which} is at its connection limit: raise it "
                f"(ALTER {which.upper()} … CONNECTION LIMIT)"
            )
        return True
