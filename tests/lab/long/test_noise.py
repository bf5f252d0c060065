"""Ten minutes of surges beside a noisy web that nobody has declared. Figures: benchmarks/connections.md."""

from __future__ import annotations

import pytest

from lab.waiting import wait_until
from tests.support.lab import noisy_web as noisy
from tests.support.lab.fleet import started

pytestmark = [pytest.mark.lab, pytest.mark.long]

SECONDS = 600.0


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_noisy_minutes(seed: int) -> None:
    with started(noisy.CONFIG, max_connections=noisy.MAX_CONNECTIONS) as fleet:
        seen, web = noisy.noisy_time(fleet, SECONDS, seed)
        refused = noisy.too_many_clients(fleet)
        longest = seen.longest_smaller_than_affordable_seconds()
        print(
            f"seed {seed}: {SECONDS:.0f} s, {seen.means()}, at most {seen.clients_most} of "
            f"{noisy.MAX_CONNECTIONS - 3} clients, {refused} refused; longest smaller than affordable: {longest:.0f} "
            f"s; {len(fleet.steps('start'))} starts, {len(fleet.steps('quiet'))} drains"
        )
        assert web.refused == []
        assert refused == 0
        assert longest <= 60.0
        wait_until("every job is done", lambda: not fleet.tally().waiting, 1800.0, every=5.0)
        tally = fleet.tally()
        assert (len(tally.lost), len(tally.repeated)) == (0, 0)
