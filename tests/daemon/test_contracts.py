"""The daemon's own implementations of ports keep their contracts: LocalLedger is a Ledger, Metrics is a Teller."""

from __future__ import annotations

import asyncio

import pytest

from fleetd.daemon.local_ledger import LocalLedger
from fleetd.daemon.metrics import Metrics
from tests.support.contracts.ledger import LedgerCheck, ledger_contract
from tests.support.contracts.teller import TellerCheck, teller_contract


@pytest.mark.parametrize("check", ledger_contract, ids=lambda check: check.__name__)
def test_local_ledger(check: LedgerCheck) -> None:
    asyncio.run(check(LocalLedger()))


@pytest.mark.parametrize("check", teller_contract, ids=lambda check: check.__name__)
def test_metrics(check: TellerCheck) -> None:
    check(Metrics(version="1.2.3", now_seconds=lambda: 100.0))
