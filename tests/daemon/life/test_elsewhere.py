"""fleetd reads another Redis than its workers use: it holds, and says where each of them looks."""

from __future__ import annotations

from fleetd.core.model.policy_tables import SchedulerPolicy
from tests.support.world.fleets import idle_fleet
from tests.support.world.ports import Rig, policy, strict


def looks_elsewhere() -> Rig:
    """Two workers run and none of their heartbeats is there; jobs of somebody else's wait."""
    place = SchedulerPolicy(place="here", threads=5, db_pool=7)
    rig = idle_fleet(policy(strict(numbers="1-6", low=2), scheduler=place), 2)
    rig.world.mute |= {0, 1, 2}
    for number in (1, 2):
        rig.world.kill_worker(number)
    rig.world.advance(90.0)  # until the last heartbeats have expired
    rig.kill_fleetd()  # which then has never heard them
    rig.run(120.0)
    return rig


def test_it_starts_nothing_and_no_scheduler_whatever_waits_there() -> None:
    rig = looks_elsewhere()
    before = len(rig.units.orders)
    rig.world.enqueue("default", 5000)
    rig.run(600.0)
    assert [step for _, step in rig.units.orders[before:] if step.verb == "start"] == []


def test_the_source_says_so_once_and_no_queue_has_a_number() -> None:
    rig = looks_elsewhere()
    status = rig.status(rig.tick())
    (redis,) = [source for source in status.sources if source.name == "redis"]
    assert not redis.ok
    assert "no heartbeat of theirs is in the Redis that fleetd reads" in redis.why
    assert not any("no heartbeat of theirs" in warning for warning in status.warnings)
    assert {queue.latency_seconds for queue in status.queues} == {None}
