"""Instances that live and beat but finish nothing: no capacity, no reason to grow, and replaced if so configured."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.evidence.weigh import EvidenceMemory
from fleetd.core.instances.assess import assess
from fleetd.core.instances.host_memory import HostMemory, RolloutPhase
from fleetd.core.instances.host_tick import HostDecision
from fleetd.core.instances.orders import Restart
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.facts import RunningJob
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy, StuckPolicy
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.fleets import HOUR, QUICK, said, serving_true, settled, states
from tests.support.world.ports import Rig, policy, strict


def stalled_fleet(*, replace: bool) -> Rig:
    """Two of up to four instances; all threads of both get into jobs that last for six hours."""
    rules = policy(strict(numbers="1-4", low=2), pace=QUICK, stuck=StuckPolicy(replace=replace))
    rig = settled(rules, 2)
    rig.world.job_seconds = (6 * HOUR, 6 * HOUR)
    rig.world.enqueue("default", 10)
    rig.run(30.0)
    rig.world.job_seconds = (0.5, 0.5)
    return rig


def test_an_instance_that_finishes_nothing_is_no_capacity_and_others_take_its_place() -> None:
    rig = stalled_fleet(replace=False)
    ticks = rig.run(45 * 60.0)
    assert {states(ticks[-1])[n] for n in (1, 2)} == {"stalled"}
    assert "@1 has finished nothing for" in said(ticks[-1])
    assert "5 × LinkCrawlWorker" in said(ticks[-1])
    assert {states(ticks[-1])[n] for n in (3, 4)} == {"serving"}, "min is 2"
    assert rig.ordered("stop") == []
    assert rig.world.lost == 0


def test_busy_threads_that_finish_nothing_are_no_reason_to_grow() -> None:
    rig = stalled_fleet(replace=False)
    last = rig.run(50 * 60.0)[-1]
    facts = last.tick.sidekiq
    assert facts is not None
    assert facts.queues["default"].busy_threads == 0


def test_with_replace_they_are_drained_one_at_a_time_and_no_job_is_lost() -> None:
    rig = stalled_fleet(replace=True)
    rig.run(2 * HOUR)
    assert sorted(rig.ordered("quiet")[:2]) == [1, 2]
    assert sorted(rig.ordered("stop")[:2]) == [1, 2]
    assert (rig.world.lost, rig.world.pushed_back) == (0, 10)
    assert serving_true(rig.world) >= 2


def test_a_restart_does_not_wait_for_an_instance_that_is_stalled() -> None:
    rig = stalled_fleet(replace=False)
    rig.run(50 * 60.0)
    rig.order(Restart())
    rig.run(2 * HOUR)
    rollout = rig.ticker.host_memory.rollout
    assert rollout is None or rollout.phase == RolloutPhase.DONE
    assert rig.world.lost == 0


@pytest.mark.parametrize(("key", "drained"), [(SCHEDULER, []), (InstanceKey(1), [InstanceKey(1)])])
def test_the_scheduler_is_not_replaced_for_long_jobs_because_it_still_schedules(
    key: InstanceKey, drained: list[InstanceKey]
) -> None:
    rules = policy(strict(low=1), stuck=StuckPolicy(replace=True), scheduler=SchedulerPolicy(place="here", threads=5))
    queues = "scheduler" if key == SCHEDULER else "default"
    jobs = tuple(RunningJob(jid=f"a{n}", run_age_seconds=5000.0) for n in range(5))
    beat = structs.replace(process(tag(key), queues=queues, pid=7, busy=5), jobs=jobs)
    one = unit(pid=7)
    units = systemd(scheduler=one) if key == SCHEDULER else systemd({key: one})
    seen = EvidenceMemory(at_seconds=9995.0, useless_seconds={beat.identity: 500.0})
    shot = snapshot(rules, now=10_000.0, redis=sidekiq(processes=(beat,)), units=units)
    tick = assess(rules, shot, HostMemory(evidence=seen)).tick
    decision = HostDecision(HostMemory())
    end_stuck(tick, decision)
    assert [step.key for step in decision.steps] == drained
