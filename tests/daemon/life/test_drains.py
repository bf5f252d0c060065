"""Drains: which instance goes, what is kept, and what is reported when a quiet has no effect."""

from __future__ import annotations

import pytest

from fleetd.core.instances.orders import DrainInstance, SetInstances
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import PacePolicy
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    busy_fleet,
    configured,
    idle_fleet,
    in_mid_drain,
    loaded,
    said,
    settled,
    states,
)
from tests.support.world.ports import Rig, policy, strict

LONG = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0)


def shrink(rig: Rig, to: int = 1) -> None:
    rig.order(SetInstances(profile="default-first", instances=to))


def test_a_job_once_pushed_back_is_not_pushed_back_again() -> None:
    rig = busy_fleet(2, seconds=600.0, pace=LONG)
    rig.tick()
    shrink(rig)
    rig.run(120.0)
    again = [job for queue in rig.world.queues.values() for job in queue]
    again += [j for p in rig.world.processes() for j in p.jobs if j.pushed_back]
    assert rig.world.pushed_back == 5
    assert all(job.pushed_back == 1 for job in again)
    rig.order(SetInstances(profile="default-first", instances=2))
    rig.run(60.0)  # a second instance takes these jobs
    rig.order(SetInstances(profile="default-first", instances=0))
    ticks = rig.run(300.0)
    assert any("was pushed back before, so it may finish" in said(t) for t in ticks)
    ticks = rig.run(HOUR)
    assert rig.world.lost == 0
    assert rig.world.done == 5, "those that we had made start over were let finish, the others start over once"
    assert all(job.pushed_back <= 1 for job in again)


def test_an_export_of_two_hours_finishes_though_the_fleet_keeps_shrinking() -> None:
    rig = busy_fleet(1, seconds=2 * HOUR, pace=LONG)
    for _ in range(6):
        rig.tick()
        rig.order(SetInstances(profile="default-first", instances=0))
        rig.run(HOUR / 4)
        rig.order(SetInstances(profile="default-first", instances=1))
        rig.run(HOUR / 4)
    assert rig.world.done == 5
    assert rig.world.lost == 0


def test_a_quiet_without_effect_is_reported_and_no_further_instance_is_chosen() -> None:
    rig = settled(policy(strict(numbers="1-4", low=3), pace=PacePolicy()), 3)
    rig.world.deaf.add(3)
    shrink(rig)
    ticks = rig.run(120.0)
    assert states(ticks[-1])[3] == "undrainable"
    assert "@3 was told to quiet, but its heartbeat does not say so" in said(ticks[-1])
    assert {n for n in rig.ordered("quiet") if n != 3} <= {2}, "one begun before it was known, at most"
    assert rig.world.units[1].state == "active"


def deaf_first() -> Rig:
    rig = settled(policy(strict(numbers="1-4", low=3), pace=PacePolicy(drain_seconds_max=900.0)), 3)
    rig.world.deaf.add(3)
    shrink(rig, 2)
    rig.run(60.0)
    assert states(rig.tick())[3] == "undrainable"
    return rig


def test_while_undrainable_nothing_else_is_drained() -> None:
    rig = deaf_first()
    shrink(rig, 0)
    ticks = rig.run(300.0)
    assert set(rig.ordered("quiet")) == {3}
    assert rig.ordered("stop") == []
    assert "nothing more is drained until one is" in said(ticks[-1])


def test_undrainable_ends_after_an_hour_at_the_latest() -> None:
    rig = deaf_first()
    rig.run(1500.0)  # past its deadline it has been stopped
    assert rig.world.units[3].state == "inactive"
    shrink(rig, 1)
    rig.run(1800.0)
    assert rig.serving() == 2
    rig.run(600.0)
    assert rig.serving() == 1


def test_undrainable_ends_when_a_quiet_is_confirmed() -> None:
    rig = deaf_first()
    shrink(rig, 1)
    rig.run(60.0)
    rig.world.deaf.clear()
    rig.run(120.0)
    assert set(rig.ordered("quiet")) == {3, 2}
    assert rig.serving() == 1


def test_a_quiet_confirmed_earlier_is_no_evidence_for_a_later_one() -> None:
    """An undrainable instance blocks others until a later quiet is confirmed. An earlier one is no evidence."""
    rig = busy_fleet(4, seconds=2 * HOUR, pace=PacePolicy(drain_seconds_max=HOUR))
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(4)))
    rig.run(60.0)
    assert states(rig.tick())[4] == "draining"
    rig.world.deaf.add(1)
    rig.order(DrainInstance(key=InstanceKey(1)))
    rig.run(60.0)
    assert states(rig.tick())[1] == "undrainable"
    shrink(rig, 0)
    rig.run(120.0)
    assert set(rig.ordered("quiet")) == {4, 1}


def test_a_quiet_that_is_sent_late_still_has_three_beats_to_be_confirmed() -> None:
    rig = settled(policy(strict(numbers="1-4", low=2)), 2)
    rig.world.redis_up = False
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(120.0)
    rig.world.redis_up = True
    ticks = rig.run(60.0)
    assert not any("undrainable" in states(t).values() for t in ticks)
    assert rig.world.units[2].state == "inactive"


def test_the_time_of_a_drain_ordered_while_redis_is_away_begins_with_the_quiet() -> None:
    rig = busy_fleet(2, seconds=2000.0, pace=PacePolicy())
    rig.tick()
    rig.world.redis_up = False
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(900.0)
    rig.world.redis_up = True
    rig.run(500.0)
    assert rig.ordered("quiet") == [2]
    assert rig.ordered("stop") == []
    rig.run(200.0)
    assert rig.ordered("stop") == [2]


