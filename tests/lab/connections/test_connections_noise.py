"""Law 2 beside a noisy web: no client is ever refused, and the fleet uses its share."""

from __future__ import annotations

import pytest

from tests.support.lab import noisy_web as noisy
from tests.support.lab.fleet import started

pytestmark = pytest.mark.lab

SECONDS = 65.0


def test_no_client_is_refused_beside_a_noisy_web() -> None:
    with started(noisy.CONFIG, max_connections=noisy.MAX_CONNECTIONS) as fleet:
        seen, web = noisy.noisy_time(fleet, SECONDS)
        print(seen.means(), f"at most {seen.clients_most} of {noisy.MAX_CONNECTIONS - 3} clients")
        assert web.refused == [], fleet.story()
        assert noisy.too_many_clients(fleet) == 0
        assert max(count for _, count in web.counts) == noisy.HIGH, "it went all the way up"
        assert max(size for _, size in seen.instances()) == 3
        assert min(size for _, size in seen.instances()) == 1, "it gave way"
        assert seen.longest_smaller_than_affordable_seconds() <= 60.0
        # Refusals do get counted: one connection more than Postgres allows is refused, and shows up.
        crowd = noisy.NoisyWeb(fleet, 0)
        for _ in range(noisy.MAX_CONNECTIONS):
            crowd.take()
        crowd.leave()
        assert crowd.refused
        assert noisy.too_many_clients(fleet) > 0
