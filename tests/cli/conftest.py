"""fleetctl is of the version that the made-up statuses are of, so that no release changes the recorded screens."""

from __future__ import annotations

import pytest

from fleetd.cli.advice import findings
from tests.support.builders.status_healthy import VERSION


@pytest.fixture(autouse=True)
def _one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "__version__", VERSION)
