"""Two traces on real Sidekiq match the simulation within 25 % or 1 s. Figures: benchmarks/policies.md."""

from __future__ import annotations

import pytest

from tests.support.lab import simulated_twin as honest

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.mark.parametrize("name", honest.LONG)
def test_a_trace_goes_as_simulated(name: str) -> None:
    honest.goes_as_simulated(name)
