"""The same upgrade, slowly: the gems are broken for a minute."""

from __future__ import annotations

import pytest

from tests.support.lab import upgrades
from tests.support.lab.fleet import started

pytestmark = [pytest.mark.lab, pytest.mark.long]


def test_a_slow_upgrade_in_a_surge() -> None:
    with started(upgrades.CONFIG) as fleet:
        done = upgrades.upgrade(fleet, broken_seconds=60)
        print(
            f"upgrade: noticed after {done.noticed_seconds:.1f} s, {done.starts_meanwhile} starts by fleetd before "
            f"`fleetctl restart`, {done.failed_boots} failed boots, replaced in {done.replaced_seconds:.0f} s, never "
            f"fewer than {done.least_serving} served, {done.tally.done} of {done.tally.enqueued} jobs done"
        )
        upgrades.is_safe(done)
