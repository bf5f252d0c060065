"""Boots: one that takes too long, one that fails, and a profile of which every boot fails."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fleetd.core.instances.host_memory import RETRIES_MAX, RETRY_SECONDS, RolloutPhase
from fleetd.core.instances.orders import DrainInstance, ReleaseInstance, Restart
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.units import BootTooLong, DiedTooOften, RolloutGivenUp
from fleetd.words.reasons import sentence
from tests.support.world.fleets import HOUR, QUICK, loaded, said, settled, states
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


def test_an_instance_counts_as_capacity_only_from_its_first_heartbeat() -> None:
    rig = Rig(World(policy()))
    seen = []
    for result in rig.run(60.0):
        [view] = [v for v in result.tick.instances or () if v.key == 1]
        heard = view.beat_age_seconds is not None
        assert view.serves == heard
        seen.append(view.state.value)
    assert list(dict.fromkeys(seen)) == ["stopped", "starting", "serving"]


def test_a_boot_that_takes_too_long_is_stopped_and_counted_as_a_failure() -> None:
    rig = loaded(policy(strict(numbers="1-4", low=2), pace=QUICK), 2)
    rig.world.slow_boots[3] = 6 * HOUR
    rig.world.rates = {"default": 5.0}  # 10 threads: three instances
    rig.run(240.0)
    assert rig.ordered("stop") == [3]
    assert rig.ordered("quiet").count(3) == 0
    failure = rig.ticker.host_memory.units.failures[InstanceKey(3)]
    assert failure.count == 1
    assert isinstance(failure.cause, BootTooLong)
    began = next(at for at, s in rig.units.orders if s.verb == "start" and s.key == 3)
    ended = next(at for at, s in rig.units.orders if s.verb == "stop" and s.key == 3)
    assert 120.0 <= ended - began <= 150.0


def test_a_first_boot_may_take_as_long_as_systemd_lets_it() -> None:
    rig = Rig(World(policy(strict(numbers="1-1"))))
    rig.world.boot_seconds = 900.0
    rig.run(880.0)
    assert rig.ordered("stop") == []
    rig.run(60.0)
    assert rig.serving() == 1
    assert rig.ticker.host_memory.units.failures == {}


@pytest.mark.parametrize("boot_seconds", [6.0, 20.0, 50.0])
def test_a_boot_that_lost_the_term_of_its_stop_is_told_again_and_loses_no_job(boot_seconds: float) -> None:
    """Ruby loses a TERM in its first milliseconds. systemd sends one, and 60 s later SIGKILL to what serves by then."""
    rig = loaded(policy(strict(numbers="1-2", low=1), pace=QUICK), 1)
    rig.world.boot_seconds, rig.world.job_seconds = boot_seconds, (40.0, 40.0)
    rig.world.start(2)
    rig.world.loses_term = {2}
    rig.run(1.0)
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.world.enqueue("default", 20)
    ticks = rig.run(120.0)
    assert rig.world.loses_term == set()
    assert rig.world.lost == 0
    assert rig.world.units[2].state == "inactive"
    assert rig.ordered("stop") == [2, 2]
    steps = [sentence(step.why) for t in ticks for step in t.host.steps if step.verb == "stop"]
    assert "seems to be lost, so it is sent again: drained by fleetctl" in steps[-1]


def test_what_stops_as_told_is_not_told_again() -> None:
    rig = loaded(policy(strict(numbers="1-2", low=2), pace=QUICK), 2)
    rig.world.job_seconds = (1000.0, 1000.0)
    rig.world.enqueue("default", 20)
    rig.run(30.0)
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(QUICK.drain_seconds_max + 60.0)
    assert rig.world.pushed_back == 5
    assert rig.ordered("stop") == [2]


def test_no_boot_is_ended_while_redis_is_unknown() -> None:
    rig = loaded(policy(strict(numbers="1-4", low=3), pace=QUICK), 3)
    rig.world.slow_boots[3] = HOUR
    rig.world.kill_worker(3)
    rig.world.redis_up = False
    rig.run(HOUR / 3)
    assert rig.ordered("stop") == []
    rig.world.redis_up = True
    rig.run(20.0)
    assert rig.ordered("stop") == [3]


def test_an_outage_of_redis_does_not_count_as_a_slow_boot() -> None:
    """READY came in time. The missing heartbeat says nothing about the boot time."""
    rig = settled(policy(strict(numbers="1-4", low=1)), 1)
    rig.world.enqueue("default", 100)
    rig.run(15.0)
    rig.world.redis_up = False
    rig.run(HOUR / 3)
    rig.world.redis_up = True
    rig.run(60.0)
    assert 15.0 <= rig.ticker.host_memory.boot_seconds["default-first"] <= 40.0


def test_a_slow_boot_within_four_times_the_usual_is_waited_for() -> None:
    rig = loaded(policy(strict(numbers="1-4", low=1)), 1)
    rig.world.slow_boots[2] = 90.0
    rig.world.enqueue("default", 400)
    rig.run(200.0)
    assert rig.ordered("stop") == []
    assert rig.world.units[2].state == "active"


def test_retries_are_bounded_across_restarts_of_fleetd() -> None:
    rig = Rig(World(policy(strict(numbers="1-1"))))
    rig.world.broken.add(1)
    rig.world.boot_seconds = 2.0
    for _ in range(40):
        rig.run(300.0)
        rig.kill_fleetd()
    tries = [at for at, s in rig.units.orders if s.verb == "start"]
    assert len(tries) == RETRIES_MAX + 1
    pauses = [b - a for a, b in pairwise(tries)]
    assert all(p >= least for p, least in zip(pauses, RETRY_SECONDS, strict=False))


def test_a_boot_that_fails_slowly_counts_as_a_failure() -> None:
    """It dies after 12 s, so systemd's limit (6 starts in a minute) is never hit, and its state is always recent."""
    rig = loaded(policy(strict(numbers="1-4", low=2), pace=QUICK), 2)
    rig.world.boot_seconds = 12.0
    rig.world.broken.add(3)
    rig.world.rates = {"default": 5.0}
    rig.run(240.0)
    assert rig.ordered("stop")[0] == 3
    assert rig.ordered("quiet").count(3) == 0
    assert isinstance(rig.ticker.host_memory.units.failures[InstanceKey(3)].cause, DiedTooOften)
    rig.run(60.0)
    assert states(rig.tick())[3] == "failed"
    assert rig.serving() == 3, "another number is taken"


