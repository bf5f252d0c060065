"""The ledger of a simulated fleet: the pure rules, on a server that may lose writes, answer late, or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from fleetd.core.fleet import rules
from fleetd.core.fleet.admission import admit
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Commit, Refusal
from fleetd.core.fleet.state import LedgerState
from fleetd.errors import SourceUnavailableError
from tests.support.fleet_world.host import HostWorld
from tests.support.fleet_world.shared import SharedWorld

#: Writes that a failover may lose.
WRITES_LOST_MAX = 6


class SharedLedger:
    """What Redis keeps of it."""

    def __init__(self, shared: SharedWorld) -> None:
        self.shared = shared
        self.state: LedgerState | None = None
        self.past: deque[LedgerState | None] = deque(maxlen=WRITES_LOST_MAX)

    def keep(self, state: LedgerState | None) -> None:
        if state is not self.state:
            self.past.append(self.state)
            self.state = state

    def fail_over(self, writes: int) -> None:
        """A replica is promoted that did not get the last writes."""
        for _ in range(min(writes, len(self.past))):
            self.state = self.past.pop()
        self.past.clear()
        self.shared.another_server()
        self._forgets()

    def flush(self) -> None:
        self.state = None
        self.past.clear()
        self._forgets()

    def _forgets(self) -> None:
        """What hosts have told may be lost."""
        for host in self.shared.hosts:
            if isinstance(host, HostWorld):
                host.untold_seconds = 0.0

    def beat(self, call: Beat) -> BeatReply | Refusal:
        state, answer = rules.beat(self.state, call, self.shared.server)
        self.keep(state)
        return answer

    def admit(self, call: Admit) -> Admitted:
        state, answer = admit(self.state, call, self.shared.server)
        self.keep(state)
        return answer

    def commit(self, call: Commit) -> Refusal | None:
        state, refusal = rules.commit(self.state, call, self.shared.server)
        self.keep(state)
        return refusal

    def order(self, about: str, what: str | None) -> Refusal | None:
        state, refusal = rules.order(self.state, about, what)
        self.keep(state)
        return refusal

    def forget(self, host: str) -> Refusal | None:
        state, refusal = rules.forget(self.state, host)
        self.keep(state)
        return refusal


#: Is called at each point at which a call can go wrong, with what the call would do if it came late.
Passes = Callable[[str, Callable[[], object] | None], Awaitable[None]]


class HostLedger:
    """The port of one host's fleetd."""

    def __init__(self, ledger: SharedLedger, host: HostWorld, passes: Passes) -> None:
        self.ledger = ledger
        self.host = host
        self.passes = passes
        self.answer: BeatReply | Refusal | None = None
        self.said: Beat | None = None
        self.describes: tuple[float, int] | None = (
            None  # when the units were read of which it tells, and what was missing
        )

    def say(self, call: Beat) -> None:
        self.said, self.answer = call, None

    def heard(self) -> BeatReply | Refusal | None:
        return self.answer

    def fault(self) -> str | None:
        return None if self.answer is not None else "no answer from redis within 2 s"

    async def beat(self) -> None:
        """The part of a reading that tells and hears."""
        call = self.said
        if call is None:
            return
        await self.passes("reading", lambda: self._tell(call))
        self.reach()
        answer = self._tell(call)
        await self.passes("told", None)
        self.answer = answer

    def _tell(self, call: Beat) -> BeatReply | Refusal | None:
        if not self.ledger.shared.redis_writable:
            return None
        answer = self.ledger.beat(call)
        if isinstance(answer, BeatReply) and call.claims is not None:
            self.host.told(self.describes)
        return answer

    def reach(self) -> None:
        self.host.link()
        if not self.host.redis_up:
            raise SourceUnavailableError("Redis at 127.0.0.1:6379 refuses connections")

    def _write(self) -> None:
        self.reach()
        if not self.host.redis_writable:
            raise SourceUnavailableError("Redis at 127.0.0.1:6379 takes no writes")

    async def admit(self, call: Admit) -> Admitted:
        await self.passes("asking", lambda: self._admit_late(call))
        self._write()
        answer = self.ledger.admit(call)
        await self.passes("granted", None)
        return answer

    def _admit_late(self, call: Admit) -> None:
        if self.ledger.shared.redis_writable:
            self.ledger.admit(call)

    async def commit(self, call: Commit) -> Refusal | None:
        await self.passes("committing", lambda: self.ledger.commit(call))
        self._write()
        refusal = self.ledger.commit(call)
        await self.passes("committed", None)
        return refusal

    async def order(self, about: str, what: str | None) -> Refusal | None:
        self._write()
        return self.ledger.order(about, what)

    async def forget(self, host: str) -> Refusal | None:
        self._write()
        return self.ledger.forget(host)

    async def read(self) -> LedgerState | None:
        self.reach()
        return self.ledger.state

    async def close(self) -> None: ...
