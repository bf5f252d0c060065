"""The daemon's own implementation of a port keeps its contract: Metrics is a Teller."""

from __future__ import annotations

import pytest

from fleetd.daemon.metrics import Metrics
from tests.support.contracts.teller import TellerCheck, teller_contract


@pytest.mark.parametrize("check", teller_contract, ids=lambda check: check.__name__)
def test_metrics(check: TellerCheck) -> None:
    check(Metrics(version="1.2.3", now_seconds=lambda: 100.0))
