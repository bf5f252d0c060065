"""One connection to a server that speaks Postgres's protocol: kept, read with a deadline, renewed with pauses.

What was feared, and where it is met:
- Being the client too many: one connection, kept; pauses between attempts grow.
- A hung server. Every read has one deadline; past it, or when the daemon cancels, the socket is shut down, because
  psycopg's own way out first asks the hung server to cancel.
- Secrets: no exception that carries connection settings is chained.
- Names that are no UTF-8 (of a role made in a LATIN1 database, of a client's wildcard database in PgBouncer): one of
  somebody else's must not spoil the reading, so such bytes become question marks.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row

from fleetd.adapters.database.login import Login
from fleetd.errors import SourceUnavailableError

Facts = TypeVar("Facts")
Row: TypeAlias = dict[str, Any]
Connection: TypeAlias = AsyncConnection[Row]

_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
_SEVER_SECONDS = 0.5  # for psycopg to notice that its socket is shut


class _Forgiving(Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="replace")


class KeptConnection(Generic[Facts]):
    """Reads over one connection, one reading at a time.

    `count` reads over an open connection; a SourceUnavailableError of its says why the numbers are not to be used.
    `refuses`: whether an error means that Mastodon gets no more connections either, which is an answer and no
    failure; a SourceUnavailableError of its is the sentence for the operator.
    `monotonic`: seconds, for the pauses between attempts to connect.
    """

    def __init__(
        self,
        login: Login,
        *,
        count: Callable[[Connection], Awaitable[Facts]],
        refuses: Callable[[psycopg.Error], bool],
        monotonic: Callable[[], float],
        deadline_seconds: float,
    ) -> None:
        self._login = login
        self._count = count
        self._refuses = refuses
        self._monotonic = monotonic
        self._deadline_seconds = deadline_seconds
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._failures = 0
        self._next_attempt_seconds = 0.0
        self._last_failure: SourceUnavailableError | None = None  # None while pausing: refused

    async def read(self) -> Facts | None:
        """One reading within the deadline; None: no more clients are let in.

        Raises SourceUnavailableError with a sentence when it can't be had.
        """
        async with self._one_at_a_time:
            if self._connection is None and self._monotonic() < self._next_attempt_seconds:
                if self._last_failure is not None:
                    raise SourceUnavailableError(str(self._last_failure))
                return None
            done, facts = await self._within_deadline()
            if not done:
                raise self._failed(
                    f"{self._login.where} did not answer within {self._deadline_seconds:g} s: look at its load and "
                    "the network between"
                )
            return facts

    async def close(self) -> None:
        """Closes the connection; a read after this opens a new one."""
        async with self._one_at_a_time:
            await self._drop()

    async def _within_deadline(self) -> tuple[bool, Facts | None]:
        """One attempt; (False, None) past the deadline.

        A frame of its own, gone before an error is raised: the task's traceback keeps a half-open socket alive.
        """
        task = asyncio.ensure_future(self._attempt())
        try:
            await asyncio.wait({task}, timeout=self._deadline_seconds)
            return (True, task.result()) if task.done() else (False, None)
        finally:
            if not task.done():
                await self._give_up(task)

    async def _attempt(self) -> Facts | None:
        kept = self._connection
        try:
            try:
                return await self._read_once()
            except psycopg.OperationalError:
                # A kept connection that broke (restart, failover, idle timeout) says nothing about the server now;
                # one that is no longer ours was given up at the deadline.
                if kept is None or kept is not self._connection or not kept.closed:
                    raise
                await self._drop()
                return await self._read_once()
        except psycopg.Error as error:
            await self._drop()
            self._refused_or_raise(error)
            return None
        except (OSError, ValueError) as error:  # name resolution; psycopg's parameter checks
            await self._drop()
            raise self._failed(f"{self._login.where} can't be reached: {self._login.clean(error)}") from None

    async def _read_once(self) -> Facts:
        if self._connection is None:
            self._connection = await Connection.connect(
                **self._login.parameters(),
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                cursor_factory=AsyncClientCursor,
            )
            for kind in ("text", "name", "json"):
                self._connection.adapters.register_loader(kind, _Forgiving)
        try:
            facts = await self._count(self._connection)
        except SourceUnavailableError as error:
            await self._drop()  # after a failover the same name may lead to the right server
            raise self._failed(str(error)) from None
        self._failures = 0
        self._last_failure = None
        return facts

    def _refused_or_raise(self, error: psycopg.Error) -> None:
        try:
            refused = self._refuses(error)
        except SourceUnavailableError as sentence:
            raise self._failed(str(sentence)) from None
        if not refused:
            message = self._login.clean(error)
            raise self._failed(self._login.sentence(error.sqlstate, message)) from None
        self._pause()
        self._last_failure = None

    def _failed(self, sentence: str) -> SourceUnavailableError:
        self._pause()
        self._last_failure = SourceUnavailableError(sentence)
        return self._last_failure

    def _pause(self) -> None:
        pause = _PAUSES_SECONDS[min(self._failures, len(_PAUSES_SECONDS) - 1)]
        self._failures += 1
        self._next_attempt_seconds = self._monotonic() + pause

    async def _give_up(self, task: asyncio.Task[Facts | None]) -> None:
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


def _shut_down(connection: Connection) -> None:
    """Shuts the socket under libpq, so that whoever waits on it wakes with an end of file."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the server was faster
