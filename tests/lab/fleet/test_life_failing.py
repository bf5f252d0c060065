"""An instance that fails at once has a bounded number of tries with growing pauses, and the status says why."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fleetd.core.instances.host_memory import RETRY_SECONDS
from fleetd.core.instances.stuck import DEATHS_MAX
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab import failing_profile as failing

pytestmark = pytest.mark.lab

#: Until two growing pauses are over.
TRIES = 3
#: A minute, in which systemd might have given up, the boot under way, and a margin.
GIVES_UP_SECONDS = 60.0 + 2 * PATIENCE_SECONDS
#: systemd gives up after one try, so that each try is fleetd's.
ONE_TRY = "RestartSec=100ms\n[Unit]\nStartLimitBurst=1\n"


def test_an_instance_that_fails_at_once_is_tried_rarely_and_status_says_why() -> None:
    with failing.fleet_with_a_broken_profile(ONE_TRY) as fleet:
        fleet.wait(
            "both have failed",
            lambda s: [i.state for i in s.instances if i.number in failing.BROKEN] == ["failed"] * 2,
        )
        failing.says_why(fleet)
        fleet.worker.wait_until(
            "they are tried again and again",
            lambda: min(len(failing.orders(fleet, number)) for number in failing.BROKEN) > TRIES,
            timeout=sum(RETRY_SECONDS[:TRIES]) + PATIENCE_SECONDS,
        )
        for number in failing.BROKEN:
            # The target, started once after fleetd, starts it too, which is a reason to try again at once.
            tried = failing.orders(fleet, number)[1:]
            gaps = [after - before for before, after in pairwise(tried)]
            short = [g for g, pause in zip(gaps, RETRY_SECONDS, strict=False) if g < pause - 1]
            assert not short, (number, gaps)
        later = fleet.status()
        assert failing.profile(later, "sound").serving_instances == 1, "nothing else suffers"
        failing.says_why(fleet)


def test_an_instance_that_fails_too_slowly_for_systemd_is_ended_by_fleetd() -> None:
    """It takes ten seconds to die, so there are never six starts in a minute, and a start order would never end."""
    with failing.fleet_with_a_broken_profile("RestartSec=100ms\n", lives_seconds=10) as fleet:
        number = failing.BROKEN[0]
        fleet.wait(
            "fleetd has given it up for now",
            lambda s: [i.state for i in s.instances if i.number == number] == ["failed"],
            GIVES_UP_SECONDS,
        )
        assert fleet.worker.unit(f"mastodon-sidekiq@{number}").active_state == "inactive"
        assert [n for _, n in fleet.steps("stop")] == [number], "once"
        assert len(failing.tries(fleet, number)) > DEATHS_MAX
        shown = next(i for i in fleet.status().instances if i.number == number)
        assert "never came to a heartbeat" in shown.note
        assert failing.LAST_WORDS in failing.shown(fleet)
        assert failing.profile(fleet.status(), "sound").serving_instances == 1, "nothing else suffers"
