"""Units that are somebody else's: left alone whatever happens, said loudly, and given up once they are ours (law 6)."""

from __future__ import annotations

import pytest

from fleetd.cli.screens.status import status_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import UNICODE
from fleetd.core.instances.orders import DrainInstance, Restart
from fleetd.core.model.facts import UnfitUnit, UnitFault, UnitRule
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy, SchedulerPolicy
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.units import RolloutEnded
from fleetd.errors import OrderRefusedError
from tests.support.world.fleets import settled
from tests.support.world.ports import Rig, policy, strict

QUICK = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0)


def foreign(unit: str) -> UnfitUnit:
    file = f"/etc/systemd/system/{unit}"
    fault = UnitFault(rule=UnitRule.SETTINGS, file=file, write="EnvironmentFile=/var/lib/mastodon-sidekiq/%i.env")
    return UnfitUnit(unit=unit, file=file, foreign=True, faults=(fault,))


def fleet(count: int = 2, *, high: int = 4) -> Rig:
    rules = policy(strict(numbers="1-4", low=count, high=high), scheduler=SchedulerPolicy(place="here"), pace=QUICK)
    rig = settled(rules, count)
    rig.run(60.0)
    assert rig.world.units[SCHEDULER].state == "active"
    rig.units.orders.clear()
    return rig


def shadowed(rig: Rig, unit: str) -> None:
    rig.world.unfit_units = {unit: foreign(unit)}


def test_by_somebodys_template_nothing_starts_ends_or_is_replaced() -> None:
    rig = fleet()
    shadowed(rig, TEMPLATE_UNIT)
    rig.world.enqueue("default", 5000)  # it should grow,
    rig.world.unit_file = "theirs"  # replace what is outdated,
    rig.run(60.0)
    rig.world.max_connections = 30  # and shrink
    rig.world.hang(1)
    ticks = rig.run(300.0)
    assert rig.units.orders == []
    status = rig.status(ticks[-1])
    assert [hold.kind for hold in status.holds] == ["units"]
    assert f"/etc/systemd/system/{TEMPLATE_UNIT} is not fleetd's" in status.holds[0].sentence
    assert {c.code for c in status.profiles[0].clamps} == {ClampCode.FOREIGN_UNIT}
    assert status.next_sentence == "nothing until the workers' unit is fleetd's"


@pytest.mark.parametrize("unit", [TEMPLATE_UNIT, SCHEDULER_UNIT, "mastodon-sidekiq@3.service"])
def test_status_names_somebodys_unit_once(unit: str) -> None:
    rig = fleet()
    shadowed(rig, unit)
    if unit == SCHEDULER_UNIT:
        rig.world.stop(SCHEDULER)
    rig.run(120.0)
    drawn = status_screen(rig.status(rig.tick()), Page(400, UNICODE), height=None)
    assert "\n".join(line.plain for line in drawn).count(f"/etc/systemd/system/{unit}") == 1


def test_not_even_the_database_s_budget_ends_what_is_somebodys() -> None:
    rig = fleet(1)
    rig.world.enqueue("default", 5000)
    rig.run(60.0)
    assert rig.serving() == 4
    rig.units.orders.clear()
    shadowed(rig, TEMPLATE_UNIT)
    rig.world.max_connections = 40
    ticks = rig.run(60.0)
    assert rig.units.orders == []
    codes = {c.code for c in rig.status(ticks[-1]).clamps}
    assert {ClampCode.FOREIGN_UNIT, ClampCode.CONNECTIONS} <= codes
    assert ClampCode.PINNED not in codes  # nobody keeps them by hand


def test_somebodys_scheduler_is_not_outdated() -> None:
    rig = fleet()
    shadowed(rig, SCHEDULER_UNIT)
    rig.world.unit_file = "another"  # of both kinds
    ticks = rig.run(900.0)
    assert sum(isinstance(noticed, RolloutEnded) for tick in ticks for noticed in tick.noticed) == 1
    assert {1, 2} <= set(rig.ordered("quiet"))
    assert SCHEDULER not in rig.ordered("quiet") + rig.ordered("stop")


def test_a_drain_under_way_stops_where_it_is_and_goes_on_once_the_unit_is_ours() -> None:
    rig = fleet(3)
    rig.world.enqueue("default", 15)
    rig.world.job_seconds = (40.0, 40.0)
    rig.run(10.0)
    rig.order(DrainInstance(key=InstanceKey(3)))
    rig.tick()
    assert rig.ordered("quiet") == [3]
    shadowed(rig, TEMPLATE_UNIT)
    rig.run(90.0)
    assert rig.ordered("stop") == []
    rig.world.unfit_units = {}
    rig.run(30.0)
    assert rig.ordered("stop") == [3]


