"""Finds the live processes in a set `processes` that is too large for the first script.

Whoever is killed stays a member until another Sidekiq cleans up, so most members of a large set are dead. Looking at
all of them costs Redis more than a microsecond each. So a walk through the set is continued by the next reading where
one has no time for all of it, and what it found counts for a while unless the set has changed.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from redis import exceptions

from fleetd.adapters.redis.failures import error_code
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.adapters.sidekiq.memory import PROCESSES_MAX
from fleetd.adapters.sidekiq.records import UNREAD, Reading, why_unreadable

_SCRIPT = Script(Path(__file__).with_name("members.lua"))

#: More are not looked at.
MEMBERS_MAX = 300_000
#: How long a walk counts while the set keeps its size and the processes that are known. A new process changes the size;
#: only one that was dead and beats again does not, and it was silent for longer than this before.
_COUNTS_SECONDS = 30.0


class _Walk:
    """A walk through the set, and what it found until now."""

    def __init__(self) -> None:
        self.cursor = b"0"
        self.looked_at = 0
        self.long_names = 0
        self.found: dict[bytes, None] = {}  # identities with a heartbeat
        self.size = 0  # of the set, at its end
        self.ended_at_seconds = -math.inf  # the event loop's clock

    def tell(self, reading: Reading) -> None:
        """Leave the identities that have a heartbeat and are not known yet to `reading.left`."""
        new = [identity for identity in self.found if reading.is_new(identity)]
        reading.left["process"] += new[:PROCESSES_MAX]
        if len(new) > PROCESSES_MAX:
            reading.incomplete(f"has more than {PROCESSES_MAX} members with a heartbeat; the rest is not read")
        if self.long_names:
            reading.incomplete("has a member that is too long for a name")


class MembersReader:
    """Walks through the set, in one reading or in several."""

    def __init__(self) -> None:
        self._walk = _Walk()
        self._last = _Walk()  # to its end

    async def read(self, reading: Reading, rounds: Rounds, key_prefix: str) -> None:
        """Tell the reading which members have a heartbeat, as far as it has time to find them."""
        size = reading.members_unread
        if not size:
            return None
        now = asyncio.get_running_loop().time()
        counts = size == self._last.size and now < self._last.ended_at_seconds + _COUNTS_SECONDS
        if not counts or not reading.knows_all_from_before():
            why = await self._go_on(rounds, key_prefix)
            if why:
                self._walk.tell(reading)
                return reading.incomplete(why)
            self._last, self._walk = self._walk, _Walk()
            self._last.size, self._last.ended_at_seconds = size, now
        self._last.tell(reading)
        reading.dead_members(self._last.looked_at - len(self._last.found))
        if size > MEMBERS_MAX:
            reading.incomplete(f"has more than {MEMBERS_MAX} members; the rest is not read")
        return None

    async def _go_on(self, rounds: Rounds, key_prefix: str) -> str:
        """Walk to the end of the set; else why not."""
        walk = self._walk
        while walk.looked_at < MEMBERS_MAX:
            if not rounds.any_left():
                return UNREAD
            try:
                (reply,) = await rounds.run(_SCRIPT, key_prefix, walk.cursor)
            except exceptions.ResponseError as error:
                return why_unreadable(error_code(error))
            walk.cursor, looked_at, long_names, identities = reply
            walk.looked_at += looked_at
            walk.long_names += long_names
            walk.found.update(dict.fromkeys(identities))
            if walk.cursor == b"0":
                break
        return ""
