"""What a Redis may send: bounded for each round trip and for each reading (law 7).

What was feared: redis-py reads what it is told is coming, be it a string of 512 MB, a list without end or one that is
nested without end; and what answers on Redis's port need not be Redis. So each read is counted before it is done.
"""

from __future__ import annotations

from typing import Any

from redis import exceptions
from redis._parsers import _AsyncRESP2Parser

#: A script of ours stops at 1 MiB and jobs are sent in batches of 2 MiB, unless a single job is larger (4 MiB).
ROUND_BYTES_MAX = 16 * 1024 * 1024
#: 32 MiB of running jobs sent whole, 40 MB of those that were cut, and the rest.
READING_BYTES_MAX = 96 * 1024 * 1024
#: Each value becomes an object, which an empty list makes of four bytes.
_LINE_BYTES = 128


class TooMuchSentError(exceptions.RedisError):
    """Redis sent more than it may."""


class NotRedisError(exceptions.RedisError):
    """What was sent is not Redis's protocol."""


class Allowance:
    """What may still be received, over all connections of one reader."""

    def __init__(self, *, reading_bytes_max: int = READING_BYTES_MAX, round_bytes_max: int = ROUND_BYTES_MAX) -> None:
        self._reading_bytes_max, self._round_bytes_max = reading_bytes_max, round_bytes_max
        self._reading_left = self._round_left = 0
        self.begin_reading()

    def begin_reading(self) -> None:
        self._reading_left = self._reading_bytes_max
        self.begin_round()

    def begin_round(self) -> None:
        self._round_left = self._round_bytes_max

    def take(self, count: int) -> None:
        """Raises TooMuchSentError when it is used up."""
        self._reading_left -= count
        self._round_left -= count
        if min(self._reading_left, self._round_left) < 0:
            raise TooMuchSentError


class BoundedParser(_AsyncRESP2Parser):
    """redis-py's parser on a stream that counts. In what is not Redis's protocol it raises NotRedisError only."""

    def __init__(self, allowance: Allowance, **options: Any) -> None:
        super().__init__(**options)
        self._allowance = allowance

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[no-untyped-call]
        self._stream: Any = _Counted(self._stream, self._allowance)

    async def read_response(self, *given: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*given, **options)
        except (ValueError, RecursionError, exceptions.InvalidResponse):  # no number, too long a line, or too deep
            raise NotRedisError from None


class _Counted:
    """The two ways in which the parser reads; everything else is the stream's."""

    def __init__(self, stream: Any, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    async def readexactly(self, count: int) -> bytes:
        self._allowance.take(count)
        data: bytes = await self._stream.readexactly(count)
        return data

    async def readline(self) -> bytes:
        line: bytes = await self._stream.readline()  # bounded by asyncio, to 64 KiB
        self._allowance.take(len(line) + _LINE_BYTES)
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
