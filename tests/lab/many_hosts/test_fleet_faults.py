"""What befalls three hosts, each fault several times at random moments. Figures: benchmarks/hosts.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab.fleet_faults.cut_off import (
    failover_that_all_survive,
    old_primary_isolated_that_takes_no_writes,
    old_primary_isolated_with_the_scheduler,
    scheduler_cut_off_past_the_takeover,
    worker_cut_off_and_healed,
)
from tests.support.lab.fleet_faults.lost import (
    all_lose_power,
    here_reboots_after_a_takeover,
    leader_killed,
    leader_loses_power,
)
from tests.support.lab.fleet_faults.people import cloned_host, maintenance_of_a_follower
from tests.support.lab.fleet_faults.played import TIMES
from tests.support.lab.fleet_faults.stage import SIZES, Fault, Stage
from tests.support.lab.many_hosts import started

pytestmark = [pytest.mark.lab, pytest.mark.long]
FAULTS = (
    leader_killed,
    maintenance_of_a_follower,
    worker_cut_off_and_healed,
    leader_loses_power,
    here_reboots_after_a_takeover,
    scheduler_cut_off_past_the_takeover,
    failover_that_all_survive,
    cloned_host,
    old_primary_isolated_that_takes_no_writes,
    old_primary_isolated_with_the_scheduler,
    all_lose_power,
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage("", lambda: started(**SIZES))
    yield stage
    stage.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
@pytest.mark.parametrize("number", range(1, TIMES + 1))
def test_the_laws_hold_and_the_fleet_recovers(stage: Stage, fault: Fault, number: int) -> None:
    stage.play(fault, number)
