"""The floods of tests/lab/systemd/test_bus_floods.py for a minute each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab.fleet import Fleet
from tests.support.lab.flooding import KINDS, check_flood, to_be_flooded

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with to_be_flooded() as fleet:
        yield fleet


@pytest.mark.parametrize("kind", KINDS)
def test_a_minute_of_a_flood(fleet: Fleet, kind: str) -> None:
    check_flood(fleet, kind, seconds=60)
