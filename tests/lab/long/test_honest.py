"""Two traces on real Sidekiq go as the simulator says, within 25 % or 1 s; figures: benchmarks/policies.md."""

from __future__ import annotations

import pytest

from tests.support.lab import simulated_twin as honest

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.mark.parametrize("name", honest.LONG)
def test_a_trace_goes_as_simulated(name: str) -> None:
    honest.goes_as_simulated(name)
