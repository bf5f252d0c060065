"""The health of each instance's process: silent, killed or heavy, and what is done about it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fleetd.cli.advice.findings import findings
from fleetd.core.instances.host_memory import RETRIES_MAX
from fleetd.core.instances.orders import DrainInstance, Pause
from fleetd.core.model.facts import HostPressure
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import MemoryPolicy, PacePolicy
from fleetd.core.model.reasons.units import NeverHeardOf, NotWhileLate, OomKilled
from fleetd.words.formatting import span
from tests.support.world.fleets import HOUR, QUICK, loaded, said, serving_true, settled, states
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import MIB, World

GIB = 1024 * MIB
SHORT_OF_MEMORY = HostPressure(memory_stalled_share=0.4, cpu_waiting_share=0.1)
SHORT_OF_CORES = HostPressure(memory_stalled_share=0.0, cpu_waiting_share=0.95)


def fleet(count: int = 4, *, numbers: str = "1-6") -> Rig:
    """This many instances, which are also the min, so that none goes for lack of work."""
    return settled(policy(strict(numbers=numbers, low=count)), count)


# -- unresponsive


def test_an_instance_that_is_silent_while_others_beat_is_stopped_and_replaced() -> None:
    rig = fleet()
    rig.world.hang(2)
    ticks = rig.run(180.0)
    assert rig.ordered("stop") == [2]
    assert rig.ordered("quiet") == []
    assert any("@2 has sent no heartbeat for" in said(t) for t in ticks)
    rig.run(120.0)
    assert serving_true(rig.world) == 4


def test_the_jobs_of_a_hung_instance_start_over_once() -> None:
    """systemd's stop wakes it (SIGCONT), and it pushes its jobs back. Later drains let these jobs finish."""
    rig = settled(policy(strict(numbers="1-2", low=2), pace=QUICK), 2)
    rig.world.job_seconds = (400.0, 400.0)
    rig.world.enqueue("default", 10)
    rig.run(20.0)
    rig.world.hang(2)
    rig.run(200.0)
    assert rig.ordered("stop") == [2]
    assert rig.world.pushed_back == 5
    rig.run(60.0)
    assert rig.world.in_flight() == 10, "they run again"
    rig.order(DrainInstance(key=InstanceKey(2)))
    ticks = rig.run(150.0)
    assert rig.world.pushed_back == 5
    assert "runs a job that was pushed back before" in said(ticks[-1])


@pytest.mark.parametrize("stuck", [False, True])
def test_an_instance_that_hangs_in_a_job_pushed_back_before_is_left_until_it_is_drained_as_its_sentence_says(
    stuck: bool,
) -> None:
    rig = settled(policy(strict(numbers="1-3", low=2), pace=QUICK), 2)
    rig.world.job_seconds = (900.0, 900.0)
    rig.world.enqueue("default", 10)
    rig.run(20.0)
    rig.world.hang(2)
    rig.run(260.0)
    [again] = [v.key for v in rig.tick().tick.instances or () if v.busy_threads and v.key != 1]
    rig.world.hang(again, stuck=stuck)
    rig.run(300.0)
    stops = rig.ordered("stop")
    status = rig.status(rig.tick())
    sick = next(i for i in status.instances if i.number == again)
    assert sick.state == "unresponsive"
    assert f"`fleetctl drain {again}` ends it within {span(QUICK.drain_seconds_max)}" in sick.note
    assert any(f"`fleetctl drain {again}` ends it" in finding.sentence for finding in findings(status))
    rig.order(DrainInstance(key=again))
    rig.run(QUICK.drain_seconds_max + 10.0)
    assert rig.ordered("stop") == [*stops, again]
    rig.run(120.0)
    assert rig.world.units[again].process is None
    assert (rig.world.pushed_back, rig.world.lost_otherwise) == ((5, 5) if stuck else (10, 0))


def test_an_instance_that_is_stuck_for_good_is_killed_by_systemd_and_replaced() -> None:
    rig = fleet()
    rig.world.hang(2, stuck=True)
    rig.run(300.0)
    assert rig.ordered("stop") == [2]
    assert serving_true(rig.world) == 4


def test_silence_of_less_than_two_minutes_is_ignored() -> None:
    rig = fleet()
    rig.world.hang(2)
    rig.run(100.0)
    rig.world.units[2].process.hung = False  # type: ignore[union-attr]
    rig.run(300.0)
    assert rig.ordered("stop") == []


