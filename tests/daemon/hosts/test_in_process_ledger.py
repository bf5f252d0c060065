"""The ledger in this process keeps the contract of Ledger."""

from __future__ import annotations

import asyncio

import pytest

from fleetd.daemon.in_process_ledger import InProcessLedger, LedgerInMemory
from tests.support.contracts.ledger import LedgerCheck, ledger_contract


class InProcess:
    """Two hosts on one state in memory."""

    def __init__(self) -> None:
        self._now_ms, self._reachable = 1_700_000_000_000, True
        self._memory = LedgerInMemory(lambda: self._now_ms)
        self._ledgers: dict[str, InProcessLedger] = {}

    def ledger_of(self, host: str) -> InProcessLedger:
        return self._ledgers.setdefault(host, InProcessLedger(self._memory, reachable=lambda: self._reachable))

    async def read(self, host: str) -> None:
        """Nothing carries a beat here."""

    def pass_time(self, milliseconds: int) -> None:
        self._now_ms += milliseconds

    def lose(self) -> None:
        self._memory.state = None

    def break_connection(self) -> None:
        self._reachable = False

    def heal_connection(self) -> None:
        self._reachable = True


@pytest.mark.parametrize("check", ledger_contract, ids=lambda check: check.__name__)
def test_in_process(check: LedgerCheck) -> None:
    asyncio.run(check(InProcess()))
