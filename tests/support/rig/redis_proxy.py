"""A proxy between a client and Redis that records each command, and can hold commands back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path


class HoldingProxy:
    """Passes commands on only once `group` of them have arrived. A client that waits for a reply earlier gets none."""

    def __init__(self, redis_socket: str, path: Path) -> None:
        self.path = path
        self.group = 1
        self.commands: list[str] = []
        self._redis_socket = redis_socket
        self._served: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[HoldingProxy]:
        server = await asyncio.start_unix_server(self._client, self.path)
        try:
            yield self
        finally:
            server.close()
            await asyncio.wait_for(asyncio.gather(*self._served), 60)

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, redis = await asyncio.open_unix_connection(self._redis_socket)
        back = asyncio.create_task(_copy(replies, writer))
        held: list[bytes] = []
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client has gone
            while True:
                name, raw = await _command(reader)
                self.commands.append(name)
                held.append(raw)
                if len(held) >= self.group:
                    redis.write(b"".join(held))
                    held.clear()
                    self.group = 1
        for end in (redis, writer):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()
        await back


async def _command(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The next command's name, and the whole command in RESP: `*WORDS`, then `$LENGTH` and the bytes of each word."""
    raw = await reader.readuntil(b"\r\n")
    words: list[bytes] = []
    for _ in range(int(raw[1:])):
        length = await reader.readuntil(b"\r\n")
        words.append(await reader.readexactly(int(length[1:]) + 2))
        raw += length + words[-1]
    return words[0].strip().decode().upper(), raw


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


class CountingProxy:
    """Passes everything on at once, and counts round trips: what a client sends after it has got a reply, or at first.

    Of one client that sends what belongs together at once, and fits into a socket.
    """

    def __init__(self, redis_socket: str, path: Path) -> None:
        self.path = path
        self.round_trips = 0
        self.received_bytes = 0  # by the client
        self._redis_socket = redis_socket
        self._served: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[CountingProxy]:
        server = await asyncio.start_unix_server(self._client, self.path)
        try:
            yield self
        finally:
            server.close()
            await asyncio.wait_for(asyncio.gather(*self._served), 60)

    def counted(self) -> tuple[int, int]:
        """Round trips and received bytes since the last time."""
        found = self.round_trips, self.received_bytes
        self.round_trips = self.received_bytes = 0
        return found

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, redis = await asyncio.open_unix_connection(self._redis_socket)
        asked = False

        async def back() -> None:
            nonlocal asked
            with contextlib.suppress(ConnectionError):
                while data := await replies.read(65536):
                    asked = False
                    self.received_bytes += len(data)
                    writer.write(data)

        answering = asyncio.create_task(back())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024 * 1024):
                self.round_trips += not asked
                asked = True
                redis.write(data)
        for end in (redis, writer):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()
        await answering
