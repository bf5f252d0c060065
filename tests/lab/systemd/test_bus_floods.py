"""Floods over the system bus by a local user without rights: fleetd goes on, and so does whoever asks it.

Before messages were read header first, with turns, ten seconds of Pings or signals kept ticks waiting for 9.9 s, and in
the other floods `fleetctl status` got no answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab.fleet import Fleet
from tests.support.lab.flooding import KINDS, check_flood, to_be_flooded

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with to_be_flooded() as fleet:
        yield fleet


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_neither_stops_the_ticks_nor_takes_memory_nor_shuts_root_out(fleet: Fleet, kind: str) -> None:
    check_flood(fleet, kind, seconds=10)
