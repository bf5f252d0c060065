"""Faults on fleets that are set up in other ways, each several times. Figures: benchmarks/hosts.md."""

from __future__ import annotations

import pytest

from tests.support.lab.fleet_faults import played, setups
from tests.support.lab.fleet_faults.played import TIMES
from tests.support.lab.fleet_faults.stage import Stage
from tests.support.lab.fleet_faults.upgrade import upgraded_and_joined

pytestmark = [pytest.mark.lab, pytest.mark.long]
NUMBERS = range(1, TIMES + 1)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_host_is_upgraded_and_a_second_joins(number: int) -> None:
    with played.kept("upgraded and joined", number) as (chance, figures):
        figures.update(upgraded_and_joined(chance))


@pytest.mark.parametrize("number", NUMBERS)
def test_redis_users_with_the_documented_rights(number: int) -> None:
    stage = Stage("", setups.with_the_documented_user, fresh=True)
    stage.play(setups.documented_rights_suffice, number)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_host_of_the_release_before_among_others(number: int) -> None:
    stage = Stage("", setups.with_one_of_the_release_before, fresh=True)
    stage.play(setups.release_before_among_others, number)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_pgbouncer_on_each_host(number: int) -> None:
    stage = Stage("", setups.with_a_pgbouncer_each, within=setups.pools_fit, fresh=True)
    stage.play(setups.pgbouncer_on_each_host, number)
