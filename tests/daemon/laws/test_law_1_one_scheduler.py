"""Law 1: one scheduler. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

import pytest

from fleetd.core.model.identity import SCHEDULER
from tests.support.laws.laws import OneScheduler
from tests.support.storm.storm import Storm
from tests.support.world.fleets import (
    HOUR,
    with_scheduler,
)
from tests.support.world.ports import Rig
from tests.support.world.world import World


def test_law_1_the_named_host_starts_its_own_and_keeps_one() -> None:
    rig = Rig(World(with_scheduler("here")))
    rig.run(120.0)
    assert rig.ordered("start").count(SCHEDULER) == 1
    assert len(rig.world.schedulers()) == 1


def test_law_1_no_scheduler_is_started_beside_a_stock_unit() -> None:
    for place in ("here", "auto"):
        rig = Rig(World(with_scheduler(place)))
        rig.world.appear("main", "default scheduler")
        rig.run(HOUR)
        assert SCHEDULER not in rig.ordered("start")


def test_law_1_takeover_if_a_stock_unit_is_gone_for_good_not_if_it_restarts() -> None:
    rig = Rig(World(with_scheduler("auto")))
    stock = rig.world.appear("main", "default scheduler")
    rig.run(60.0)
    rig.world.vanish(stock)
    rig.run(240.0)  # Rails boots slowly
    stock = rig.world.appear("main", "default scheduler")
    rig.run(600.0)
    assert SCHEDULER not in rig.ordered("start")
    rig.world.vanish(stock)
    gone = rig.world.now
    rig.run(400.0)
    started = [at for at, s in rig.units.orders if s.verb == "start" and s.key == SCHEDULER]
    assert len(started) == 1
    assert 300.0 <= started[0] - gone <= 310.0


def test_law_1_a_killed_stock_unit_counts_as_live_while_it_has_a_heartbeat() -> None:
    rig = Rig(World(with_scheduler("here")))
    stock = rig.world.appear("main", "default scheduler")
    rig.run(30.0)
    rig.world.vanish(stock, killed=True)
    dead = rig.world.now
    rig.run(200.0)
    started = [at for at, s in rig.units.orders if s.key == SCHEDULER]
    assert started[0] - dead >= 50.0


@pytest.mark.parametrize("how", ["by hand", "after a freeze"])
def test_law_1_a_surplus_scheduler_is_ended_within_two_ticks_and_stays_ended(how: str) -> None:
    rig = Rig(World(with_scheduler("here")))
    if how == "by hand":
        rig.world.appear("main", "default scheduler")
        rig.run(30.0)
        rig.world.start(SCHEDULER)
        rig.world.advance(rig.world.boot_seconds)
    else:
        rig.run(60.0)
        rig.world.advance(1000.0)
        rig.world.appear("main", "default scheduler")
    rig.run(10.0)
    assert [p.hostname for p in rig.world.schedulers()] == ["main"]
    rig.run(HOUR)
    assert [p.hostname for p in rig.world.schedulers()] == ["main"]
    assert rig.world.units[SCHEDULER].state == "inactive"
    orders = [s.verb for _, s in rig.units.orders if s.key == SCHEDULER]
    assert orders[-2:] == ["quiet", "stop"]


def test_law_1_an_outage_of_redis_does_not_count_as_absence() -> None:
    rig = Rig(World(with_scheduler("auto")))
    rig.world.appear("main", "default scheduler")
    rig.run(60.0)
    rig.world.redis_up = False
    rig.run(2 * HOUR)
    rig.world.redis_up = True  # heartbeats have expired, and come back one by one
    rig.world.redis_restarts_empty()
    rig.run(HOUR)
    assert SCHEDULER not in rig.ordered("start")


def test_law_1_short_outages_do_not_count_as_absence() -> None:
    rig = Rig(World(with_scheduler("auto")))
    for _ in range(60):
        rig.run(10.0)
        rig.world.redis_up = False
        rig.run(5.0)
        rig.world.redis_up = True
    assert SCHEDULER not in rig.ordered("start")


def test_law_1_after_a_flush_of_redis_none_is_started_beside_a_live_one() -> None:
    rig = Rig(World(with_scheduler("here")))
    rig.world.appear("main", "default scheduler")
    rig.run(60.0)
    rig.world.redis_restarts_empty()
    run_id = rig.world.run_id
    rig.world.run_id = "run-1"  # FLUSHALL: the same Redis
    assert run_id != "run-1"
    rig.run(HOUR)
    assert SCHEDULER not in rig.ordered("start")


def test_law_1_one_scheduler_stays_though_fleetd_restarts_each_tick() -> None:
    storm = Storm(with_scheduler("auto", takeover=120.0), OneScheduler)
    for _ in range(100):
        storm.tick()
        storm.apply(("kill_fleetd", 0))
    assert SCHEDULER not in storm.rig.ordered("start")  # no fleetd watched for two minutes


def test_law_1_a_freeze_does_not_count_as_absence() -> None:
    rig = Rig(World(with_scheduler("auto")))
    rig.run(60.0)
    rig.world.advance(HOUR)
    rig.run(295.0)
    assert SCHEDULER not in rig.ordered("start")
    rig.run(30.0)
    assert rig.ordered("start").count(SCHEDULER) == 1


def test_law_1_another_redis_resets_the_count() -> None:
    rig = Rig(World(with_scheduler("auto")))
    rig.run(250.0)
    rig.world.redis_restarts_empty()
    rig.run(295.0)
    assert SCHEDULER not in rig.ordered("start")
    rig.run(30.0)
    assert rig.ordered("start").count(SCHEDULER) == 1