def test_somebodys_scheduler_is_neither_ended_as_surplus_nor_started() -> None:
    rig = fleet()
    shadowed(rig, SCHEDULER_UNIT)
    other = rig.world.appear("main", "default scheduler")
    ticks = rig.run(60.0)
    assert SCHEDULER not in rig.ordered("stop") + rig.ordered("quiet")
    rig.world.stop(SCHEDULER)
    rig.world.vanish(other)
    ticks = rig.run(200.0)
    assert rig.units.orders == []
    status = rig.status(ticks[-1])
    assert status.holds == ()
    assert any(f"/etc/systemd/system/{SCHEDULER_UNIT} is not fleetd's" in problem for problem in status.problems)
    assert ClampCode.FOREIGN_UNIT in {clamp.code for clamp in status.clamps}
    rig.world.unfit_units = {}
    rig.run(60.0)
    assert rig.ordered("start") == [SCHEDULER]


def test_the_instances_go_on_beside_somebodys_scheduler() -> None:
    rig = fleet()
    shadowed(rig, SCHEDULER_UNIT)
    rig.world.enqueue("default", 5000)
    rig.run(60.0)
    assert rig.ordered("start") == [3, 4]


def test_the_scheduler_goes_on_beside_somebodys_template() -> None:
    rig = fleet()
    shadowed(rig, TEMPLATE_UNIT)
    rig.world.kill_worker(SCHEDULER)
    rig.world.units[SCHEDULER].restart_at = None
    rig.world.units[SCHEDULER].become("failed", rig.world.now)
    rig.run(200.0)
    assert rig.ordered("start") == [SCHEDULER]


def test_a_single_instance_of_somebodys_is_left_alone_and_the_others_are_not() -> None:
    rig = fleet()
    one = "mastodon-sidekiq@3.service"
    shadowed(rig, one)
    rig.world.enqueue("default", 5000)
    ticks = rig.run(60.0)
    assert rig.ordered("start") == [4]
    status = rig.status(ticks[-1])
    assert any(one in problem for problem in status.problems)


def test_orders_that_would_end_it_are_refused() -> None:
    rig = fleet()
    shadowed(rig, TEMPLATE_UNIT)
    rig.tick()
    with pytest.raises(OrderRefusedError, match="is not fleetd's"):
        rig.order(DrainInstance(key=InstanceKey(1)))
    with pytest.raises(OrderRefusedError, match="is not fleetd's"):
        rig.order(Restart(profile="default-first"))
    rig.order(Restart())
    assert rig.ticker.host_memory.rollout is not None
    assert set(rig.ticker.host_memory.rollout.left) == {SCHEDULER}


def test_what_was_done_to_ours_before_is_forgotten_and_what_is_done_to_theirs_is_no_order() -> None:
    rig = fleet()
    rig.world.stop(1)
    rig.world.advance(30.0)
    rig.tick()
    assert InstanceKey(1) in rig.ticker.host_memory.people.pins
    shadowed(rig, TEMPLATE_UNIT)
    rig.tick()
    for number in (1, 2):
        rig.world.start(number)
    rig.run(60.0)
    for number in (1, 2, 3):
        rig.world.stop(number)
    rig.run(60.0)
    rig.units.orders.clear()
    assert rig.ticker.host_memory.people.pins == {}
    rig.world.unfit_units = {}
    rig.run(60.0)
    assert sorted(rig.ordered("start")) == [1, 2]


@pytest.mark.parametrize("numbers", [(1, 2, SCHEDULER), (2,)], ids=["all", "one"])
def test_a_restart_by_others_is_no_order_and_starts_no_others(numbers: tuple[int, ...]) -> None:
    rig = fleet(high=2)
    rig.world.rates["default"], rig.world.job_seconds = 0.5, (2.0, 20.0)
    rig.run(30.0)
    rig.units.orders.clear()
    rig.world.restart_together(numbers)
    ticks = rig.run(60.0)
    assert rig.units.orders == []
    assert rig.ticker.host_memory.people.pins == {}
    assert rig.world.units[2].state == "active"
    assert all(rig.status(tick).profiles[0].running_instances == 2 for tick in ticks)
