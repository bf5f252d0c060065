"""One connection to a server that speaks Postgres's protocol: kept open, read with a deadline, renewed with pauses.

What was feared, and where it is met:
- Using up the last connection ourselves: there is one connection, it is kept, and pauses between attempts grow.
- A server that sends without end: see bounded.py; one that makes the login compute without end: login_steps.py.
- A hung server: every read has one deadline. Past it, or when the daemon cancels, the socket is shut down, because
  psycopg would first ask the hung server to cancel the query.
- Secrets: no exception that carries connection settings is chained.
- Names that are not UTF-8 (a role made in a LATIN1 database, a client's wildcard database in PgBouncer): bytes that
  can't be decoded become question marks, so that one foreign name does not spoil the reading.
"""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import psycopg
from psycopg import AsyncClientCursor
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row

from fleetd.adapters.database.bounded import BoundedConnection, TooMuchSentError
from fleetd.adapters.database.login import Login
from fleetd.core.model.facts import DatabaseFacts, PgBouncerFacts
from fleetd.errors import SourceUnavailableError

Facts = TypeVar("Facts", DatabaseFacts, PgBouncerFacts)
Row: TypeAlias = dict[str, Any]
Connection: TypeAlias = BoundedConnection

_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
_SEVER_SECONDS = 0.5  # for psycopg to notice that its socket was shut down


class _LossyTextLoader(Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="replace")


class ConnectionSource(ABC, Generic[Facts]):
    """Reads over one kept connection, one reading at a time; subclasses say how to count.

    `before_first`: what a refusal before the first good reading is answered with.
    `monotonic`: seconds, for the pauses between attempts to connect.
    """

    def __init__(
        self, login: Login, *, before_first: Facts, monotonic: Callable[[], float], deadline_seconds: float
    ) -> None:
        self._login = login
        self._last_good: Facts = before_first
        self._monotonic = monotonic
        self._deadline_seconds = deadline_seconds
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._failures = 0
        self._next_attempt_seconds = 0.0
        self._last_failure: SourceUnavailableError | None = None  # None while pausing: refused

    @abstractmethod
    async def _count(self, connection: Connection) -> Facts:
        """Read over an open connection. Raises SourceUnavailableError when the numbers are not to be used."""

    @abstractmethod
    def _refuses(self, error: psycopg.Error) -> bool:
        """Whether this error means that Mastodon gets no more connections: an answer, not a failure.

        Raises SourceUnavailableError with a sentence for a failure that it knows better than the login does.
        """

    async def read(self) -> Facts:
        """One reading within the deadline; `refused`, with the last good numbers, when no more clients are let in.

        Raises SourceUnavailableError with a sentence when the numbers can't be had.
        """
        async with self._one_at_a_time:
            if self._connection is None and self._monotonic() < self._next_attempt_seconds:
                if self._last_failure is not None:
                    raise SourceUnavailableError(str(self._last_failure))
                return self._refused()
            done, facts = await self._within_deadline()
            if not done:
                raise self._failed(
                    f"{self._login.where} did not answer within {self._deadline_seconds:g} s: look at its load and "
                    "the network between"
                )
            if facts is None:
                return self._refused()
            self._last_good = facts
            return facts

    def _refused(self) -> Facts:
        return msgspec.structs.replace(self._last_good, refused=True)

    async def close(self) -> None:
        """Close the connection; a read after this opens a new one."""
        async with self._one_at_a_time:
            await self._drop()

    async def _within_deadline(self) -> tuple[bool, Facts | None]:
        """(True, the facts, or None for a refusal); (False, None) past the deadline.

        A function of its own, because its frame must be gone before an error is raised: the task's traceback would
        keep a half-open socket alive.
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
                # A kept connection that broke (restart, failover, idle timeout) says nothing about the server now.
                # One that is no longer ours was given up at the deadline.
                if kept is None or kept is not self._connection or not kept.closed:
                    raise
                await self._drop()
                return await self._read_once()
        except psycopg.Error as error:
            await self._drop()
            self._refused_or_failed(error)
            return None
        except TooMuchSentError as error:
            await self._drop()
            raise self._failed(
                f"{self._login.where} sent more than the {error.bytes_max // 1024} KiB that an answer may have, and "
                "was cut off: is that the right server?"
            ) from None
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
                self._connection.adapters.register_loader(kind, _LossyTextLoader)
        connection = self._connection
        try:
            facts = await self._count(connection)
        except SourceUnavailableError as error:
            await self._drop()  # after a failover the same name may lead to another server
            raise self._failed(str(error)) from None
        except psycopg.OperationalError:
            connection.check()
            raise
        self._failures = 0
        self._last_failure = None
        return facts

    def _refused_or_failed(self, error: psycopg.Error) -> None:
        try:
            refused = self._refuses(error)
        except SourceUnavailableError as known:
            raise self._failed(str(known)) from None
        if not refused:
            raise self._failed(self._login.sentence(error)) from None
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
        """End a read that is past its deadline or cancelled, and leave no connection behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _shut_down(connection)
        else:
            task.cancel()  # still connecting: psycopg lets go of the socket at once
        await asyncio.wait({task}, timeout=_SEVER_SECONDS)
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it: the deadline is reported
        if connection is not None:
            await connection.close()
        await self._drop()  # in case the attempt went on to a second connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _shut_down(connection: Connection) -> None:
    """Shut the socket down under libpq, so that whoever waits on it wakes up with an end of file."""
    if connection.closed:
        return
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the server closed it first


def shortened(name: str, length_max: int) -> str:
    """A foreign name of at most `length_max` characters."""
    return name if len(name) <= length_max else f"{name[: length_max - 1]}…"
