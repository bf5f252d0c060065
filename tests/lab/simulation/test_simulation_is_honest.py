"""A surge on real Sidekiq matches the simulation within 25 % or 1 s. Longer ones: long/test_honest.py."""

from __future__ import annotations

import pytest

from tests.support.lab import simulated_twin as honest

pytestmark = pytest.mark.lab


def test_a_surge_goes_as_simulated() -> None:
    honest.goes_as_simulated(honest.SHORT)
