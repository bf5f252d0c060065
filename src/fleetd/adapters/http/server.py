"""The listener's sockets: one thread that waits for all of them, so that nobody who is slow keeps others waiting.

What was feared, and where it is met:
- Slow clients that take every place. A client that sends its request at once is answered in the same turn. When all
  places are taken, the one that has been here longest gives way to who comes next; with CONNECTIONS_MAX places and
  ACCEPTS_A_TURN of them given away in a turn, nobody gives way before their first turn.
- No file descriptor left (EMFILE). A spare one is kept and given up for the next client, so that even then one at a
  time is answered. Without it the thread pauses: a client that can't be accepted would wake it up again at once.
- Connections that never end: each has one deadline, however slowly it sends or reads.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Mapping
from typing import Any

import structlog

from fleetd.adapters.http.exchange import REQUEST_BYTES_MAX, TURNED_AWAY, Route, answer_to, is_whole

_log = structlog.get_logger("fleetd.http")

CONNECTIONS_MAX = 32
ACCEPTS_A_TURN = 8
#: Connections that the system keeps until they are accepted.
_BACKLOG = 128
_POLL_SECONDS = 0.25
#: After the answer: for what the client still sends, which unread would destroy the answer on its way.
_LINGER_SECONDS = 1.0
_PAUSE_SECONDS = 0.25


class _Client:
    """One connection: its request as far as it has arrived, then what is left to send of the answer."""

    def __init__(self, connection: socket.socket, deadline_seconds: float) -> None:
        self.connection = connection
        self.deadline_seconds = deadline_seconds
        self.request = b""
        self.to_send: memoryview | None = None  # None: not answered yet; empty: all is sent
        self.has_ended = False  # sends nothing more


class Server:
    """Listens once it is made, serves in `serve` until `stop`. Raises OSError when the address can't be had."""

    def __init__(self, family: int, address: Any, routes: Mapping[str, Route], request_seconds_max: float) -> None:
        self._routes = dict(routes)
        self._request_seconds_max = request_seconds_max
        self._clients: dict[socket.socket, _Client] = {}  # the one that came first comes first
        self._stopping = False
        self._paused_until_seconds: float | None = None
        self._spare: int | None = None
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)
            self.host, self.port = str(self._listener.getsockname()[0]), int(self._listener.getsockname()[1])
            self._woken, self._waker = socket.socketpair()
            self._selector = selectors.DefaultSelector()
        except OSError:
            self._listener.close()
            raise
        self._keep_spare()
        for source in (self._listener, self._woken):
            self._selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until `stop` is called, by another thread."""
        while not self._stopping:
            try:
                self._turn()
            except Exception as error:  # a fault of ours must not leave a listener that accepts and says nothing
                _log.error(f"the listener ended all connections: {type(error).__name__}: {error}")
                self._end_all()
                time.sleep(_PAUSE_SECONDS)
        self._end_all()
        self._selector.close()
        for own in (self._listener, self._woken, self._waker):
            own.close()
        if self._spare is not None:
            os.close(self._spare)

    def stop(self) -> None:
        """End `serve` and every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _turn(self) -> None:
        waiting = self._clients or self._paused_until_seconds is not None
        ready = self._selector.select(_POLL_SECONDS if waiting else None)
        now = time.monotonic()
        newcomers = False
        for key, _ in ready:
            if key.fileobj is self._listener:
                newcomers = True
            elif isinstance(key.data, _Client):
                self._go_on(key.data, now)
        for client in [client for client in self._clients.values() if now > client.deadline_seconds]:
            self._end(client)
        if self._paused_until_seconds is not None and now >= self._paused_until_seconds:
            self._paused_until_seconds = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        if newcomers:
            self._accept_some(now)
        if self._spare is None:
            self._keep_spare()

    def _accept_some(self, now_seconds: float) -> None:
        for nth in range(ACCEPTS_A_TURN):
            try:
                self._accept(now_seconds)
            except (BlockingIOError, InterruptedError, ConnectionError):  # nobody is there, or has gone again
                return
            except OSError:
                if nth == 0:  # later ones fail even if nobody is there: accept(2) takes a descriptor first
                    self._accept_with_nothing_left(now_seconds)
                return

    def _accept(self, now_seconds: float) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        if len(self._clients) >= CONNECTIONS_MAX:
            self._give_way()
        client = _Client(connection, now_seconds + self._request_seconds_max)
        self._clients[connection] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _accept_with_nothing_left(self, now_seconds: float) -> None:
        """No descriptor is left, or no memory: take one from who came first, or the spare, or let some time pass."""
        if self._clients:
            self._give_way()
        elif self._spare is not None:
            os.close(self._spare)
            self._spare = None
        else:
            self._pause(now_seconds)
            return
        try:
            self._accept(now_seconds)
        except OSError:
            self._pause(now_seconds)

    def _pause(self, now_seconds: float) -> None:
        self._selector.unregister(self._listener)
        self._paused_until_seconds = now_seconds + _PAUSE_SECONDS

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _give_way(self) -> None:
        first = next(iter(self._clients.values()))
        if first.to_send is None:
            with contextlib.suppress(OSError):
                first.connection.send(TURNED_AWAY)
        self._end(first)

    def _go_on(self, client: _Client, now_seconds: float) -> None:
        try:
            if client.to_send is None and not self._hear(client):
                return
            if client.to_send:
                client.to_send = client.to_send[client.connection.send(client.to_send) :]
                if not client.to_send:
                    self._say_goodbye(client, now_seconds)
            elif not client.connection.recv(REQUEST_BYTES_MAX):
                self._end(client)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(client)

    def _hear(self, client: _Client) -> bool:
        """Take what has arrived. Returns whether that is all, and there is an answer."""
        data = client.connection.recv(REQUEST_BYTES_MAX + 1)
        client.request += data
        client.has_ended = not data
        if not client.has_ended and not is_whole(client.request):
            return False
        client.to_send = memoryview(answer_to(client.request, self._routes))
        client.request = b""
        if not client.to_send:
            self._end(client)
            return False
        self._selector.modify(client.connection, selectors.EVENT_WRITE, client)
        return True

    def _say_goodbye(self, client: _Client, now_seconds: float) -> None:
        client.connection.shutdown(socket.SHUT_WR)
        if client.has_ended:
            self._end(client)
            return
        client.deadline_seconds = min(client.deadline_seconds, now_seconds + _LINGER_SECONDS)
        self._selector.modify(client.connection, selectors.EVENT_READ, client)

    def _end(self, client: _Client) -> None:
        if self._clients.pop(client.connection, None) is not None:
            self._selector.unregister(client.connection)
            client.connection.close()

    def _end_all(self) -> None:
        for client in list(self._clients.values()):
            self._end(client)
