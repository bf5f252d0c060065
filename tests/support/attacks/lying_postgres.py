"""A server that begins like Postgres, then sends what no Postgres would, without end.

Messages: PostgreSQL's documentation, "Message Formats": a letter, the length as four bytes, the content.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

from tests.support.rig.free_port import free_port


def message(letter: bytes, content: bytes) -> bytes:
    return letter + struct.pack("!I", len(content) + 4) + content


def row(*values: bytes | None) -> bytes:
    cells = (struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)
    return message(b"D", struct.pack("!H", len(values)) + b"".join(cells))


def columns(count: int) -> bytes:
    return message(b"T", struct.pack("!H", count) + (b"c\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)) * count)


LOGGED_IN = message(b"R", struct.pack("!I", 0))
READY = message(b"Z", b"I")
CLEAR_PASSWORD = message(b"R", struct.pack("!I", 3))
_GIB = struct.pack("!I", (1 << 30) - 1)

#: What is sent after the login, and then without end: name to (once, for ever).
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "rows": (columns(1), row(b"x" * 100) * 1000),
    "rows without columns": (message(b"T", b"\0\0"), row() * 10_000),
    "rows of many columns": (columns(10_000), row(*[None] * 10_000)),
    "one row of a gigabyte": (columns(1) + b"D" + _GIB + struct.pack("!Hi", 1, (1 << 30) - 11), b"x" * 1_000_000),
    "results": (b"", message(b"C", b"\0") * 10_000),
    "notices": (b"", message(b"N", b"SNOTICE\0C00000\0Mx\0\0") * 1000),
    "notifications": (b"", message(b"A", struct.pack("!I", 1) + b"c\0\0") * 10_000),
    "an error of a gigabyte": (b"E" + _GIB + b"SERROR\0M", b"x" * 1_000_000),
    "settings": (b"", b"".join(message(b"S", b"%x\0\0" % n) for n in range(2_000))),
}
#: A query that is answered without a row.
NO_ROW = columns(1) + message(b"C", b"SELECT 0\0") + READY
#: The same instead of an answer to the login.
LOGINS: dict[str, tuple[bytes, bytes]] = {
    "an error of a gigabyte": ANSWERS["an error of a gigabyte"],
    "a login of a gigabyte": (b"R" + _GIB, b"x" * 1_000_000),
    "settings": (LOGGED_IN, ANSWERS["settings"][1]),
    "notices": (LOGGED_IN, ANSWERS["notices"][1]),
    "nothing that Postgres says": (b"", b"HTTP/1.1 400 Bad Request\r\n" * 10_000),
}


def scram(rounds: int) -> tuple[bytes, Callable[[bytes], bytes]]:
    """A login with so many rounds of hashing: the first message, and what the answer to it is answered (RFC 5802)."""

    def second(answer: bytes) -> bytes:
        nonce = answer.rpartition(b"r=")[2]
        return message(b"R", struct.pack("!I", 11) + b"r=%sXX,s=QSXCR+Q6sek8bf92,i=%d" % (nonce, rounds))

    return message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"), second


class LyingPostgres:
    """Listens on `port`; `sent_bytes`: how much of the flood it was rid of; `heard`: what clients sent to it."""

    def __init__(
        self,
        once: bytes,
        forever: bytes,
        *,
        logs_in: bool = True,
        second: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.port = free_port()
        self.sent_bytes = 0
        self.heard = b""
        self._once, self._forever, self._logs_in = once, forever, logs_in
        self._second = second

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[LyingPostgres]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            first = await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0] - 4)
            if len(first) == 4:  # asks for TLS, or for GSSAPI
                writer.write(b"N")
                await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0] - 4)
            if self._logs_in:
                writer.write(LOGGED_IN + READY)
                await reader.readexactly(5)  # the query begins
            writer.write(self._once)
            if self._second is not None:
                await reader.readexactly(1)
                answer = await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0] - 4)
                writer.write(self._second(answer))
            while self._forever:
                writer.write(self._forever)
                await writer.drain()
                self.sent_bytes += len(self._forever)
            self.heard += await reader.read(4096)
        writer.close()