def test_if_all_are_silent_the_reading_is_unknown() -> None:
    rig = fleet()
    for number in (1, 2, 3, 4):
        rig.world.hang(number)
    rig.run(HOUR / 2)
    assert rig.units.orders == []


def test_after_redis_lost_its_heartbeats_no_instance_is_taken_for_silent() -> None:
    rig = fleet()
    rig.world.redis_restarts_empty()
    rig.run(300.0)
    assert rig.units.orders == []


def test_a_freeze_of_the_host_makes_no_instance_unresponsive() -> None:
    rig = fleet()
    for process in rig.world.processes():
        process.hung = True
    rig.run(5.0)
    rig.world.advance(HOUR)  # everything stood still, including fleetd
    for number in (1, 3, 4):
        rig.world.units[number].process.hung = False  # type: ignore[union-attr]
    rig.run(30.0)
    assert rig.units.orders == []
    rig.world.units[2].process.hung = False  # type: ignore[union-attr]
    rig.run(300.0)
    assert rig.units.orders == []


def test_time_between_late_ticks_does_not_count_as_silence() -> None:
    rig = fleet()
    rig.world.hang(2)
    for _ in range(20):
        rig.tick()
        rig.world.advance(60.0)  # fleetd is starved
    assert rig.units.orders == []


def test_a_restart_of_fleetd_resets_the_count_of_silence() -> None:
    rig = fleet()
    rig.world.hang(2)
    for _ in range(12):
        rig.run(50.0)
        rig.kill_fleetd()
    assert rig.units.orders == []
    rig.run(90.0)
    assert rig.ordered("stop") == [2]


def test_of_two_silent_instances_one_is_ended_at_a_time() -> None:
    rig = fleet()
    rig.world.hang(2)
    rig.world.hang(3)
    for _ in range(60):
        rig.tick()
        assert [u.state for u in rig.world.units.values()].count("deactivating") <= 1
        rig.world.advance(5.0)
    assert rig.ordered("stop") == [2, 3]
    rig.run(60.0)
    assert serving_true(rig.world) == 4


def test_no_instance_is_ended_as_unresponsive_while_redis_takes_no_writes() -> None:
    rig = fleet()
    rig.world.hang(2)
    rig.world.redis_writable = False
    rig.run(400.0)
    assert rig.ordered("stop") == []


def test_an_instance_without_any_heartbeat_is_not_capacity_and_is_ended() -> None:
    """Its unit may ignore the tag. If it counted as serving, a restart would go on past it."""
    rig = fleet()
    rig.world.mute.add(2)
    rig.world.kill_worker(2)
    ticks = rig.run(100.0)
    assert states(ticks[-1])[2] == "starting"
    assert "@2 is up, but has sent no heartbeat yet" in said(ticks[-1])
    assert rig.ordered("stop") == []
    rig.run(100.0)
    assert rig.ordered("stop") == [2]
    assert isinstance(rig.ticker.host_memory.units.failures[InstanceKey(2)].cause, NeverHeardOf)
    assert serving_true(rig.world) == 4, "another number has taken its place"
    assert rig.world.lost == 0


def test_an_instance_without_any_heartbeat_is_tried_a_bounded_number_of_times() -> None:
    rig = fleet(2, numbers="1-2")
    rig.world.mute.add(2)
    rig.world.kill_worker(2)
    rig.run(4 * HOUR)
    assert rig.ordered("start") == [2] * RETRIES_MAX
    assert states(rig.tick()) == {1: "serving", 2: "failed", SCHEDULER: "stopped"}


def test_if_no_instance_has_a_heartbeat_none_is_ended() -> None:
    rig = Rig(World(policy(strict(numbers="1-2", low=2))))
    rig.world.mute |= {1, 2}
    rig.run(HOUR)
    assert rig.ordered("stop") == []
    assert set(states(rig.tick()).values()) == {"serving", "stopped"}


def test_an_instance_without_any_heartbeat_is_left_while_redis_takes_no_writes() -> None:
    rig = fleet()
    rig.world.mute.add(2)
    rig.world.kill_worker(2)
    rig.world.redis_writable = False
    rig.run(600.0)
    assert rig.ordered("stop") == []


# -- deaths


