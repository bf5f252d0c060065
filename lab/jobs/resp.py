"""The part of Redis's protocol that a loader needs, without a client library: the lab runs on a bare Python."""

import contextlib
import socket
from collections.abc import Sequence
from typing import Self

from lab.waiting import PATIENCE_SECONDS

Value = str | int | None | list["Value"]


class RedisError(Exception):
    """Redis answered with an error."""


class Connection:
    """One connection to Redis. It waits for each answer for at most `timeout` seconds. Raises OSError, RedisError."""

    def __init__(
        self, host: str, port: int = 6379, *, password: str = "", db: int = 0, timeout: float = PATIENCE_SECONDS
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._reader = self._socket.makefile("rb")
        try:
            if password:
                self.command("AUTH", password)
            if db:
                self.command("SELECT", str(db))
        except BaseException:  # a Redis that is stopping accepts the connection but does not answer
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._reader.close()
        self._socket.close()

    def command(self, *words: str) -> Value:
        """Send one command and return its answer."""
        return self.pipeline([words])[0]

    def pipeline(self, commands: Sequence[Sequence[str]]) -> list[Value]:
        """Send several commands at once and return their answers. Raises the first error among them."""
        self._socket.sendall(b"".join(_encoded(words) for words in commands))
        answers: list[Value] = []
        wrong: RedisError | None = None
        for _ in commands:
            try:
                answers.append(self._answer())
            except RedisError as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong
        return answers

    def _answer(self) -> Value:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RedisError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        length = int(rest)
        if length < 0:
            return None
        if kind == b"*":
            return [self._answer() for _ in range(length)]
        data = self._reader.read(length + 2)
        if len(data) < length + 2:
            raise ConnectionError("Redis closed the connection")
        return data[:-2].decode()


def _encoded(words: Sequence[str]) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        data = word.encode()
        parts += [f"${len(data)}\r\n".encode(), data, b"\r\n"]
    return b"".join(parts)


def strings(value: Value) -> list[str]:
    """The strings in a list that Redis answered with."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
