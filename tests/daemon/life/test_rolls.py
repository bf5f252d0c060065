"""Rollouts: changed settings, a changed unit file, `fleetctl restart`, an upgrade, the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec import structs

from fleetd.core.instances.host_memory import Failure, RolloutPhase, Shortage
from fleetd.core.instances.orders import DrainInstance, Pause, PinInstance, ReleaseInstance, Restart, Resume
from fleetd.core.model.facts import HostPressure
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import MemoryPolicy, PacePolicy, Policy, SchedulerPolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.counts import CodeChanged
from fleetd.core.model.reasons.scheduler import SchedulerHeld
from fleetd.core.model.reasons.units import NextNotRendered, ReplaceCause, RolloutEnded, SystemdResult
from fleetd.core.model.worker_settings import instance_digest
from fleetd.daemon.tick import TickResult
from fleetd.errors import OrderRefusedError
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    configured,
    said,
    serving_true,
    settled,
    tight,
    with_scheduler,
)
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import MIB, World


def fleet(count: int = 3, numbers: str = "1-4", *, pace: PacePolicy = QUICK, high: int | None = None) -> Rig:
    """This many idle instances, which are also the min."""
    rig = settled(policy(strict(numbers=numbers, low=count, high=high), pace=pace), count)
    rig.units.orders.clear()
    return rig


def other_threads(rig: Rig, threads: int = 6, *, rendered: bool = True) -> None:
    profiles = tuple(structs.replace(p, threads=threads, db_pool=threads + 2) for p in rig.world.policy.profiles)
    configured(rig, structs.replace(rig.world.policy, profiles=profiles), rendered=rendered)


def least_serving(rig: Rig, seconds: float, profile: str = "") -> int:
    """Let time pass, and return the smallest number that served."""
    least = serving_true(rig.world, profile)
    for _ in range(int(seconds / 5)):
        rig.tick()
        rig.world.advance(5.0)
        least = min(least, serving_true(rig.world, profile))
    return least


def threads(rig: Rig) -> list[int]:
    return [u.process.threads for n, u in rig.world.units.items() if u.process is not None and n != SCHEDULER]


def phase(rig: Rig) -> RolloutPhase | None:
    rollout = rig.ticker.host_memory.rollout
    return None if rollout is None else rollout.phase


def held_by(result: TickResult) -> list[type[Reason]]:
    return [type(hold.reason) for hold in result.tick.constraints.holds]


# -- settings


def test_changed_settings_are_rolled_out_one_at_a_time_with_a_spare() -> None:
    rig = fleet()
    other_threads(rig)
    assert least_serving(rig, 600.0) == 3
    assert threads(rig) == [6, 6, 6]
    assert phase(rig) == RolloutPhase.DONE
    assert rig.world.lost == rig.world.pushed_back == 0


def test_without_room_for_a_spare_one_instance_is_away_at_a_time() -> None:
    rig = fleet(numbers="1-3")
    other_threads(rig)
    assert least_serving(rig, 600.0) == 2
    assert threads(rig) == [6, 6, 6]


def test_without_connections_for_a_spare_one_instance_is_away_at_a_time() -> None:
    rig = fleet(count=3, numbers="1-6")
    rig.world.unit_file = "unit-2"
    rig.world.max_connections, rig.world.other_clients = tight(23)
    assert least_serving(rig, 600.0) == 2
    assert rig.world.units[1].process is not None
    assert phase(rig) == RolloutPhase.DONE


def test_settings_that_are_not_rendered_hold() -> None:
    rig = fleet()
    other_threads(rig, rendered=False)
    ticks = rig.run(HOUR)
    assert rig.units.orders == []
    assert ticks[-1].host.memory.rollout is None
    rig.world.rendered_policy = rig.world.policy
    rig.run(600.0)
    assert threads(rig) == [6, 6, 6]


def test_a_restart_drains_nothing_while_the_replacement_is_not_rendered() -> None:
    """If one were drained first, nothing could be started for it until somebody renders."""
    rig = fleet()
    other_threads(rig, rendered=False)
    rig.order(Restart())
    assert least_serving(rig, 300.0) == 3
    roll = rig.ticker.host_memory.rollout
    assert roll is not None
    assert isinstance(roll.waits, NextNotRendered)
    rig.world.rendered_policy = rig.world.policy
    assert least_serving(rig, 600.0) == 3
    assert threads(rig) == [6, 6, 6]


def test_a_rollout_waits_until_the_instance_it_drained_is_rendered() -> None:
    rig = fleet(numbers="1-3")
    rig.order(Restart())
    while not rig.ordered("quiet"):
        rig.run(5.0)
    other_threads(rig, rendered=False)
    assert least_serving(rig, 300.0) == 2
    rig.world.rendered_policy = rig.world.policy
    assert least_serving(rig, 900.0) == 2
    assert threads(rig) == [6, 6, 6]


def test_a_setting_that_never_takes_effect_is_not_rolled_out_over_and_over() -> None:
    """ExecStart ignores the rendered settings. Each number is tried once, then left alone."""
    rig = fleet()
    old = rig.world.policy
    other_threads(rig)
    for _ in range(800):
        result = rig.tick()
        for unit in rig.world.units.values():  # as if SIDEKIQ_ARGS were ignored
            if unit.process is not None and unit.process.threads == 6:
                unit.process.threads = 5
                unit.process.tag = _tag_of(old, unit.process.tag)
        rig.world.advance(5.0)
    assert max(rig.ordered("start").count(n) for n in (1, 2, 3, 4)) <= 2
    assert len(rig.ordered("start")) <= 5
    assert serving_true(rig.world) == 3
    assert result.host.memory.rollout is None or result.host.memory.rollout.phase == RolloutPhase.DONE


def _tag_of(old: Policy, tag: str) -> str:
    return tag.rsplit(":", 1)[0] + ":" + instance_digest(old.profiles[0])


def test_a_changed_unit_file_is_rolled_out_once() -> None:
    rig = fleet()
    before = {p.pid for p in rig.world.processes()}
    rig.world.unit_file = "unit-2"
    assert least_serving(rig, 600.0) == 3
    assert not before & {p.pid for p in rig.world.processes()}
    orders = len(rig.units.orders)
    rig.run(600.0)
    assert len(rig.units.orders) == orders


def test_a_pinned_instance_is_not_replaced_automatically() -> None:
    rig = fleet()
    rig.tick()
    rig.order(PinInstance(key=InstanceKey(2)))
    other_threads(rig)
    ticks = rig.run(HOUR)
    assert [s for t in ticks for s in t.noticed if isinstance(s, RolloutEnded)] == [
        RolloutEnded(cause=ReplaceCause.OUTDATED, done_instances=2, total_instances=2, given_up=None)
    ]
    assert 2 not in rig.ordered("quiet")
    assert sorted(threads(rig)) == [5, 6, 6]


def test_an_instance_pinned_in_mid_rollout_is_left_alone() -> None:
    rig = fleet()
    rig.tick()
    rig.order(Restart())
    rig.order(PinInstance(key=InstanceKey(3)))
    rig.run(HOUR / 2)
    assert set(rig.ordered("quiet")) == {1, 2}
    assert phase(rig) == RolloutPhase.DONE


def test_a_fleetd_killed_at_any_tick_of_a_rollout_still_completes_it() -> None:
    rig = fleet()
    other_threads(rig)
    least = 9
    for _ in range(120):
        rig.tick()
        rig.kill_fleetd()
        rig.world.advance(5.0)
        least = min(least, serving_true(rig.world))
    assert least == 3
    assert threads(rig) == [6, 6, 6]
    assert len(rig.ordered("start")) == len(rig.ordered("stop")) == 3
    assert rig.ticker.host_memory.people.pins == {}


def test_no_rollout_begins_during_a_hold() -> None:
    rig = fleet()
    rig.tick()
    rig.order(Pause(for_seconds=600.0))
    rig.world.unit_file = "unit-2"
    assert all(t.host.memory.rollout is None for t in rig.run(595.0))
    rig.run(600.0)
    assert phase(rig) == RolloutPhase.DONE


def test_nothing_is_replaced_while_a_quiet_is_not_confirmed() -> None:
    rig = fleet(3, "1-3", pace=PacePolicy())
    rig.world.deaf.add(3)
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(3)))
    rig.run(60.0)
    rig.world.unit_file = "unit-2"
    rig.run(300.0)
    assert set(rig.ordered("quiet")) == {3}


def test_nothing_is_replaced_while_another_instance_is_on_its_way_out() -> None:
    rig = fleet(3, "1-6", pace=PacePolicy(drain_seconds_max=HOUR))
    rig.world.job_seconds = (900.0, 900.0)
    rig.world.enqueue("default", 15)
    rig.run(20.0)
    rig.order(DrainInstance(key=InstanceKey(3)))
    rig.run(60.0)
    started = len(rig.ordered("start"))
    rig.order(Restart())
    rig.run(300.0)
    assert rig.ordered("quiet") == [3]
    assert len(rig.ordered("start")) == started
    rig.run(HOUR)
    assert phase(rig) == RolloutPhase.DONE


def test_nothing_is_replaced_while_redis_is_away() -> None:
    rig = fleet()
    rig.world.redis_up = False
    rig.tick()
    rig.world.unit_file = "unit-2"
    rig.run(600.0)
    assert rig.units.orders == []
    rig.world.redis_up = True
    assert least_serving(rig, 600.0) == 3
    assert phase(rig) == RolloutPhase.DONE


# -- capacity is kept, whatever prevents growth


def rolled_under(trouble: str) -> int:
    """Restart @1-@4 during `trouble`, and return the fewest that served. All were needed just now; min is 1."""
    rig = settled(policy(strict(numbers="1-4", low=1), pace=PacePolicy(hold_down_seconds=HOUR)), 4)
    rig.world.enqueue("default", 4000)
    while rig.world.waiting():
        rig.run(10.0)
    assert serving_true(rig.world) == 4
    if trouble == "no postgres":
        rig.world.postgres_up = False
    elif trouble == "no host":
        rig.host.readable = False
    elif trouble == "cores":
        rig.world.pressure = HostPressure(memory_stalled_share=0.0, cpu_waiting_share=0.95)
    elif trouble == "oom":
        shortage = Shortage(oom_seconds=rig.world.now)
        rig.ticker.host_memory = structs.replace(rig.ticker.host_memory, shortage=shortage)
    rig.tick()
    rig.order(Restart())
    least = least_serving(rig, 1500.0)
    assert (phase(rig) == RolloutPhase.DONE) == (trouble != "no postgres"), (
        "only unknown connections keep it from going on"
    )
    rig.world.pressure, rig.world.postgres_up, rig.host.readable = None, True, True
    least = min(least, least_serving(rig, 900.0))
    assert serving_true(rig.world) == 4
    assert phase(rig) == RolloutPhase.DONE
    return least


def test_a_rollout_keeps_capacity_without_work() -> None:
    assert rolled_under("nothing") == 3


def test_a_rollout_keeps_capacity_while_headroom_is_unknown() -> None:
    assert rolled_under("no postgres") >= 3


def test_no_replacement_is_started_above_min_once_headroom_becomes_unknown() -> None:
    """The old instance was let go first, so meanwhile others may have taken its connections."""
    rig = settled(policy(strict(numbers="1-3", low=1), pace=PacePolicy(hold_down_seconds=HOUR)), 3)
    rig.order(Restart())
    while not rig.ordered("stop"):
        rig.run(5.0)
    rig.world.postgres_up = False
    rig.units.orders.clear()
    rig.run(300.0)
    assert rig.ordered("start") == []
    rig.world.postgres_up = True
    rig.run(10.0)
    assert len(rig.ordered("start")) == 1


def test_a_rollout_keeps_capacity_while_the_host_is_unknown() -> None:
    assert rolled_under("no host") >= 3


def test_a_rollout_keeps_capacity_while_the_cores_are_short() -> None:
    assert rolled_under("cores") >= 3


def test_a_rollout_keeps_capacity_after_an_oom_kill() -> None:
    assert rolled_under("oom") >= 3


def test_a_restart_of_eight_busy_instances_keeps_seven_and_loses_no_job() -> None:
    rig = settled(policy(strict(numbers="1-8", low=8), pace=PacePolicy()), 8)
    rig.world.job_seconds, rig.world.rates = (2.0, 40.0), {"default": 1.5}
    rig.run(60.0)
    rig.order(Restart())
    assert least_serving(rig, 1500.0) == 7
    assert phase(rig) == RolloutPhase.DONE
    assert rig.world.lost == rig.world.pushed_back == 0
    assert rig.ticker.host_memory.rollout is not None
    assert rig.ticker.host_memory.rollout.done_instances == 8


# -- restart, upgrade


def upgraded(rig: Rig, *, broken: bool = False) -> None:
    rig.world.code, rig.world.code_broken = "code-2", broken


def test_an_upgrade_holds_and_starts_nothing_until_restart() -> None:
    rig = fleet(count=2, numbers="1-6")
    rig.tick()
    upgraded(rig, broken=True)
    rig.world.enqueue("default", 5000)
    rig.world.slow_boots.clear()
    ticks = rig.run(600.0)
    assert rig.units.orders == []
    status = rig.status(ticks[-1])
    assert [h.kind for h in status.holds] == ["upgrade"]
    assert "HELD (upgrade)" in status.summary
    rig.world.stop(1)  # not even min is started
    rig.run(300.0)
    rig.kill_fleetd()
    rig.run(300.0)
    assert rig.units.orders == []


def test_a_restart_moves_the_fleet_to_the_new_code() -> None:
    rig = fleet()
    rig.tick()
    upgraded(rig)
    rig.run(30.0)
    assert "3 to restart" in rig.order(Restart())
    assert least_serving(rig, 600.0) == 3
    assert {p.code for p in rig.world.processes()} == {"code-2"}
    assert phase(rig) == RolloutPhase.DONE
    assert rig.tick().tick.constraints.holds == ()


def test_resume_accepts_the_code_and_replaces_no_instance() -> None:
    rig = fleet(numbers="1-6")
    rig.tick()
    upgraded(rig)
    rig.run(30.0)
    rig.order(Resume())
    rig.run(60.0)
    assert rig.units.orders == []
    rig.world.enqueue("default", 5000)
    rig.run(60.0)
    assert rig.ordered("start")


def broken_restart(count: int, numbers: str) -> Rig:
    rig = fleet(count, numbers)
    rig.tick()
    upgraded(rig, broken=True)
    rig.run(30.0)
    rig.order(Restart())
    return rig


def test_broken_code_ends_a_restart_at_the_first_instance_and_keeps_capacity() -> None:
    rig = broken_restart(3, "1-4")
    assert least_serving(rig, 900.0) == 3
    assert phase(rig) == RolloutPhase.GIVEN_UP
    assert rig.ordered("quiet") == []
    assert {p.code for p in rig.world.processes()} == {"code-1"}
    result = rig.tick()
    assert held_by(result) == [CodeChanged], "a restart that fails goes back to holding"


def test_broken_code_without_a_spare_costs_one_instance() -> None:
    rig = broken_restart(3, "1-3")
    assert least_serving(rig, 1200.0) == 2
    assert phase(rig) == RolloutPhase.GIVEN_UP
    assert len(rig.ordered("quiet")) == 1
    assert held_by(rig.tick()) == [CodeChanged]


def test_broken_code_also_ends_a_restart_of_the_last_instance() -> None:
    rig = broken_restart(1, "1-1")
    rig.run(900.0)
    assert phase(rig) == RolloutPhase.GIVEN_UP
    assert held_by(rig.tick()) == [CodeChanged]
    assert len(rig.ordered("start")) <= 2


def two_profiles(spare: bool) -> Rig:
    rules = policy(
        strict(numbers="1-3" if spare else "1-2", low=2),
        weighted(numbers="7-9" if spare else "7-8", low=2),
        pace=QUICK,
    )
    rig = Rig(World(rules))
    rig.run(400.0)
    rig.units.orders.clear()
    return rig


def test_broken_code_found_in_the_first_profile_spares_the_second() -> None:
    rig = two_profiles(spare=False)
    upgraded(rig, broken=True)
    rig.run(30.0)
    rig.order(Restart())
    assert least_serving(rig, 1500.0) == 3
    assert phase(rig) == RolloutPhase.GIVEN_UP
    assert len(rig.ordered("quiet")) == 1


def test_a_profile_is_finished_before_the_next_profile_begins() -> None:
    rules = policy(strict(numbers="1-1"), weighted(numbers="7-7"), pace=QUICK)
    rig = Rig(World(rules))
    rig.run(400.0)
    rig.order(Restart())
    assert least_serving(rig, 600.0) == 1
    assert phase(rig) == RolloutPhase.DONE


def test_an_earlier_failure_of_a_number_does_not_hide_that_the_new_code_fails() -> None:
    rig = two_profiles(spare=False)
    failure = Failure(
        count=5, last_seconds=rig.world.now - 500.0, cause=SystemdResult(result="exit-code"), ordered=True
    )
    rig.ticker.host_memory = rig.ticker.host_memory.with_failures({InstanceKey(7): failure})
    upgraded(rig, broken=True)
    rig.run(30.0)
    rig.order(Restart())
    assert least_serving(rig, 1500.0) == 3
    assert phase(rig) == RolloutPhase.GIVEN_UP


def test_a_second_upgrade_in_mid_restart_holds_until_a_new_restart() -> None:
    rig = fleet()
    rig.tick()
    upgraded(rig)
    rig.run(30.0)
    rig.order(Restart())
    rig.run(60.0)
    rig.world.code = "code-3"  # the gems arrive a while after the code
    orders = len(rig.units.orders)
    ticks = rig.run(100.0)
    assert [s.verb for _, s in rig.units.orders[orders:] if s.verb == "start"] == []
    assert held_by(ticks[-1]) == [CodeChanged]
    rig.order(Restart())
    assert least_serving(rig, 900.0) == 3
    assert {p.code for p in rig.world.processes()} == {"code-3"}


def test_the_hold_ends_when_people_have_restarted_everything() -> None:
    rig = fleet()
    rig.tick()
    upgraded(rig)
    rig.run(30.0)
    for number in (1, 2):
        rig.world.restart(number)
        rig.run(60.0)
    assert held_by(rig.tick()) == [CodeChanged]
    rig.world.restart(3)
    rig.run(60.0)
    assert rig.tick().tick.constraints.holds == ()
    assert rig.units.orders == []


def test_restart_of_one_profile_leaves_the_other() -> None:
    rig = two_profiles(spare=True)
    rig.order(Restart(profile="weighted"))
    rig.run(600.0)
    assert phase(rig) == RolloutPhase.DONE
    assert set(rig.ordered("quiet")) == {7, 8}


def test_an_instance_quieted_by_hand_in_mid_restart_is_left_out_of_it() -> None:
    rig = fleet(count=3, numbers="1-5")
    rig.tick()
    rig.order(Restart())
    rig.world.quiet(1)
    rig.run(900.0)
    assert phase(rig) == RolloutPhase.DONE
    assert rig.ordered("stop") == [2, 3]


def test_no_further_spare_is_started_for_one_that_is_gone() -> None:
    rig = fleet(numbers="1-6", high=6)
    rig.tick()
    rig.order(Restart())
    rig.run(5.0)
    [spare] = rig.ordered("start")
    rig.world.advance(30.0)
    rig.world.stop(int(spare))
    for _ in range(60):
        rig.tick()
        assert rig.serving() <= 4
        rig.world.advance(5.0)


# -- the scheduler


def scheduler_fleet(place: str = "here") -> Rig:
    rig = Rig(World(with_scheduler(place)))
    rig.run(200.0)
    return rig


def starts_of_scheduler(rig: Rig) -> list[float]:
    return [at for at, s in rig.units.orders if s.verb == "start" and s.key == SCHEDULER]


def test_the_scheduler_is_replaced_last_and_started_only_once_it_is_gone() -> None:
    rig = scheduler_fleet()
    rig.run(600.0)
    rig.order(Restart())
    for _ in range(200):
        rig.tick()
        assert len(rig.world.schedulers()) <= 1
        rig.world.advance(5.0)
    verbs = [(s.verb, s.key) for _, s in rig.units.orders][-3:]
    assert verbs == [("quiet", SCHEDULER), ("stop", SCHEDULER), ("start", SCHEDULER)]
    assert phase(rig) == RolloutPhase.DONE
    assert len(rig.world.schedulers()) == 1


def test_what_fleetd_replaces_by_itself_leaves_the_scheduler_ten_minutes() -> None:
    rig = scheduler_fleet()
    for threads in (4, 5, 6):
        scheduler = SchedulerPolicy(place="here", threads=threads, db_pool=threads + 2)
        configured(rig, structs.replace(rig.world.policy, scheduler=scheduler))
        rig.run(300.0)
    rig.run(1200.0)
    at = starts_of_scheduler(rig)
    assert len(at) >= 2
    assert all(b - a >= 600.0 for a, b in pairwise(at))


def test_a_persons_restart_replaces_the_scheduler_at_once_and_once() -> None:
    rig = scheduler_fleet()
    ordered = rig.world.now
    rig.order(Restart())
    rig.run(300.0)
    _, again = starts_of_scheduler(rig)
    assert again - ordered < 120.0
    assert phase(rig) == RolloutPhase.DONE


def test_a_scheduler_that_took_over_is_restarted_without_the_takeover_window() -> None:
    rig = Rig(World(with_scheduler("auto")))
    rig.run(400.0)
    [first] = starts_of_scheduler(rig)
    rig.run(650.0)
    rig.order(Restart())
    rig.run(300.0)
    assert len(starts_of_scheduler(rig)) == 2
    stopped = next(at for at, s in rig.units.orders if s.verb == "stop" and s.key == SCHEDULER)
    assert 20.0 <= starts_of_scheduler(rig)[1] - stopped <= 40.0
    assert first < stopped


def test_a_scheduler_that_does_not_come_back_is_reported_as_a_failed_restart() -> None:
    rig = scheduler_fleet()
    rig.run(650.0)
    rig.order(Restart())
    rig.world.broken.add(SCHEDULER)
    while SCHEDULER not in rig.ordered("stop"):
        rig.run(5.0)
    rig.run(15.0)
    assert phase(rig) == RolloutPhase.UNDER_WAY, "not done before it is back"
    rig.run(200.0)
    assert phase(rig) == RolloutPhase.GIVEN_UP


def test_changed_settings_of_the_scheduler_are_rolled_out() -> None:
    rig = scheduler_fleet()
    rig.run(650.0)
    scheduler = SchedulerPolicy(place="here", threads=4, db_pool=6)
    configured(rig, structs.replace(rig.world.policy, scheduler=scheduler))
    rig.run(300.0)
    [process] = rig.world.schedulers()
    assert process.threads == 4


def test_while_the_scheduler_is_too_young_others_do_not_wait_for_it() -> None:
    """A configuration that was changed twice left its workers as they were for ten minutes."""
    rig = scheduler_fleet()
    scheduler = SchedulerPolicy(place="here", threads=4, db_pool=6)
    configured(rig, structs.replace(rig.world.policy, scheduler=scheduler))
    rig.run(30.0)
    status = rig.status(rig.tick())
    assert status.rollout is not None
    assert "at most every 10 min" in status.rollout.sentence
    assert status.scheduler.unit_state == "outdated"
    other_threads(rig)
    rig.run(200.0)
    assert set(threads(rig)) == {6}
    assert [p.threads for p in rig.world.schedulers()] != [4]
    rig.run(600.0)
    assert [p.threads for p in rig.world.schedulers()] == [4]


def test_the_scheduler_that_is_being_replaced_is_told_so() -> None:
    rig = scheduler_fleet()
    rig.run(650.0)
    rig.order(Restart())
    told = set[str]()
    for _ in range(60):
        told.add(rig.status(rig.tick()).scheduler.sentence)
        rig.world.advance(5.0)
    assert any(one.startswith("being replaced: the one on ") for one in told)
    assert not any("NONE" in one for one in told)


def test_a_heavy_scheduler_is_restarted_but_not_within_ten_minutes() -> None:
    """Otherwise it would grow until the kernel kills it."""
    rig = scheduler_fleet()
    rig.world.units[SCHEDULER].process.resident_bytes = 60 * 1024 * MIB  # type: ignore[union-attr]
    rig.run(400.0)
    assert rig.ordered("stop") == []
    rig.run(300.0)
    assert rig.ordered("stop") == [SCHEDULER]
    assert len(starts_of_scheduler(rig)) == 2
    [process] = rig.world.schedulers()
    assert process.resident_bytes is None
    assert phase(rig) == RolloutPhase.DONE


def test_a_pause_during_the_schedulers_restart_does_not_leave_it_down() -> None:
    rig = scheduler_fleet()
    rig.run(650.0)
    rig.order(Restart())
    while SCHEDULER not in rig.ordered("stop"):
        rig.run(5.0)
    rig.order(Pause())
    rig.run(120.0)
    assert len(rig.world.schedulers()) == 1


def test_new_code_during_the_schedulers_restart_holds_its_start() -> None:
    rig = scheduler_fleet()
    rig.run(650.0)
    rig.order(Restart())
    while SCHEDULER not in rig.ordered("stop"):
        rig.run(5.0)
    upgraded(rig)
    rig.units.orders.clear()
    ticks = rig.run(120.0)
    assert rig.ordered("start") == []
    assert any(isinstance(c.reason, SchedulerHeld) for c in ticks[-1].clamps)


def test_a_hung_scheduler_is_ended_and_started_again() -> None:
    rig = scheduler_fleet()
    rig.world.hang(SCHEDULER)
    rig.run(400.0)
    assert rig.ordered("stop") == [SCHEDULER]
    assert len(rig.world.schedulers()) == 1
    assert len(starts_of_scheduler(rig)) == 2


def test_a_restart_waits_for_the_drain_of_an_earlier_rollout() -> None:
    """The earlier rollout is given up while its last instance still drains. Two must not be replaced at once."""
    rules = policy(strict(numbers="1-3", low=2), weighted(numbers="7-9", low=2), pace=PacePolicy())
    rig = settled(rules, 2)
    rig.run(100.0)
    rig.world.job_seconds = (900.0, 900.0)
    rig.world.enqueue("push", 20)
    rig.run(20.0)
    rig.order(Restart(profile="weighted"))
    while not rig.ordered("quiet"):
        rig.run(5.0)
    rig.world.broken.add(9)
    rig.world.kill_worker(9)
    while phase(rig) != RolloutPhase.GIVEN_UP:
        rig.run(5.0)
    rig.order(Restart(profile="default-first"))
    for result in rig.run(900.0):
        assert sum(1 for d in result.host.memory.drains.values() if d.by_rollout) <= 1
    assert any(n in {1, 2} for n in rig.ordered("quiet")), "and then goes on"


# -- beside an instance that is given up


def with_one_given_up() -> Rig:
    """@3 is needed, but has failed so often that it is no longer tried."""
    rig = fleet(count=3, numbers="1-3")
    rig.world.broken.add(3)
    rig.world.kill_worker(3)
    rig.run(2 * HOUR)
    assert rig.ticker.host_memory.units.given_up(InstanceKey(3))
    return rig


def test_a_rollout_does_not_wait_for_an_instance_that_is_given_up() -> None:
    """Otherwise a rollout would wait for ever, because its profile has fewer instances than desired."""
    rig = with_one_given_up()
    other_threads(rig)
    assert least_serving(rig, 600.0) == 1
    assert phase(rig) == RolloutPhase.DONE
    assert threads(rig) == [6, 6]


def test_a_restart_tries_it_first_and_replaces_the_others_once_it_serves() -> None:
    rig = with_one_given_up()
    rig.world.broken.clear()
    rig.order(Restart())
    assert least_serving(rig, 600.0) == 2
    assert phase(rig) == RolloutPhase.DONE
    assert serving_true(rig.world) == 3


def test_a_restart_ends_if_the_cause_is_not_fixed() -> None:
    rig = with_one_given_up()
    rig.order(Restart())
    assert least_serving(rig, 300.0) == 2
    assert phase(rig) == RolloutPhase.GIVEN_UP


def test_a_replacement_that_a_person_keeps_stopped_is_not_waited_for() -> None:
    rig = fleet(count=3, numbers="1-3")
    rig.order(Restart())
    while 3 not in rig.ticker.host_memory.starts and not rig.ordered("stop"):
        rig.run(5.0)
    [number] = rig.ordered("stop")
    while rig.world.units[number].state != "active":
        rig.run(5.0)
    rig.world.stop(number)
    rig.run(900.0)
    assert phase(rig) == RolloutPhase.DONE
    assert serving_true(rig.world) == 2


def test_what_drains_is_not_said_to_be_replaced_later() -> None:
    rig = fleet()
    rig.order(Restart())
    drained = set[int]()
    for _ in range(60):
        for one in rig.status(rig.tick()).instances:
            if one.state in {"draining", "stopping"}:
                drained.add(one.number)
                assert "to be " not in one.note
        rig.world.advance(5.0)
    assert drained


def test_status_describes_a_rollout() -> None:
    rig = fleet()
    rig.tick()
    rig.order(Restart())
    ticks = rig.run(40.0)
    rollouts = [rig.status(t).rollout for t in ticks]
    sentences = [r.sentence for r in rollouts if r is not None]
    assert any("boots to replace" in s for s in sentences)
    assert "restart" in said(ticks[0]) or "replaced" in said(ticks[0])


# -- one that was given up


def given_up() -> Rig:
    """New settings were rolled out, and the spare @4 died: the three others run on with the old ones."""
    rig = fleet()
    rig.world.broken.add(4)
    other_threads(rig)
    while phase(rig) != RolloutPhase.GIVEN_UP:
        rig.run(5.0)
    rig.run(60.0)
    assert phase(rig) == RolloutPhase.GIVEN_UP
    return rig


def new_code(rig: Rig) -> None:
    rig.world.code = "code-2"


def new_unit(rig: Rig) -> None:
    rig.world.unit_file = "unit-2"


def new_settings(rig: Rig) -> None:
    other_threads(rig, threads=7)


def new_configuration(rig: Rig) -> None:
    configured(rig, structs.replace(rig.world.policy, memory=MemoryPolicy(reserve_bytes=2 * MIB)))


def released(rig: Rig) -> None:
    rig.order(ReleaseInstance(key=InstanceKey(4)))


@pytest.mark.parametrize("change", [new_code, new_unit, new_settings, new_configuration, released])
def test_a_rollout_that_was_given_up_is_over_once_what_failed_has_changed(change: Callable[[Rig], None]) -> None:
    rig = given_up()
    change(rig)
    assert rig.status(rig.tick()).rollout is None


def test_observing_changes_nothing_of_what_failed() -> None:
    rig = given_up()
    for mode in ("observe", "act"):
        configured(rig, structs.replace(rig.world.policy, mode=mode))
        rollout = rig.status(rig.tick()).rollout
        assert rollout is not None
        assert rollout.ended == "given_up"


def test_it_is_over_once_the_instance_that_failed_serves_again() -> None:
    rig = given_up()
    rig.world.broken.clear()
    rig.world.start(4)
    rig.run(60.0)
    assert phase(rig) is None


def test_corrected_settings_are_rolled_out_within_the_hour() -> None:
    rig = given_up()
    rig.world.broken.clear()
    new_settings(rig)
    assert least_serving(rig, 600.0) == 2, "the number that failed is no spare"
    assert threads(rig) == [7, 7, 7]


def test_unchanged_it_is_shown_for_an_hour_and_not_tried_again() -> None:
    rig = given_up()
    starts = len(rig.ordered("start"))
    rig.run(HOUR - 120.0)
    assert phase(rig) == RolloutPhase.GIVEN_UP
    rig.kill_fleetd()
    rig.tick()
    assert phase(rig) == RolloutPhase.GIVEN_UP
    rig.run(120.0)
    assert phase(rig) is None
    assert len(rig.ordered("start")) == starts


@pytest.mark.parametrize("masked", [(TEMPLATE_UNIT,), (SCHEDULER_UNIT,), ("mastodon-sidekiq@2.service",)])
@pytest.mark.parametrize("by", ["settings", "restart"])
def test_what_is_masked_is_not_replaced_because_it_would_not_come_back(masked: tuple[str, ...], by: str) -> None:
    rig = scheduler_fleet()
    rig.run(700.0)
    before = rig.serving()
    rig.world.masked_units = masked
    rig.run(20.0)
    if by == "settings":
        scheduler = SchedulerPolicy(place="here", threads=4, db_pool=6)
        profiles = tuple(structs.replace(p, threads=6, db_pool=8) for p in rig.world.policy.profiles)
        configured(rig, structs.replace(rig.world.policy, scheduler=scheduler, profiles=profiles))
    else:
        rig.order(Restart())
    rig.run(1500.0)
    assert rig.serving() == before
    assert len(rig.world.schedulers()) == 1


def test_a_restart_says_what_it_leaves_out_because_it_is_masked() -> None:
    rig = fleet()
    rig.world.masked_units = ("mastodon-sidekiq@2.service",)
    rig.run(20.0)
    reply = rig.order(Restart())
    assert reply.startswith("2 to restart")
    assert "@2 is masked and goes on as before: systemctl unmask first" in reply


def test_a_restart_of_what_is_masked_alone_is_refused() -> None:
    rig = scheduler_fleet()
    rig.world.masked_units = (TEMPLATE_UNIT, SCHEDULER_UNIT)
    rig.run(20.0)
    with pytest.raises(OrderRefusedError, match="unmask"):
        rig.order(Restart())
