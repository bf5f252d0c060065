"""A connection to Postgres or PgBouncer over which a server can send only so much (law 7).

What was feared: libpq keeps whatever a server sends until the query is done, be it endless rows, endless notices or one
row that says it is a gigabyte long. Nothing in libpq or psycopg bounds that, and looking at the socket now and then
does not either: one call of libpq reads for as long as more arrives.

So libpq does not read from the server's socket. As soon as that is connected, one end of a socket pair takes its place
under the same descriptor, and what comes through the other end is counted here. libpq notices nothing: it has kept the
server's address, so TLS is negotiated as before, and the server sees the same client. What a byte can become in memory
is bounded as well: the smallest message (7 bytes) makes a result of about 400.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection

from fleetd.adapters.database import login_steps

Row: TypeAlias = dict[str, Any]

#: Until the login is done. Certificates and the server's settings take about 5 kB.
LOGIN_BYTES_MAX = 128 * 1024
#: Sizes of one step, so that a flood does not hold up the event loop.
_STEP_BYTES = 64 * 1024


class TooMuchSentError(Exception):
    """A server sent more than it may. `bytes_max`: what that was."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self.bytes_max = bytes_max


class BoundedConnection(AsyncConnection[Row]):
    """An AsyncConnection that is cut off when the server has sent more than `allow` allowed."""

    meter: _Meter

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, Any]:
        """The steps to connect: each yields the descriptor to wait for.

        Raises TooMuchSentError, psycopg.Error.
        """
        meter = _Meter(LOGIN_BYTES_MAX)
        steps = login_steps.connect(conninfo)
        try:
            waits = next(steps)
            while True:
                meter.put_before(waits[0])
                ready = yield waits
                meter.put_before(waits[0])
                waits = steps.send(ready)
        except StopIteration as done:
            connection = cls(done.value)
            connection.meter = meter
            return connection
        except psycopg.Error:
            meter.close()
            meter.check()
            raise
        except BaseException:
            steps.close()
            meter.close()
            raise

    def allow(self, bytes_max: int) -> None:
        """From now on the server may send as much as this."""
        self.meter.allow(bytes_max)

    def check(self) -> None:
        """Raises TooMuchSentError when the connection was cut off."""
        self.meter.check()

    async def close(self) -> None:
        await super().close()
        self.meter.close()


class _Meter:
    """Passes bytes between libpq and the sockets to the server, and counts what comes from there."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = self._bytes_left = bytes_max
        self._pipes: list[_Pipe] = []  # more than one where libpq tries again, as sslmode = "prefer" does

    def allow(self, bytes_max: int) -> None:
        if not self.exhausted:
            self._bytes_max = self._bytes_left = bytes_max

    @property
    def exhausted(self) -> bool:
        return self._bytes_left < 0

    def check(self) -> None:
        if self.exhausted:
            raise TooMuchSentError(self._bytes_max)

    def put_before(self, fileno: int) -> None:
        """Put a pipe in the place of libpq's descriptor once that is connected, unless one is there."""
        inode = os.fstat(fileno).st_ino
        if any(pipe.inode == inode for pipe in self._pipes):
            return
        server = socket.socket(fileno=os.dup(fileno))
        try:
            server.getpeername()
        except OSError:  # not connected yet, or it failed: libpq finds out
            server.close()
            return
        self._pipes.append(_Pipe(server, fileno, self))

    def take(self, count: int) -> bool:
        """Count what the server sent. Returns whether it may be passed on."""
        self._bytes_left -= count
        return not self.exhausted

    def close(self) -> None:
        while self._pipes:
            self._pipes.pop().close()


class _Pipe:
    """Between the server's socket and the descriptor that libpq has; ends when either side does."""

    def __init__(self, server: socket.socket, fileno: int, meter: _Meter) -> None:
        self._loop = asyncio.get_running_loop()
        self._meter = meter
        self._server = server
        self._near, far = socket.socketpair()
        for end in (server, self._near, far):
            end.setblocking(False)
        os.dup2(far.fileno(), fileno, inheritable=False)
        self.inode = os.fstat(fileno).st_ino
        far.close()
        self._open = True
        self._loop.add_reader(server, self._pass_on, server, self._near)
        self._loop.add_reader(self._near, self._pass_on, self._near, server)

    def close(self) -> None:
        """End both sides. What libpq said last, its goodbye, still goes out; what has arrived can still be read."""
        if not self._open:
            return
        self._open = False
        for end in (self._server, self._near):
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
        with contextlib.suppress(OSError):
            self._server.send(self._near.recv(_STEP_BYTES))
        self._near.close()
        self._server.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(_STEP_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or (source is self._server and not self._meter.take(len(data))):
            self.close()
        else:
            self._loop.remove_reader(source)
            self._write(source, sink, data)

    def _write(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        """Write all of it, as the sink takes it, then read on."""
        self._loop.remove_writer(sink)
        try:
            data = data[sink.send(data) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if data:
            self._loop.add_writer(sink, self._write, source, sink, data)
        else:
            self._loop.add_reader(source, self._pass_on, source, sink)
