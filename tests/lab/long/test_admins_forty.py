"""The scripted admin of tests/lab/truth, longer: forty acts."""

from __future__ import annotations

import pytest

from tests.support.lab.fleet import started
from tests.support.lab.probes.acts import CONFIG, MANY, under_way, week, work_through

THREADS = 7
pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.mark.parametrize("seed", [2, 3])
def test_nothing_that_is_said_stays_wrong(seed: int) -> None:
    with started(CONFIG.format(numbers=MANY, threads=4)) as fleet:
        under_way(fleet)
        assert work_through(fleet, seed, 40) == {}
        # What a worker runs when the admin kills it is lost: Sidekiq takes a job out of Redis before it runs it.
        assert len(fleet.settled().lost) <= week(seed, 40).count("kill") * THREADS
