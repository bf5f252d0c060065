"""One answer for everybody who asks at about the same time: a question that costs a round trip to Redis.

Anybody may ask (law 7): the answer of the last moment is given again, and only one question is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

#: An answer is given again for so long.
FRESH_SECONDS = 1.0


class Asked:
    """Asks `ask`, once at a time."""

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._under_way: asyncio.Task[str] | None = None
        self._answered_seconds = 0.0

    async def answer(self) -> str:
        """The answer; raises what `ask` raises."""
        now = asyncio.get_running_loop().time()
        task = self._under_way
        if task is None or (task.done() and (now - self._answered_seconds >= FRESH_SECONDS or _failed(task))):
            task = self._under_way = asyncio.create_task(self._asked())
        return await asyncio.shield(task)

    async def _asked(self) -> str:
        try:
            return await self._ask()
        finally:
            self._answered_seconds = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Ask no more."""
        if self._under_way is not None:
            self._under_way.cancel()


def _failed(task: asyncio.Task[str]) -> bool:
    return task.cancelled() or task.exception() is not None
