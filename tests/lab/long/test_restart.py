"""`fleetctl restart` of eight busy instances, with and without a spare number."""

from __future__ import annotations

import pytest

from tests.support.lab import rollouts as rolls
from tests.support.lab.fleet import started

pytestmark = [pytest.mark.lab, pytest.mark.long]

INSTANCES = 8


@pytest.mark.parametrize(("spares", "least"), [(0, 7), (1, 8)], ids=["no number to spare", "one to spare"])
def test_a_restart_of_eight(spares: int, least: int) -> None:
    with started(rolls.configuration(INSTANCES, spares)) as fleet:
        roll = rolls.restart(fleet, INSTANCES)
        print(
            f"restart of {INSTANCES} with {spares} to spare: {roll.seconds:.0f} s, never fewer than "
            f"{roll.least_serving} served, {roll.tally.done} of {roll.tally.enqueued} jobs done, "
            f"{len(roll.tally.lost)} lost, {roll.pushed_back} pushed back"
        )
        rolls.nothing_was_lost(roll, INSTANCES)
        assert roll.least_serving >= least
