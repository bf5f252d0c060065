"""Round trips of one reading: scripts by their hash, and an end to what one reading may ask (law 7)."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis.bounded import Allowance, NotRedisError

#: Round trips of one reading. Each script does a bounded amount, about 3 ms of Redis.
ROUNDS_MAX = 200


class Script:
    """A Lua script in a file."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # Redis's name for it


class Rounds:
    """The round trips that a reading has left."""

    def __init__(self, client: Redis, allowance: Allowance, *, until_seconds: float) -> None:
        """`until_seconds`: when no more may begin, by the event loop's clock."""
        self._client = client
        self._allowance = allowance
        self._until_seconds = until_seconds
        self._left = ROUNDS_MAX

    def any_left(self) -> bool:
        return self._left > 0 and asyncio.get_running_loop().time() < self._until_seconds

    async def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to these commands, sent at once; an error reply is an exception in the list."""
        self._left -= 1
        self._allowance.begin_round()
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def run(self, script: Script, *arguments: Any, beside: tuple[tuple[Any, ...], ...] = ()) -> list[Any]:
        """The script's reply, a list, and the replies to the commands sent with it. Raises the script's error."""
        replies = await self.ask(("EVALSHA", script.sha, 0, *arguments), *beside)
        if isinstance(replies[0], exceptions.NoScriptError):  # a new Redis, a failover or SCRIPT FLUSH
            replies = await self.ask(("EVAL", script.text, 0, *arguments), *beside)
        if isinstance(replies[0], Exception):
            raise replies[0]
        if not isinstance(replies[0], list):
            raise NotRedisError
        return replies
