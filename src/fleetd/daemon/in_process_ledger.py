"""A fleet's ledger in this process: the rules on a state in memory. The simulator's and the tests' hosts share one."""

from __future__ import annotations

from collections.abc import Callable

from fleetd.core.fleet import admission, rules
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Commit, Refusal, Server
from fleetd.core.fleet.state import LedgerState
from fleetd.errors import SourceUnavailableError


class LedgerInMemory:
    """What Redis is to a real ledger: it keeps the state, and has a clock."""

    def __init__(self, now_ms: Callable[[], int], run_id: str = "in-process") -> None:
        """`now_ms`: milliseconds; may jump. `run_id`: another one later is a restart that may have lost writes."""
        self.state: LedgerState | None = None
        self.run_id = run_id
        self._now_ms = now_ms

    @property
    def server(self) -> Server:
        return Server(time_ms=self._now_ms(), run_id=self.run_id)


class InProcessLedger:
    """A ports.Ledger for one host. Nothing carries its beat: it is answered as soon as it is said."""

    def __init__(self, memory: LedgerInMemory, *, reachable: Callable[[], bool] = lambda: True) -> None:
        """`memory`: the fleet's; each host has a ledger of its own on it. `reachable`: whether this host gets there."""
        self._memory = memory
        self._reachable = reachable
        self._heard: BeatReply | Refusal | None = None

    def say(self, call: Beat) -> None:
        self._heard = None
        if self._reachable():
            self._memory.state, self._heard = rules.beat(self._memory.state, call, self._memory.server)

    def heard(self) -> BeatReply | Refusal | None:
        return self._heard

    def fault(self) -> str | None:
        """Nothing is to be said: whoever does not reach it has no reading either."""
        return None

    async def admit(self, call: Admit) -> Admitted:
        self._reach()
        self._memory.state, answer = admission.admit(self._memory.state, call, self._memory.server)
        return answer

    async def commit(self, call: Commit) -> Refusal | None:
        self._reach()
        self._memory.state, refusal = rules.commit(self._memory.state, call, self._memory.server)
        return refusal

    async def order(self, about: str, what: str | None) -> Refusal | None:
        self._reach()
        self._memory.state, refusal = rules.order(self._memory.state, about, what)
        return refusal

    async def forget(self, host: str) -> Refusal | None:
        self._reach()
        self._memory.state, refusal = rules.forget(self._memory.state, host)
        return refusal

    async def read(self) -> LedgerState | None:
        self._reach()
        return self._memory.state

    async def close(self) -> None:
        """Nothing is open."""

    def _reach(self) -> None:
        if not self._reachable():
            raise SourceUnavailableError("the fleet's ledger can't be reached")