def test_a_dead_workers_heartbeat_does_not_stand_in_for_it() -> None:
    rig = settled(policy(strict(numbers="1-3", low=2), pace=QUICK), 2)
    rig.world.boot_seconds = 40.0
    rig.world.kill_worker(2)
    for result in rig.run(30.0):
        [view] = [v for v in result.tick.instances or () if v.key == 2]
        assert view.state.value == "starting"
        assert not view.serves
    rig.run(60.0)
    assert states(rig.tick())[2] == "serving"
    assert rig.units.orders == [], "systemd restarts what dies"


def test_an_oom_kill_raises_the_estimate_and_starts_no_further_instance() -> None:
    rig = loaded(policy(strict(numbers="1-6", low=2), pace=QUICK), 3)
    rig.world.units[2].process.resident_bytes = 3 * GIB  # type: ignore[union-attr]
    rig.run(10.0)
    before = len(rig.units.orders)
    rig.world.oom_kill(2)
    rig.world.enqueue("default", 3000)
    ticks = rig.run(300.0)
    assert [s.verb for _, s in rig.units.orders[before:]] == []
    assert rig.serving() == 3
    memory = rig.ticker.host_memory
    assert memory.instance_bytes["default-first"] == int(3 * GIB * 1.25)
    killed = [s for t in ticks for s in t.noticed if isinstance(s, OomKilled)]
    assert killed == [OomKilled(key=InstanceKey(2), grown_bytes=int(3 * GIB * 1.25))]
    assert any(c.code.value == "oom_killed" for c in ticks[-1].fleet.clamps)


def test_half_an_hour_later_the_fleet_may_grow_by_the_new_estimate() -> None:
    rig = settled(policy(strict(numbers="1-6", low=2), pace=QUICK), 2)
    rig.world.units[2].process.resident_bytes = 3 * GIB  # type: ignore[union-attr]
    rig.run(10.0)
    rig.world.oom_kill(2)
    rig.run(1810.0)
    rig.world.memory_available_bytes = int(8.6 * GIB)  # 0.8 used, 0.5 reserved: room for one of 3.75, not for two
    rig.world.enqueue("default", 50_000)
    ticks = rig.run(300.0)
    assert rig.serving() == 3
    assert "no memory left for one more instance" in said(ticks[-1])


def test_a_crash_is_not_taken_for_an_oom_kill() -> None:
    rig = fleet()
    rig.world.oom_kills_total += 1  # of another process
    rig.run(60.0)
    rig.world.kill_worker(1)
    rig.run(60.0)
    assert rig.ticker.host_memory.instance_bytes == {}


# -- heavy


def heavy(*, low: int = 3, numbers: str = "1-4") -> Rig:
    rules = policy(strict(numbers=numbers, low=low), memory=MemoryPolicy(max_bytes=2 * GIB), pace=QUICK)
    rig = settled(rules, low)
    rig.world.units[2].process.resident_bytes = 3 * GIB  # type: ignore[union-attr]
    return rig


def test_a_heavy_instance_is_replaced_gracefully_by_a_spare() -> None:
    rig = heavy()
    least = 3
    for _ in range(120):
        rig.tick()
        least = min(least, serving_true(rig.world))
        rig.world.advance(5.0)
    assert least == 3
    assert rig.ordered("start") == [4]
    assert rig.ordered("quiet") == [2]
    assert rig.ordered("stop") == [2]
    began = next(at for at, s in rig.units.orders if s.verb == "start")
    quieted = next(at for at, s in rig.units.orders if s.verb == "quiet")
    assert quieted - began >= 20.0, "before the new one could serve"


def test_without_a_spare_number_the_heavy_instance_goes_first() -> None:
    rig = heavy(numbers="1-3")
    rig.run(600.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("quiet", 2), ("stop", 2), ("start", 2)]
    assert serving_true(rig.world) == 3


def test_an_instance_over_the_limit_for_a_moment_is_not_replaced() -> None:
    rig = heavy()
    rig.run(250.0)
    rig.world.units[2].process.resident_bytes = GIB  # type: ignore[union-attr]
    rig.run(400.0)
    assert rig.units.orders == []


def test_a_heavy_instance_is_not_replaced_while_its_queues_are_late() -> None:
    rig = heavy()
    rig.world.rates = {"default": 30.0}  # more than all of them can do
    ticks = rig.run(900.0)
    assert not any(s.key == 2 for _, s in rig.units.orders if s.verb != "start")
    assert any(isinstance(t.host.memory.rollout.waits, NotWhileLate) for t in ticks if t.host.memory.rollout)
    rig.world.rates = {}
    rig.world.queues["default"].clear()
    rig.world.enqueued -= rig.world.enqueued - rig.world.done - rig.world.in_flight()
    rig.run(600.0)
    assert 2 in rig.ordered("quiet")


