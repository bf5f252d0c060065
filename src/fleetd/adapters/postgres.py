"""Connections of the Postgres cluster, read over one kept connection (port DatabaseSource).

What was feared, and where it is met:
- A reading that looks like room and is none. Rows of other roles are counted as clients when Postgres hides their
  kind (see QUERY): never an undercount. A standby's or a missing role's numbers are refused.
- "Too many clients" (SQLSTATE 53300) is an answer, not a failure: headroom is zero.
- Being the client too many: one connection, kept; pauses between attempts grow.
- A hung server. Every read has one deadline; past it, or when the daemon cancels, the socket is shut down, because
  psycopg's own way out first asks the hung server to cancel.
- Secrets: messages come from here or are cleaned; no exception that carries connection settings is chained.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.rows import dict_row

from fleetd.adapters.postgres_facts import QUERY, Counted, facts_from, query_parameters
from fleetd.adapters.postgres_login import Login
from fleetd.adapters.postgres_refusal import refusal
from fleetd.config.connections import PostgresSettings
from fleetd.core.facts import DatabaseFacts
from fleetd.errors import SourceUnavailableError

_log = structlog.get_logger("fleetd.postgres")

_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
_SEVER_SECONDS = 0.5  # for psycopg to notice that its socket is shut
_TOO_MANY_CONNECTIONS = "53300"
_Row = dict[str, Any]

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
    None: the ones it logs in with. `monotonic`: seconds, for the pauses between attempts to connect.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        *,
        monotonic: Callable[[], float],
        mastodon_role: str | None = None,
        mastodon_database: str | None = None,
        deadline_seconds: float = 3.0,
    ) -> None:
        self._login = Login(settings, deadline_seconds)
        self._monotonic = monotonic
        self._role = mastodon_role
        self._database = mastodon_database
        self._deadline_seconds = deadline_seconds
        self._connection: AsyncConnection[_Row] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._last_good: DatabaseFacts | None = None
        self._failures = 0
        self._next_attempt_seconds = 0.0
        self._last_failure: SourceUnavailableError | None = None  # None while pausing: refused
        self._said_upper_bound = False

    async def read(self) -> DatabaseFacts:
        """One reading within the deadline; `refused` when Postgres takes no more clients (SQLSTATE 53300).

        Raises SourceUnavailableError with a sentence when the count can't be had.
        """
        async with self._one_at_a_time:
            if self._connection is None and self._monotonic() < self._next_attempt_seconds:
                return self._still_pausing()
            facts = await self._within_deadline()
            if facts is None:
                raise self._failed(
                    f"{self._login.where} did not answer within {self._deadline_seconds:g} s: look at its load and "
                    "the network between"
                )
            return facts

    async def close(self) -> None:
        """Closes the connection; a read after this opens a new one."""
        async with self._one_at_a_time:
            await self._drop()

    async def _within_deadline(self) -> DatabaseFacts | None:
        """One attempt; None past the deadline.

        A frame of its own, gone before an error is raised: the task's traceback keeps a half-open socket alive.
        """
        task = asyncio.ensure_future(self._attempt())
        try:
            await asyncio.wait({task}, timeout=self._deadline_seconds)
            return task.result() if task.done() else None
        finally:
            if not task.done():
                await self._give_up(task)

    async def _attempt(self) -> DatabaseFacts:
        kept = self._connection
        try:
            try:
                return await self._count()
            except psycopg.OperationalError:
                # A kept connection that broke (restart, failover, idle timeout) says nothing about the server now;
                # one that is no longer ours was given up at the deadline.
                if kept is None or kept is not self._connection or not kept.closed:
                    raise
                await self._drop()
                return await self._count()
        except psycopg.Error as error:
            await self._drop()
            return self._refused_or_raise(error)
        except (OSError, ValueError) as error:  # name resolution; psycopg's parameter checks
            await self._drop()
            raise self._failed(f"{self._login.where} can't be reached: {self._login.clean(error)}") from None

    async def _count(self) -> DatabaseFacts:
        if self._connection is None:
            self._connection = await AsyncConnection[_Row].connect(
                **self._login.parameters(),
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                cursor_factory=AsyncClientCursor,
            )
        row: _Row | None = None
        async with self._connection.cursor() as cursor:
            await cursor.execute(QUERY, query_parameters(self._role, self._database, self._deadline_seconds))
            while row is None:
                if cursor.description is not None:
                    row = await cursor.fetchone()
                elif not cursor.nextset():
                    break
        return await self._accept(facts_from(row, self._login.where))

    async def _accept(self, counted: Counted | SourceUnavailableError) -> DatabaseFacts:
        if isinstance(counted, SourceUnavailableError):
            await self._drop()  # after a failover the same name may lead to the primary
            raise self._failed(str(counted))
        if counted.hidden_connections and not self._said_upper_bound:
            self._said_upper_bound = True
            _log.warning(
                "Postgres hides the kind of other roles' connections from this role; every one is counted as a "
                f"client, which may be too many. To count exactly: GRANT pg_monitor TO {counted.user}",
            )
        self._failures = 0
        self._last_failure = None
        self._last_good = counted.facts
        return counted.facts

    def _refused_or_raise(self, error: psycopg.Error) -> DatabaseFacts:
        message = self._login.clean(error)
        which = refusal(str(error))
        if which is None and error.sqlstate != _TOO_MANY_CONNECTIONS:
            raise self._failed(self._login.sentence(error.sqlstate, message)) from None
        if (which == "role" and self._role not in (None, self._login.user)) or (
            which == "database" and self._database not in (None, self._login.database)
        ):
            raise self._failed(
                f"{self._login.where} refuses fleetd's own login, whose {which} is at its connection limit: raise it "
                f"(ALTER {which.upper() if which else ''} … CONNECTION LIMIT)"
            ) from None
        self._pause()
        self._last_failure = None
        return self._refused()

    def _refused(self) -> DatabaseFacts:
        if self._last_good is None:
            return _NEVER_COUNTED
        return msgspec.structs.replace(self._last_good, refused=True)

    def _still_pausing(self) -> DatabaseFacts:
        if self._last_failure is None:
            return self._refused()
        raise SourceUnavailableError(str(self._last_failure))

    def _failed(self, sentence: str) -> SourceUnavailableError:
        self._pause()
        self._last_failure = SourceUnavailableError(sentence)
        return self._last_failure

    def _pause(self) -> None:
        pause = _PAUSES_SECONDS[min(self._failures, len(_PAUSES_SECONDS) - 1)]
        self._failures += 1
        self._next_attempt_seconds = self._monotonic() + pause

    async def _give_up(self, task: asyncio.Task[DatabaseFacts]) -> None:
        """Ends a read that is past its deadline or cancelled, and leaves no connection behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _shut_down(connection)
        else:
            task.cancel()  # still connecting: psycopg lets go of the socket at once
        await asyncio.wait({task}, timeout=_SEVER_SECONDS)
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # seen; the deadline is the news
        if connection is not None:
            await connection.close()
        await self._drop()  # in case the attempt went on to a second connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _shut_down(connection: AsyncConnection[_Row]) -> None:
    """Shuts the socket under libpq, so that whoever waits on it wakes with an end of file."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the server was faster
