"""A few questions to Redis by a program that lives for a moment: no event loop, no client library, no retry.

It is for programs that run before each start of a worker, where importing redis-py takes longer than all the rest.
Every reply is bounded, in bytes and in time (law 7), and everything that goes wrong is one NoAnswerError. No message
repeats what Redis said, which can quote what was sent to it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from fleetd.config.connections import RedisSettings

#: All replies of one connection together.
BYTES_MAX = 16 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024
_DEPTH_MAX = 8
_VALUE_BYTES = 64  # each value becomes an object


class NoAnswerError(Exception):
    """Redis could not be asked."""


class Refused:
    """Redis refused one command."""


class BriefRedis:
    """A connection to the Redis of these settings, open until `deadline` (CLOCK_MONOTONIC) at the latest."""

    def __init__(self, settings: RedisSettings, deadline: float) -> None:
        self._deadline = deadline
        if settings.sentinel_master:
            self._socket, self._buffer, self._left = self._primary(settings), b"", BYTES_MAX
        else:
            self._socket, self._buffer, self._left = self._connected(settings, settings.host, settings.port)
        try:
            self._log_in(settings.username, settings.password, settings.db)
        except NoAnswerError:
            self._socket.close()
            raise

    def __enter__(self) -> BriefRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """The reply to each command: bytes, int, list, None, or Refused. Raises NoAnswerError."""
        try:
            self._socket.settimeout(self._seconds_left())
            self._socket.sendall(b"".join(map(_written, commands)))
            return [self._reply(0) for _ in commands]
        except (OSError, ValueError) as error:
            raise NoAnswerError(type(error).__name__) from None

    def _log_in(self, username: str | None, password: str | None, db: int) -> None:
        first: list[tuple[str, ...]] = []
        if password is not None:
            first.append(("AUTH", *((username,) if username else ()), password))
        if db:
            first.append(("SELECT", str(db)))
        if any(isinstance(reply, Refused) for reply in self.ask(first)):
            raise NoAnswerError("refused")

    def _connected(self, settings: RedisSettings, host: str, port: int) -> tuple[socket.socket, bytes, int]:
        try:
            if settings.unix_socket:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(self._seconds_left())
                _connect(connection, settings.unix_socket)
            else:
                connection = socket.create_connection((host, port), timeout=self._seconds_left())
            if settings.tls and not settings.unix_socket:
                context = ssl.create_default_context(cafile=settings.tls_ca_file)
                connection = context.wrap_socket(connection, server_hostname=host)
        except (OSError, ValueError) as error:
            raise NoAnswerError(type(error).__name__) from None
        return connection, b"", BYTES_MAX

    def _primary(self, settings: RedisSettings) -> socket.socket:
        """Connected to the primary that the first Sentinel to answer names."""
        for host, port in settings.sentinels:
            try:
                self._socket, self._buffer, self._left = self._connected(settings, host, port)
                with self:
                    self._log_in(settings.sentinel_username, settings.sentinel_password, 0)
                    [named] = self.ask([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.sentinel_master or "")])
                if isinstance(named, list) and len(named) == 2:
                    return self._connected(settings, named[0].decode(), int(named[1]))[0]
            except (NoAnswerError, AttributeError, TypeError, ValueError):
                continue
        raise NoAnswerError("no Sentinel names a primary")

    def _seconds_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        return left

    def _reply(self, depth: int) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused()
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"$":
            return self._taken(size + 2)[:-2]
        if kind != b"*" or depth >= _DEPTH_MAX or size > BYTES_MAX:
            raise ValueError
        return [self._reply(depth + 1) for _ in range(size)]

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LINE_BYTES_MAX:
                raise ValueError
            self._receive()
        self._left -= _VALUE_BYTES
        if self._left < 0:
            raise ValueError
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        if not line:
            raise ValueError
        return line

    def _taken(self, size: int) -> bytes:
        if size > self._left + len(self._buffer):
            raise ValueError
        while len(self._buffer) < size:
            self._receive()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _receive(self) -> None:
        self._socket.settimeout(self._seconds_left())
        data = self._socket.recv(65536)
        self._left -= len(data)
        if not data or self._left < 0:
            raise ConnectionError
        self._buffer += data


def _connect(connection: socket.socket, path: str) -> None:
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise


def _written(command: Sequence[str]) -> bytes:
    words = [word.encode("utf-8", "surrogateescape") for word in command]
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])