def test_an_instance_of_min_that_fails_slowly_has_a_bounded_number_of_tries() -> None:
    rig = Rig(World(policy(strict(numbers="1-2", low=2))))
    rig.world.broken.add(2)
    rig.world.start(1)
    rig.world.start(2)
    rig.run(2 * HOUR)
    assert rig.ordered("start") == [2] * RETRIES_MAX
    assert states(rig.tick()) == {1: "serving", 2: "failed", SCHEDULER: "stopped"}


def test_a_replacement_that_fails_slowly_ends_the_restart() -> None:
    rig = settled(policy(strict(numbers="1-3", low=2), pace=QUICK), 2)
    rig.world.broken.add(3)
    rig.order(Restart())
    ticks = rig.run(200.0)
    roll = ticks[-1].host.memory.rollout
    assert roll is not None
    assert roll.phase == RolloutPhase.GIVEN_UP
    assert isinstance(roll.waits, RolloutGivenUp)
    assert rig.serving() == 2


def test_an_instance_that_dies_because_redis_is_away_is_not_given_up() -> None:
    rig = settled(policy(strict(numbers="1-2", low=2), pace=QUICK), 2)
    rig.world.broken.add(2)
    rig.world.kill_worker(2)
    rig.world.redis_up = False
    rig.run(HOUR)
    rig.world.redis_up = True
    rig.world.broken.clear()
    rig.run(60.0)
    assert rig.units.orders == []
    assert states(rig.tick())[2] == "serving"


def test_when_a_whole_profile_fails_one_instance_at_a_time_is_tried() -> None:
    rig = Rig(World(policy(strict(numbers="1-6", low=3))))
    rig.world.broken |= {1, 2, 3, 4, 5, 6}
    rig.world.boot_seconds = 2.0
    rig.world.enqueue("default", 5000)
    rig.run(120.0)
    tried = set(rig.ordered("start"))
    for _ in range(1440):
        result = rig.tick()
        booting = [n for n, u in rig.world.units.items() if u.state == "activating"]
        assert len(booting) <= 1, f"{booting} at once"
        rig.world.advance(5.0)
    assert set(rig.ordered("start")) == tried, "the others were tried although all fail"
    assert "would fail like the others: held" in said(result) or "given up" in said(result)
    assert len(rig.ordered("start")) <= len(tried) * (RETRIES_MAX + 1)


def test_once_one_instance_serves_the_others_are_tried_again() -> None:
    rig = Rig(World(policy(strict(numbers="1-6", low=3))))
    rig.world.broken |= {1, 2, 3, 4, 5, 6}
    rig.world.boot_seconds = 2.0
    rig.run(400.0)
    rig.world.broken.clear()
    rig.run(700.0)
    assert rig.serving() == 3


def test_release_makes_an_instance_that_was_given_up_be_tried_again() -> None:
    rig = Rig(World(policy(strict(numbers="1-1"))))
    rig.world.broken.add(1)
    rig.world.boot_seconds = 2.0
    result = rig.run(4 * HOUR)[-1]
    assert "`fleetctl release 1`" in said(result)
    rig.world.broken.clear()
    assert "may be tried again" in rig.order(ReleaseInstance(key=InstanceKey(1)))
    rig.run(30.0)
    assert states(rig.tick())[1] == "serving"
