"""Law 2: within budget. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy
from fleetd.core.model.reasons.scheduler import SchedulerOverBudget
from tests.support.fleet.several import Fleet
from tests.support.laws.laws import WithinBudget
from tests.support.storm.storm import Storm
from tests.support.world.fleets import (
    QUICK,
    surge,
    tight,
    with_scheduler,
)
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import World


def test_law_2_growth_ends_at_the_last_instance_that_fits() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), 30)  # 4 × 7 = 28
    rig.run(600.0)
    assert rig.serving() == 4


def test_law_2_instances_ordered_a_moment_ago_count_at_once() -> None:
    # The ticks follow each other at once: systemd shows the new units, but Postgres none of their connections.
    rig = surge(policy(strict(numbers="1-6"), pace=PacePolicy(starts_per_tick=1, booting_max=6)), 30)
    for _ in range(20):
        rig.tick()
    assert rig.serving() == 4


def test_law_2_instances_that_a_starved_systemd_does_not_show_yet_count() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), 30)
    rig.world.start_job_seconds = 22.0
    rig.run(120.0)
    assert len(rig.ordered("start")) == 4
    assert rig.serving() == 4
    assert rig.ticker.host_memory.people.pins == {}


def test_law_2_connections_that_are_not_opened_yet_are_claimed() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), 30)
    rig.run(60.0)
    opened = sum(p.opened for p in rig.world.processes())
    assert opened < 28
    assert rig.serving() == 4


def test_law_2_processes_of_unconfigured_numbers_count() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), 31)
    rig.world.appear("w1", "default", key=InstanceKey(77))
    rig.run(600.0)
    assert rig.serving() == 3  # 31 − 7 has room for three, of whose claims 15 are open


def test_law_2_processes_of_a_host_that_keeps_no_record_count() -> None:
    fleet = Fleet(policy(strict(numbers="1-6"), pace=QUICK))
    rig = fleet.rigs["w1"]
    rig.world.max_connections, rig.world.other_clients = tight(31)
    rig.world.enqueue("default", 20_000)
    rig.world.appear("w2", "default", key=InstanceKey(1))
    rig.world.appear("w1", "default", key=InstanceKey(77))
    fleet.run(600.0)
    assert rig.serving() == 2  # 31 − 14 has room for two, of whose claims 10 are open


def test_law_2_a_drain_begins_at_the_tick_after_the_budget_shrank() -> None:
    rig = surge(policy(strict(numbers="1-6", low=2), pace=QUICK), 42)
    rig.run(300.0)
    assert rig.serving() == 6
    rig.world.other_clients += 14
    result = rig.tick()
    assert [s.verb for s in result.host.steps] == ["quiet"]
    rig.world.advance(5.0)
    rig.run(300.0)
    assert rig.serving() == 4
    assert rig.ordered("start").count(5) == 1  # not started again


def test_law_2_the_fleet_shrinks_to_min_and_no_further() -> None:
    rig = surge(policy(strict(numbers="1-6", low=2), pace=QUICK), 42)
    rig.run(300.0)
    rig.world.other_clients += 100
    rig.run(900.0)
    assert rig.serving() == 2
    assert rig.world.lost == 0


def test_law_2_not_even_the_scheduler_starts_while_claims_are_above_the_budget() -> None:
    rig = Rig(World(with_scheduler("here")))
    stock = rig.world.appear("main", "default scheduler")
    rig.run(60.0)
    rig.world.max_connections, rig.world.other_clients = 60, 40  # 7 for @1, none for the scheduler's 7
    rig.world.vanish(stock)
    ticks = rig.run(300.0)
    assert SCHEDULER not in rig.ordered("start")
    assert isinstance(ticks[-1].scheduler.state, SchedulerOverBudget)
    rig.world.max_connections += 10
    rig.run(60.0)
    assert len(rig.world.schedulers()) == 1


def test_law_2_when_postgres_refuses_there_is_no_room() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), 200)
    rig.run(6.0)
    before = rig.serving()
    rig.world.postgres_refuses = True
    rig.run(300.0)
    assert rig.serving() == before


def test_law_2_budget_holds_through_a_long_sawtooth() -> None:
    storm = Storm(policy(strict(numbers="1-4"), weighted(numbers="5-8"), pace=QUICK), WithinBudget)
    for turn in range(30):
        storm.apply(("others", (turn * 7) % 20))
        storm.apply(("surge", turn % 20))
        for _ in range(8):
            storm.tick()
    assert storm.rig.ordered("start")
