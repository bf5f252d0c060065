"""Law 3: while Postgres or the network is away nothing moves. Afterwards the fleet goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from fleetd.core.model.reasons.base import ClampCode
from tests.support.lab.fleet import Fleet
from tests.support.lab.outages import (
    down,
    fleet_with_work,
    holds,
    local,
    runs,
    says_why,
    surge,
    wait_for_local,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleet_with_work() as fleet:
        yield fleet


def test_postgres_is_stopped_and_started(fleet: Fleet) -> None:
    begin, end = (partial(act, "postgresql") for act in (fleet.main.stop, fleet.main.start))
    holds(fleet, {"postgres"}, begin, end, during=lambda: says_why(fleet, {"postgres"}))


def test_a_surge_waits_until_the_headroom_is_known(fleet: Fleet) -> None:
    """fleetd's own role is locked out, but the workers' role is not."""
    count, before = local(fleet), runs(fleet)
    fleet.postgres("ALTER ROLE fleetd NOLOGIN")
    fleet.postgres("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'fleetd'")
    try:
        fleet.worker.wait_until("the headroom is unknown", lambda: down(fleet) == {"postgres"})
        surge(fleet)
        wanted = fleet.wait(
            "growth is wanted",
            lambda s: ClampCode.HEADROOM_UNKNOWN in {c.code for c in s.clamps if c.profile == "local"},
        )
        [clamp] = [c for c in wanted.clamps if c.code == ClampCode.HEADROOM_UNKNOWN]
        assert (clamp.before_instances, clamp.after_instances) == (count + 1, count)
        fleet.wait("six ticks later", lambda s: s.ticks_total >= wanted.ticks_total + 6)
        assert runs(fleet) == before
    finally:
        fleet.postgres("ALTER ROLE fleetd LOGIN")
    wait_for_local(fleet, count + 1)
    assert before.items() <= runs(fleet).items()


def test_the_worker_is_cut_off(fleet: Fleet) -> None:
    both = {"redis", "postgres"}
    holds(fleet, both, fleet.worker.cut, fleet.worker.join, during=lambda: says_why(fleet, both))
