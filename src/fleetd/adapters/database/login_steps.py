"""libpq's login, step by step, each in a thread of its own: one of them takes as long as the server likes.

With SCRAM the server says how many rounds of hashing the password needs (RFC 5802, `i=`), and libpq computes them all
in one call: with 2,000,000,000 rounds, half an hour of a core. psycopg holds Python's global lock meanwhile, so that
nothing else of fleetd would run. Here the call is made without the lock. It can't be ended, but nobody waits for it
past the deadline, and there is no other login to that server before it is done.

Otherwise this is psycopg's own `generators._connect`.
"""

from __future__ import annotations

import ctypes
import functools
import re
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq, waiting
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq.abc import PGconn

_LIBPQ = re.compile(r"/\S*libpq[-.]\S*$", re.MULTILINE)


#: How the error begins that says so.
STILL_COMPUTING = "an earlier login is not done with the rounds of hashing (SCRAM) that the server asked for"

#: Steps that nobody waits for any more, by server, whatever the database, the user and the options were.
_given_up: dict[tuple[str, str], _Step] = {}


def connect(conninfo: str) -> Generator[Any, Any, PGconn]:
    """A new connection. Yields what to wait for, as psycopg's steps do.

    Raises psycopg.OperationalError, one that begins with STILL_COMPUTING while that is so.
    """
    poll, server = _poll(), _server(conninfo)
    earlier = _given_up.get(server)
    if earlier is not None and not earlier.done:
        raise psycopg.OperationalError(STILL_COMPUTING)
    _given_up.pop(server, None)
    pgconn: PGconn = pq.PGconn.connect_start(conninfo.encode())
    if pgconn.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError(f"connection is bad: {pgconn.get_error_message()}")
    while True:
        step = _Step(pgconn, poll)
        try:
            yield from step.wait()
        except GeneratorExit:
            _given_up[server] = step
            raise
        if step.status == pq.PollingStatus.OK:
            break
        if step.status not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            raise psycopg.OperationalError(f"connection failed: {pgconn.get_error_message()}")
        wanted = waiting.WAIT_R if step.status == pq.PollingStatus.READING else waiting.WAIT_W
        while not (yield pgconn.socket, wanted):
            pass
    pgconn.nonblocking = 1
    return pgconn


class _Step:
    """One call of PQconnectPoll. It keeps the connection alive for as long as it lasts."""

    def __init__(self, pgconn: PGconn, poll: Callable[[int | None], int]) -> None:
        self.status = pq.PollingStatus.FAILED
        self._poll = poll
        self._mine, self._threads = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(pgconn,), name="login", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> Generator[Any, Any, None]:
        with self._mine:
            while not (yield self._mine.fileno(), waiting.WAIT_R):
                pass

    def _run(self, pgconn: PGconn) -> None:
        with self._threads:  # its end wakes who waits, if anybody still does
            address = pgconn.pgconn_ptr  # type: ignore[attr-defined]  # every implementation has it
            self.status = pq.PollingStatus(self._poll(address))


def _server(conninfo: str) -> tuple[str, str]:
    parts = conninfo_to_dict(conninfo)
    return str(parts.get("hostaddr") or parts.get("host") or ""), str(parts.get("port") or "")


@functools.cache
def _poll() -> Callable[[int | None], int]:
    """PQconnectPoll of the libpq that psycopg uses, called without Python's global lock."""
    found = _LIBPQ.search(Path("/proc/self/maps").read_text())
    if found is None:
        raise psycopg.InterfaceError("psycopg's libpq can't be found in this process")
    function = ctypes.CDLL(found[0]).PQconnectPoll
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    return function
