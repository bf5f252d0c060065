"""Law 4: no job is lost. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

import pytest

from fleetd.core.model.decision import Step, StepResult
from tests.support.laws.laws import NoJobLost
from tests.support.storm.storm import Storm
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    busy_fleet,
    idle_fleet,
    in_mid_drain,
)
from tests.support.world.ports import FakeUnits, Rig, policy, strict, weighted
from tests.support.world.world import World


def test_law_4_quiet_then_idle_then_stop() -> None:
    rig = busy_fleet(3)
    rig.run(600.0)
    assert rig.serving() == 1
    assert rig.world.lost == 0
    assert rig.world.pushed_back == 0
    for number in rig.ordered("quiet"):
        verbs = [s.verb for _, s in rig.units.orders if s.key == number and s.verb != "start"]
        assert verbs == ["quiet", "stop"]


def over_its_deadline() -> Rig:
    """Two instances run jobs of an hour. The budget shrank, so one must go."""
    rig = busy_fleet(2, seconds=HOUR)
    rig.world.max_connections, rig.world.other_clients = 50, 30
    rig.run(20.0)
    assert len(rig.ordered("quiet")) == 1
    return rig


def test_law_4_past_the_deadline_jobs_are_pushed_back() -> None:
    rig = over_its_deadline()
    rig.run(120.0)
    assert rig.world.pushed_back == 5
    assert rig.world.lost == 0
    assert rig.world.accounted()


@pytest.mark.parametrize("trouble", ["down", "read only"])
def test_law_4_past_the_deadline_a_stop_waits_for_redis(trouble: str) -> None:
    rig = over_its_deadline()
    rig.world.redis_up = trouble != "down"
    rig.world.redis_writable = False
    rig.run(600.0)
    assert rig.ordered("stop") == []
    rig.world.redis_up = rig.world.redis_writable = True
    rig.run(120.0)
    assert len(rig.ordered("stop")) >= 1
    assert rig.world.lost == 0


def test_law_4_a_booting_instance_is_stopped_and_not_quieted() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6"), pace=QUICK), 1)
    rig.world.boot_seconds = 600.0
    rig.world.enqueue("default", 5_000)
    rig.run(10.0)
    assert rig.serving() > 2
    rig.world.max_connections, rig.world.other_clients = 50, 30
    rig.run(60.0)
    assert rig.ordered("quiet") == []
    assert len(rig.ordered("stop")) >= 2


def test_law_4_an_instance_that_restarts_in_mid_drain_is_stopped_in_its_boot() -> None:
    rig, quieted = in_mid_drain()
    rig.world.boot_seconds = 120.0
    rig.world.kill_worker(quieted)
    rig.run(60.0)
    assert rig.ordered("quiet") == [quieted]
    assert rig.ordered("stop") == [quieted]
    assert rig.world.units[quieted].state == "inactive"


class Killed(BaseException):
    """SIGKILL of fleetd."""


class Assassin(FakeUnits):
    """Kills fleetd at its nth step, right before or right after systemd accepts it."""

    def __init__(self, world: World, nth: int, when: str) -> None:
        super().__init__(world)
        self.nth, self.when, self.given = nth, when, 0

    async def carry_out(self, step: Step) -> StepResult:
        self.given += 1
        if self.given == self.nth and self.when == "before":
            raise Killed
        result = await super().carry_out(step)
        if self.given == self.nth:
            raise Killed
        return result


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, 10))
def test_law_4_and_5_fleetd_killed_at_any_step_loses_nothing_and_pins_nothing(nth: int, when: str) -> None:
    rig = Rig(World(policy(strict(numbers="1-4"), pace=QUICK)))
    rig.run(310.0)  # past the boot
    units = rig.units = Assassin(rig.world, nth, when)
    rig.kill_fleetd()
    rig.world.job_seconds = (4.0, 12.0)
    rig.world.enqueue("default", 200)
    for _ in range(150):
        try:
            rig.tick()
        except Killed:
            rig.kill_fleetd()
            assert rig.ticker.host_memory.people.pins == {}
        rig.world.advance(5.0)
        assert rig.ticker.host_memory.people.pins == {}
    assert units.given >= 9  # three starts, three quiets, three stops
    assert [u.state for u in rig.world.units.values()].count("active") == rig.serving() == 1
    assert rig.world.done == 200
    assert rig.world.lost == rig.world.pushed_back == 0


def test_no_job_is_lost_in_a_whole_day_of_trouble() -> None:
    storm = Storm(policy(strict(numbers="1-4"), weighted(numbers="5-8"), pace=QUICK), NoJobLost)
    names = (
        "surge",
        "long_jobs",
        "redis_down",
        "redis_up",
        "kill_fleetd",
        "others",
        "short_jobs",
        "postgres_down",
    )
    for turn in range(120):
        storm.apply((names[turn % len(names)], (turn * 7) % 20))
        for _ in range(6):
            storm.tick()
    assert storm.world.pushed_back + storm.world.done > 100
