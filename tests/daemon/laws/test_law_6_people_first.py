"""Law 6: only our units, and people first. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.scheduler import SchedulerKeptStopped
from fleetd.words.reasons import sentence
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    idle_fleet,
    steps,
    with_scheduler,
)
from tests.support.world.ports import BY_HAND, Rig, policy, strict
from tests.support.world.world import World

PINS = structs.replace(BY_HAND, pin_seconds=HOUR)


def test_law_6_an_instance_stopped_by_hand_stays_so_and_is_not_replaced() -> None:
    rig = idle_fleet(
        policy(strict(numbers="1-6"), pace=PINS),
        3,
    )
    rig.world.job_seconds, rig.world.rates = (2.0, 2.0), {"default": 4.5}  # 9 threads: 3 are needed, but 2 can do it
    rig.run(400.0)
    rig.world.stop(2)
    rig.run(HOUR - 20.0)
    assert rig.world.units[2].state == "inactive"
    assert rig.ordered("start") == []
    rig.run(300.0)
    assert rig.ordered("start") == [2]


def test_law_6_an_instance_started_by_hand_is_kept_for_its_time() -> None:
    rig = idle_fleet(
        policy(
            strict(numbers="1-6"),
            pace=structs.replace(PINS, hold_down_seconds=30.0),
        ),
        1,
    )
    rig.run(400.0)
    rig.world.start(5)
    rig.run(HOUR - 60.0)
    assert rig.world.units[5].state == "active"
    assert rig.ordered("quiet") == []
    rig.run(300.0)
    assert rig.ordered("quiet") == [5]


def test_law_6_when_the_fleet_shrinks_an_instance_started_by_hand_stays() -> None:
    rig = idle_fleet(
        policy(strict(numbers="1-6"), pace=PINS),
        3,
    )
    rig.run(200.0)
    rig.world.start(5)
    rig.run(HOUR / 2)
    assert sorted(n for n, u in rig.world.units.items() if u.state == "active") == [1, 5]


def test_law_6_after_a_stop_by_hand_another_number_keeps_min() -> None:
    rig = idle_fleet(
        policy(
            strict(numbers="1-6", low=2),
            pace=PINS,
        ),
        2,
    )
    rig.run(310.0)
    rig.world.stop(1)
    rig.run(HOUR / 2)
    assert sorted(n for n, u in rig.world.units.items() if u.state == "active") == [2, 3]


def test_law_6_an_instance_quieted_by_hand_is_kept_and_then_drained() -> None:
    rig = idle_fleet(
        policy(strict(numbers="1-6"), pace=PINS),
        2,
    )
    rig.world.rates = {"default": 2.0}
    rig.run(60.0)
    rig.world.quiet(2)
    rig.run(HOUR - 30.0)
    assert rig.world.units[2].state == "active"
    assert rig.ordered("stop") == []
    rig.run(300.0)
    assert rig.ordered("stop") == [2]


@pytest.mark.parametrize("dead", [False, True])
def test_law_6_pins_outlive_fleetd(dead: bool) -> None:
    rig = idle_fleet(
        policy(strict(numbers="1-6"), pace=PINS),
        3,
    )
    rig.world.job_seconds, rig.world.rates = (2.0, 2.0), {"default": 4.5}
    rig.run(400.0)
    if not dead:
        rig.world.stop(2)
        rig.run(60.0)
        rig.kill_fleetd()
    else:
        rig.world.stop(2)  # while fleetd is dead
        rig.world.advance(100.0)
        rig.kill_fleetd()
    rig.run(HOUR / 2)
    assert rig.ordered("start") == []


def test_law_6_a_restart_by_hand_is_no_pin() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6"), pace=QUICK), 2)
    rig.world.rates = {"default": 2.0}
    rig.run(400.0)
    rig.world.stop(1)
    rig.run(10.0)
    rig.world.start(1)
    rig.run(60.0)
    assert rig.ticker.host_memory.people.pins == {}


def test_law_6_a_restart_by_systemd_is_no_pin() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6", low=2), pace=QUICK), 2)
    rig.run(400.0)
    rig.world.kill_worker(1)
    ticks = rig.run(60.0)
    assert rig.ticker.host_memory.people.pins == {}
    assert steps(ticks) == []


@pytest.mark.parametrize("fleetd_first", [True, False])
def test_law_6_a_start_by_the_boot_is_no_pin(fleetd_first: bool) -> None:
    rig = idle_fleet(with_scheduler("here"), 1)
    rig.run(60.0)
    rig.world.reboot()
    rig.kill_fleetd()
    if fleetd_first:
        rig.tick()
        rig.world.advance(1.0)
    rig.world.start(1)
    rig.world.start(SCHEDULER)
    rig.run(120.0)
    assert rig.ticker.host_memory.people.pins == {}
    assert len(rig.world.schedulers()) == 1


def test_law_6_a_persons_stop_of_the_scheduler_is_kept_and_reported() -> None:
    rig = Rig(World(with_scheduler("here")))
    rig.run(120.0)
    rig.world.stop(SCHEDULER)
    ticks = rig.run(600.0)
    assert rig.ordered("start").count(SCHEDULER) == 1
    [clamp] = [clamp for clamp in ticks[-1].clamps if clamp.code == ClampCode.PINNED]
    assert isinstance(clamp.reason, SchedulerKeptStopped)
    assert sentence(clamp.reason).startswith("NO SCHEDULER RUNS: it was stopped by hand, for another ")
    assert rig.status(ticks[-1]).scheduler.sentence == sentence(clamp.reason)


def test_law_6_units_that_are_not_configured_are_never_in_a_step() -> None:
    rig = idle_fleet(policy(strict(numbers="1-3"), pace=QUICK), 3)
    for number in (4, 77):
        rig.world.appear("w1", "default", key=InstanceKey(number))
    rig.run(300.0)
    assert {n for _, s in rig.units.orders for n in [s.key]} <= {1, 2, 3}
