"""The ledger in Redis: each beat travels with the reading of Sidekiq, the other calls have a connection of their own.

What is refused by the rules is a Refusal. Where there is no answer, the sentence says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from redis import exceptions

from fleetd.adapters.ledger.answers import LaterFormatError, MalformedError, admitted, beat_reply, done, ledger_in
from fleetd.adapters.ledger.arguments import (
    admit_arguments,
    beat_arguments,
    commit_arguments,
    forget_arguments,
    order_arguments,
)
from fleetd.adapters.ledger.script import SCRIPT
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.failures import WRITE_REFUSALS, error_code, sentence, write_refusal
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.config.connections import RedisSettings
from fleetd.core.fleet import sizes
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Code, Commit, Refusal
from fleetd.core.fleet.state import LedgerState
from fleetd.errors import SourceUnavailableError

LEDGER_KEY = "fleetd:ledger"
_WITHOUT_RIGHT = "this user may not; give it the rights for several hosts that docs/operations.md lists"
_TOO_LARGE = Refusal(code=Code.TOO_LARGE)

T = TypeVar("T")


class RedisLedger:
    """A ports.Ledger, and a Rider: its beat is sent by whoever reads Sidekiq."""

    def __init__(
        self,
        settings: RedisSettings,
        connection: RedisConnection,
        *,
        deadline_seconds: float = 3.0,
        script: Script = SCRIPT,
    ) -> None:
        """`connection`: for all calls but the beat, and nobody else's. `deadline_seconds`: of each of these calls."""
        self._settings = settings
        self._connection = connection
        self._deadline_seconds = deadline_seconds
        self._script = script
        self._key = settings.key_prefix + LEDGER_KEY
        self._one_at_a_time = asyncio.Lock()
        self._said: Beat | None = None
        self._heard: BeatReply | Refusal | None = None
        self._fault: str | None = None

    # The beat.

    def say(self, call: Beat) -> None:
        """The beat that the next reading carries, once."""
        self._said, self._heard, self._fault = call, None, None

    def heard(self) -> BeatReply | Refusal | None:
        """The answer to what was said last; None: there is none, or not yet."""
        return self._heard

    def fault(self) -> str | None:
        """Why Redis gave no proper answer to what was said last; None: it did, or nothing was sent."""
        return self._fault

    def commands(self) -> tuple[tuple[Any, ...], ...]:
        call, self._said = self._said, None
        if call is None:
            return ()
        if sizes.beat_too_large(call):
            self._heard = _TOO_LARGE
            return ()
        return (self._command(beat_arguments(call)),)

    def take(self, replies: list[Any]) -> None:
        for reply in replies:
            try:
                self._heard = self._answer(reply, beat_reply)
            except SourceUnavailableError as error:
                self._fault = str(error)
                if isinstance(reply, exceptions.ResponseError) and error_code(reply) == "NOPERM":
                    self._heard = Refusal(code=Code.NO_RIGHTS, about=self._fault)

    def missed(self) -> None:
        self._said = None

    # The other calls. Each raises SourceUnavailableError when there is no answer; Redis may then have done it.

    async def admit(self, call: Admit) -> Admitted:
        """Which of these may be started, at once."""
        if sizes.admit_too_large(call):
            return Admitted(granted=0, refusal=_TOO_LARGE)
        answer = await self._ask(self._command(admit_arguments(call)), admitted)
        # Asked after it, so of the server that answered: an old primary that is cut off grants nothing (law 1).
        sentinels = await self._connection.sentinels_agree() if answer.granted else None
        if sentinels is None or sentinels.majority:
            return answer
        named = f"{sentinels.naming_ours} of {sentinels.configured}"
        return Admitted(granted=0, refusal=Refusal(code=Code.SENTINELS, about=named))

    async def commit(self, call: Commit) -> Refusal | None:
        """Write the leader's plan; None: it was taken."""
        if sizes.commit_too_large(call):
            return _TOO_LARGE
        return await self._ask(self._command(commit_arguments(call)), done)

    async def order(self, about: str, what: str | None) -> Refusal | None:
        """Write a person's order to the fleet, or end it (None)."""
        if sizes.order_too_large(about, what):
            return _TOO_LARGE
        return await self._ask(self._command(order_arguments(about, what)), done)

    async def forget(self, host: str) -> Refusal | None:
        """A person says that a host is gone for good."""
        return await self._ask(self._command(forget_arguments(host)), done)

    async def read(self) -> LedgerState | None:
        """The whole ledger; None: there is none. Changes nothing."""
        return await self._ask(("HGETALL", self._key), _as_kept)

    async def close(self) -> None:
        await self._connection.drop()

    def _command(self, arguments: tuple[str, ...]) -> tuple[Any, ...]:
        return self._script.call(*arguments, keys=(self._key,))

    async def _ask(self, command: tuple[Any, ...], answer: Callable[[Any], T]) -> T:
        try:
            async with asyncio.timeout(self._deadline_seconds), self._one_at_a_time:
                return self._answer(await self._reply(command), answer)
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            await self._connection.drop()
            why = sentence(error, self._settings, self._deadline_seconds)
            raise SourceUnavailableError(why) from None  # the cause's text may quote what was sent
        except BaseException:
            await self._connection.drop()
            raise

    async def _reply(self, command: tuple[Any, ...]) -> Any:
        self._connection.allowance.begin_reading()
        rounds = Rounds(self._connection.client(), self._connection.allowance, until_seconds=0.0)
        (reply,) = await rounds.ask(command)
        if isinstance(reply, exceptions.NoScriptError):
            (reply,) = await rounds.ask(command, whole=True)
        return reply

    def _answer(self, reply: Any, answer: Callable[[Any], T]) -> T:
        """Raises SourceUnavailableError."""
        server = f"Redis at {self._settings.endpoint}"
        if isinstance(reply, exceptions.ResponseError):
            code = error_code(reply)
            if code == "WRONGTYPE":
                raise SourceUnavailableError(f"{server} has something else in {self._key}: delete it")
            if code in WRITE_REFUSALS:
                why = write_refusal(reply, without_right=_WITHOUT_RIGHT)
                raise SourceUnavailableError(f"{server} does not let fleetd use {self._key}: {why}")
        if isinstance(reply, Exception):
            raise SourceUnavailableError(sentence(reply, self._settings, self._deadline_seconds))
        try:
            return answer(reply)
        except LaterFormatError:
            raise SourceUnavailableError(
                f"a later version of fleetd wrote {self._key} in {server}: upgrade fleetd here"
            ) from None
        except MalformedError as error:
            raise SourceUnavailableError(
                f"what {server} has in {self._key} was not written by fleetd ({error}): see who else writes to it; "
                "deleted, it is made anew from what the hosts know"
            ) from None


def _as_kept(reply: Any) -> LedgerState | None:
    if not isinstance(reply, dict):
        raise MalformedError("no hash")
    return ledger_in(reply)
