"""The ledger of a single host: in memory, with the lease always ours, and fenced by epoch like one for many hosts."""

from __future__ import annotations

from fleetd.core.model.decision import Plan
from fleetd.ports import LedgerView

_TOKEN = 1


class LocalLedger:
    """A ports.Ledger for one host. It is lost with the process: then windows begin anew, and nothing else happens."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._fleet_memory: bytes | None = None

    async def beat(self, now_seconds: float) -> LedgerView:
        return LedgerView(token=_TOKEN, plan=self._plan, fleet_memory=self._fleet_memory)

    async def commit(self, plan: Plan, fleet_memory: bytes, token: int) -> bool:
        if token != _TOKEN or (self._plan is not None and plan.epoch <= self._plan.epoch):
            return False
        self._plan, self._fleet_memory = plan, fleet_memory
        return True
