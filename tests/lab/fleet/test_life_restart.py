"""`fleetctl restart` of busy instances: at most one is missing at any time, and no job is lost."""

from __future__ import annotations

import pytest

from tests.support.lab import rollouts as rolls
from tests.support.lab.fleet import started

pytestmark = pytest.mark.lab


def test_a_restart_keeps_capacity_and_jobs() -> None:
    with started(rolls.configuration(3, spares=0)) as fleet:
        roll = rolls.restart(fleet, 3)
        rolls.nothing_was_lost(roll, 3)
        assert roll.least_serving == 2
        assert "3 of 3" in roll.said