def test_two_heavy_instances_are_replaced_one_after_the_other() -> None:
    rig = heavy(numbers="1-6")
    rig.world.units[3].process.resident_bytes = 4 * GIB  # type: ignore[union-attr]
    for _ in range(200):
        rig.tick()
        assert serving_true(rig.world) >= 3
        assert sum(1 for d in rig.ticker.host_memory.drains) <= 1
        rig.world.advance(5.0)
    assert rig.ordered("quiet") == [3, 2]


def test_with_unknown_memory_use_no_instance_is_replaced() -> None:
    rig = heavy()
    rig.run(290.0)
    rig.host.readable = False
    rig.run(600.0)
    assert [s.verb for _, s in rig.units.orders] == []


# -- pressure


@pytest.mark.parametrize("pressure", [SHORT_OF_MEMORY, SHORT_OF_CORES])
def test_pressure_stops_growth_and_is_reported(pressure: HostPressure) -> None:
    rig = fleet(2)
    rig.world.pressure = pressure
    rig.world.enqueue("default", 20_000)
    ticks = rig.run(200.0)
    assert rig.ordered("start") == []
    assert any(c.code.value == "host_pressure" for c in ticks[-1].fleet.clamps)
    rig.world.pressure = None
    rig.run(60.0)
    assert rig.serving() > 2


def test_lasting_memory_pressure_sheds_the_least_important_down_to_min() -> None:
    rules = policy(strict(numbers="1-3", low=1), weighted(numbers="4-6", low=1), pace=PacePolicy())
    rig = settled(rules, 1)
    rig.world.enqueue("default", 50_000)
    rig.run(200.0)
    assert rig.serving() == 6
    rig.world.pressure = SHORT_OF_MEMORY
    before = len(rig.units.orders)
    rig.run(55.0)
    assert rig.units.orders[before:] == []
    rig.run(1200.0)
    quieted = [s.key for _, s in rig.units.orders[before:] if s.verb == "quiet"]
    assert [n > 3 for n in quieted] == [True, True, False, False]
    assert (rig.serving("default-first"), rig.serving("weighted")) == (1, 1)
    at = [t for t, s in rig.units.orders[before:] if s.verb == "quiet"]
    assert all(b - a >= 120.0 for a, b in pairwise(at))


def test_little_memory_sheds_down_to_min_and_is_reported() -> None:
    """MemAvailable falls below the reserve while the kernel reports no pressure."""
    rig = settled(policy(strict(numbers="1-4", low=2), pace=PacePolicy()), 2)
    rig.world.enqueue("default", 50_000)
    rig.run(200.0)
    assert rig.serving() == 4
    rig.world.memory_available_bytes = 4 * 400 * MIB + 100 * MIB
    ticks = rig.run(50.0)
    assert rig.serving() == 4
    rig.world.resident_bytes = 420 * MIB  # shedding does not help, because the others grow
    ticks += rig.run(40.0)
    assert rig.serving() == 3
    assert any("20 MiB of memory are available on this host" in said(t) for t in ticks)
    rig.world.memory_available_bytes = 0
    rig.run(900.0)
    assert rig.serving() == 2


def test_in_a_pause_memory_pressure_sheds_no_instance() -> None:
    rig = loaded(policy(strict(numbers="1-6"), pace=QUICK), 3)
    rig.order(Pause())
    rig.world.pressure = SHORT_OF_MEMORY
    rig.run(600.0)
    assert rig.units.orders == []


def test_pressure_on_the_cores_sheds_no_instance() -> None:
    rig = loaded(policy(strict(numbers="1-6"), pace=QUICK), 3)
    before = len(rig.units.orders)
    rig.world.pressure = SHORT_OF_CORES
    rig.run(900.0)
    assert rig.units.orders[before:] == []


def test_a_host_that_can_no_longer_be_read_sheds_no_instance() -> None:
    rig = loaded(policy(strict(numbers="1-6"), pace=QUICK), 3)
    before = len(rig.units.orders)
    rig.world.pressure = SHORT_OF_MEMORY
    rig.run(40.0)
    rig.host.readable = False
    rig.run(900.0)
    assert rig.units.orders[before:] == []
