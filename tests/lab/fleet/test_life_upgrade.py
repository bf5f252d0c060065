"""An upgrade of Mastodon in a surge: nothing is started on half-installed code, and no job is lost."""

from __future__ import annotations

import pytest

from tests.support.lab import upgrades
from tests.support.lab.fleet import started

pytestmark = pytest.mark.lab


def test_an_upgrade_in_a_surge() -> None:
    with started(upgrades.CONFIG) as fleet:
        upgrades.is_safe(upgrades.upgrade(fleet, broken_seconds=8))
