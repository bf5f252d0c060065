"""A scripted admin acts in seeded order; after each act every claim of the status is compared with other programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab.fleet import Fleet, started
from tests.support.lab.probes.acts import CONFIG, MANY, under_way, work_through

pytestmark = pytest.mark.lab

SEED, ACTS = 1, 10


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG.format(numbers=MANY, threads=4)) as fleet:
        under_way(fleet)
        yield fleet


def test_nothing_that_is_said_stays_wrong(fleet: Fleet) -> None:
    assert work_through(fleet, SEED, ACTS) == {}
    assert fleet.settled().lost == ()