def test_a_draining_instance_has_a_claim_but_is_not_capacity() -> None:
    rig, quieted = in_mid_drain()
    rig.world.max_connections = 58  # limit 55, others 30, reserve 10: room for two instances
    rig.world.enqueue("default", 3000)
    ticks = rig.run(20.0)
    assert rig.ordered("start") == [], "its connections are not free yet"
    assert ticks[-1].fleet.claims_connections == 14
    status = rig.status(ticks[-1])
    assert status.profiles[0].running_instances == 1
    rig.run(100.0)
    assert rig.world.units[quieted].state != "active" or quieted in rig.ordered("start")
    assert rig.serving() == 2


def test_what_a_drain_still_waits_for_is_said() -> None:
    rig, quieted = in_mid_drain()
    process = rig.world.units[quieted].process
    assert process is not None
    for busy, words in ((5, "5 jobs left, stop at the latest in "), (1, "1 job left, stop at the latest in ")):
        del process.jobs[busy:]
        tick = rig.run(12.0)[-1]  # a heartbeat later
        notes = {i.number: i.note for i in rig.status(tick).instances}
        assert notes[quieted].startswith(words)


def test_a_surge_in_mid_drain_starts_another_number() -> None:
    rig, quieted = in_mid_drain()
    rig.world.max_connections, rig.world.other_clients = 400, 20
    rig.world.enqueue("default", 3000)
    rig.run(20.0)
    assert rig.ordered("start")
    assert quieted not in rig.ordered("start")
    assert rig.world.units[quieted].state == "active", "its jobs go on"
    assert rig.world.lost == rig.world.pushed_back == 0


@pytest.mark.parametrize("low", [0, 1])
def test_set_to_0_drains_all_and_auto_brings_them_back(low: int) -> None:
    rig = loaded(policy(strict(numbers="1-4", low=low), pace=QUICK), 2)
    shrink(rig, 0)
    rig.run(120.0)
    assert rig.serving() == 0
    rig.order(SetInstances(profile="default-first", instances=None))
    rig.run(120.0)
    assert rig.serving() >= 1


def test_an_outdated_instance_goes_first_when_there_are_too_many() -> None:
    rules = policy(strict(numbers="1-4"), pace=QUICK)
    rig = idle_fleet(rules, 3)
    rig.world.rates = {"default": 0.5}
    rig.run(20.0)
    configured(rig, policy(strict(numbers="1-4", threads=6), pace=QUICK))
    rig.run(400.0)
    assert rig.serving() == 1
    assert all(u.process is None or u.process.threads == 6 for u in rig.world.units.values())


def called_undrainable(ticks: list[TickResult]) -> list[str]:
    return [sentence(c.reason) for t in ticks for c in t.host.clamps if c.code.value == "undrainable"]


@pytest.mark.parametrize("later", range(0, 10, 2))
def test_a_quiet_that_fleetd_died_before_sending_is_not_called_undrainable(later: int) -> None:
    rig = settled(policy(strict(numbers="1-4", low=3), pace=PacePolicy()), 3)
    rig.world.advance(later)  # relative to the heartbeats
    shrink(rig, 2)
    while not rig.ticker.host_memory.drains:
        rig.units.dies_after_steps = 0
        rig.run(5.0)
    assert rig.ordered("quiet") == [], "remembered, never given"
    ticks = rig.run(90.0)
    assert called_undrainable(ticks) == []
    assert rig.serving() == 2


def test_a_new_process_in_mid_drain_has_its_own_three_beats() -> None:
    """systemd restarted the process while Redis was away, so it could not be stopped during its boot."""
    rig, number = in_mid_drain()
    rig.world.redis_up = False
    rig.world.kill_worker(number)
    rig.run(60.0)
    rig.world.redis_up = True
    rig.world.advance(3.0)  # it beats once more before it is quieted
    ticks = rig.run(60.0)
    assert called_undrainable(ticks) == []
    assert rig.ordered("quiet") == [number, number]
    assert rig.world.units[number].state == "inactive"


@pytest.mark.parametrize("ahead", [-600.0, 600.0], ids=["behind", "ahead"])
def test_a_worker_host_with_a_wrong_clock_drains_as_quickly(ahead: float) -> None:
    """Ten minutes behind, a beat from after the order looked older than it, and each drain ended at its deadline."""
    rig = settled(policy(strict(numbers="1-3"), pace=PacePolicy(hold_down_seconds=30.0)), 3)
    rig.world.clock_ahead_seconds = ahead
    rig.run(60.0)
    shrink(rig)
    ticks = rig.run(90.0)
    assert sorted(rig.ordered("stop")) == [2, 3]
    assert not any("not idle after" in said(t) for t in ticks)
    assert rig.world.lost == 0
    assert [sentence(sign) for sign in ticks[-1].signs if "clock" in sentence(sign)] != []


def test_a_drain_past_its_deadline_is_said_to_be_that() -> None:
    """Not to be stopped in 0 s at the latest: it waits until Redis takes writes."""
    rig = busy_fleet(2, seconds=900.0)
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.world.redis_writable = False
    ticks = rig.run(300.0)
    [note] = [i.note for i in rig.status(ticks[-1]).instances if i.number == 2]
    assert note.endswith("left, past its deadline")
