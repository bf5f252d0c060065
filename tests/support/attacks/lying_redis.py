"""A server that answers the login like Redis, then the first script with what no Redis would say, without end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.rig.free_port import free_port

_MB = b"x" * 1_000_000

#: What is sent once, and then without end.
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "a string of half a gigabyte": (b"$536870912\r\n", _MB),
    "a list of lists": (b"*1000000000\r\n", b"*0\r\n" * 10_000),
    "a list of strings": (b"*1000000000\r\n", b"$1000000\r\n" + _MB + b"\r\n"),
    "strings": (b"", b"$1000000\r\n" + _MB + b"\r\n"),
}
NONSENSE: dict[str, tuple[bytes, bytes]] = {
    "nested without end": (b"", b"*1\r\n" * 10_000),
    "a line without end": (b"+", _MB),
    "an error without end": (b"-ERR ", _MB),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n", b"X: y\r\n" * 1000),
    "no number": (b":x\r\n", b":y\r\n"),
    "a number of many digits": (b":" + b"9" * 10_000 + b"\r\n", b":1\r\n"),
    "a length below zero": (b"$-7\r\n", b"$-7\r\n"),
}


class LyingRedis:
    """Listens on `port`."""

    def __init__(self, once: bytes, forever: bytes, *, logs_in: bool = True) -> None:
        self.port = free_port()
        self._once, self._logs_in = once, logs_in
        self._forever = forever * (65_536 // len(forever) + 1)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while self._logs_in and b"EVALSHA" not in (said := await reader.read(65536)) and said:
                writer.write(b"+OK\r\n" * said.count(b"CLIENT"))
            writer.write(self._once)
            while True:
                writer.write(self._forever)
                await writer.drain()
        writer.close()
