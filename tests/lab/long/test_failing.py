"""A unit that fails at once, with its real settings, until fleetd gives it up. Takes forty minutes."""

from __future__ import annotations

import pytest

from fleetd.core.instances.host_memory import RETRIES_MAX, RETRY_SECONDS
from tests.support.lab import failing_profile as failing

pytestmark = [pytest.mark.lab, pytest.mark.long]

#: StartLimitBurst of the template unit.
SYSTEMD_TRIES = 6
PAUSES_SECONDS = sum(RETRY_SECONDS) + (RETRIES_MAX - len(RETRY_SECONDS)) * RETRY_SECONDS[-1]
#: For each of fleetd's tries, six by systemd 5 s apart until it gives up, and a wide margin.
GIVEN_UP_SECONDS = PAUSES_SECONDS + (RETRIES_MAX + 1) * 45.0


def test_a_failing_unit_is_given_up_after_a_bounded_number_of_tries() -> None:
    with failing.fleet_with_a_broken_profile() as fleet:
        fleet.wait(
            "both are given up",
            lambda s: any("given up" in c.sentence for c in failing.profile(s, "broken").clamps),
            GIVEN_UP_SECONDS * 2,
        )
        counted = {n: (len(failing.orders(fleet, n)), len(failing.tries(fleet, n))) for n in failing.BROKEN}
        print(f"fails at once: (starts by fleetd, runs of the program) until given up: {counted}")
        for orders, tries in counted.values():
            assert orders <= RETRIES_MAX + 1
            assert tries <= (orders + 1) * SYSTEMD_TRIES, "the first ones are the boot's"
        assert failing.profile(fleet.status(), "sound").serving_instances == 1
