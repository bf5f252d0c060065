"""Round trips of one reading: scripts by their hash, and an end to what one reading may ask (law 7)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis.bounded import Allowance, NotRedisError
from fleetd.adapters.redis.rider import Ride

#: Round trips of one reading. Each script does a bounded amount, about 3 ms of Redis.
ROUNDS_MAX = 200


class Script:
    """A Lua script, in a file or as text."""

    def __init__(self, source: Path | str) -> None:
        self.text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # Redis's name for it

    def call(self, *arguments: Any, keys: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The command that runs it, which only `Rounds` can send."""
        return ("EVALSHA", self, len(keys), *keys, *arguments)


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

    async def ask(self, *commands: tuple[Any, ...], whole: bool = False) -> list[Any]:
        """The replies to these commands, sent at once; an error reply is an exception in the list.

        Scripts are sent by their hash or, if `whole`, as text.
        """
        self._left -= 1
        self._allowance.begin_round()
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*_as_sent(command, whole=whole))
        return await pipeline.execute(raise_on_error=False)

    async def run(
        self,
        script: Script,
        *arguments: Any,
        beside: tuple[tuple[Any, ...], ...] = (),
        ride: Ride | None = None,
    ) -> list[Any]:
        """The script's reply, a list, and the replies to the commands beside it. Raises the script's error.

        `ride`: commands of somebody else, who gets the replies to these.
        """
        ride = ride or Ride(None)
        own = (script.call(*arguments), *beside)
        others = ride.commands()
        all_replies = await self.ask(*own, *others)
        replies, other_replies = all_replies[: len(own)], all_replies[len(own) :]
        unknown = [at for at, reply in enumerate(other_replies) if _is_unknown(others[at], reply)]
        if not unknown:
            ride.arrived(other_replies)
        if _is_unknown(own[0], replies[0]):  # a new Redis, a failover or SCRIPT FLUSH
            replies = await self.ask(*own, whole=True)
        if unknown:
            await self._send_again(ride, others, other_replies, unknown)
        if isinstance(replies[0], Exception):
            raise replies[0]
        if not isinstance(replies[0], list):
            raise NotRedisError
        return replies

    async def _send_again(
        self, ride: Ride, commands: Sequence[tuple[Any, ...]], replies: list[Any], unknown: Sequence[int]
    ) -> None:
        """The scripts of a ride that Redis does not know. If that fails, the reading itself goes on."""
        try:
            again = await self.ask(*(commands[at] for at in unknown), whole=True)
        except (exceptions.RedisError, OSError):
            return
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
        ride.arrived(replies)


def _as_sent(command: tuple[Any, ...], *, whole: bool) -> tuple[Any, ...]:
    match command:
        case ("EVALSHA", Script() as script, *rest):
            return ("EVAL", script.text, *rest) if whole else ("EVALSHA", script.sha, *rest)
    return command


def _is_unknown(command: tuple[Any, ...], reply: Any) -> bool:
    """Whether Redis does not know the script that was sent to it by its hash."""
    return isinstance(reply, exceptions.NoScriptError) and len(command) > 1 and isinstance(command[1], Script)
