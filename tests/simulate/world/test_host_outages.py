"""A host that is lost, frozen or cut off: what happens to its jobs, and what the others see of it."""

from __future__ import annotations

import asyncio

import pytest

from fleetd.core.model.facts import ProcessFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.errors import SourceUnavailableError
from fleetd.simulate.world.daemon import SimulatedDatabase, SimulatedSidekiq
from fleetd.simulate.world.world import World
from tests.support.builders.traces import hosts_toml, queue_toml, small_trace, world_of

BUSY = queue_toml("default", "[[0, 50]]")  # 10 threads; each host has 10
LONG = queue_toml("pull", "[]", 100.0, sigma=0.0, bursts="[[0, 20]]")


def fleet(body: str = BUSY, *, head: str = "", **hosts: str) -> World:
    return world_of(small_trace(hosts_toml(**hosts) + body, head=head))


def beating(world: World, host: str) -> list[ProcessFacts]:
    """Heartbeats of this host's instances that w2 reads."""
    facts = asyncio.run(SimulatedSidekiq(world, world.machines[1]).read())
    return [p for p in facts.processes if p.hostname == host and "scheduler" not in p.queues]


def open_names(world: World) -> set[str]:
    return set(asyncio.run(SimulatedDatabase(world, world.machines[1]).read()).worker_connections)


def test_all_hosts_serve_the_same_queues_alike() -> None:
    world = fleet(w1="", w2="")
    world.advance_to(100)
    assert world.queues["default"].waiting == 0
    first, second = (machine.groups[0].unflushed_jobs for machine in world.machines)
    done = [len(beating(world, name)) for name in ("w1", "w2")]
    assert done == [1, 1]
    assert first == pytest.approx(second, abs=150), "each has done half of it since its last heartbeat"


def test_a_lost_host_loses_what_it_runs_and_is_seen_for_a_while() -> None:
    world = fleet(LONG, w1="lost = [[30, 400]]", w2="")
    world.advance_to(30)
    assert len(beating(world, "w1")) == 1
    world.advance_to(32)
    lost, other = world.machines
    assert (lost.lost_jobs, other.lost_jobs, world.lost_jobs) == (10, 0, 10), "as many as it had threads"
    assert [len(m.groups[0].present) for m in world.machines] == [0, 1]
    assert len(beating(world, "w1")) == 1, "Redis has its heartbeat"
    assert "mastodon-sidekiq@1.w1" in open_names(world), "and Postgres its connections"
    assert world.claims_connections() == 12 + 10, "what w2 may open, and what is open of w1"
    world.advance_to(92)
    assert beating(world, "w1") == []
    assert "mastodon-sidekiq@1.w1" in open_names(world)
    world.advance_to(150)
    assert world.busy_threads == 0.0, "the jobs of w1 do not start over"


def test_postgres_notices_when_the_trace_says() -> None:
    late = LONG + "[database]\nlost_connections_seconds = 50\n"
    world = fleet(late, w1="lost = [[30, 400]]", w2="")
    world.advance_to(79)
    assert "mastodon-sidekiq@1.w1" in open_names(world)
    world.advance_to(82)
    assert "mastodon-sidekiq@1.w1" not in open_names(world)
    assert world.claims_connections() == 12


def test_a_boot_starts_min_and_the_scheduler_that_belongs_there() -> None:
    world = fleet(head="initial_instances = 3", w1='place = "here"\nlost = [[30, 100]]', w2='place = "auto"')
    w1 = world.machines[0]
    assert w1.schedules
    assert len(w1.groups[0].present) == 3
    world.advance_to(99)
    assert not w1.schedules
    world.advance_to(125)
    assert [i.state for i in w1.present] == ["active"] * 2, "min, and the scheduler"
    assert w1.schedules
    assert not w1.fleetd_runs(105)
    assert w1.fleetd_runs(112)


def test_no_process_has_the_name_of_one_that_was_lost() -> None:
    world = fleet(w1="lost = [[30, 40]]", w2="")
    world.advance_to(65)
    facts = asyncio.run(SimulatedSidekiq(world, world.machines[1]).read())
    identities = [p.identity for p in facts.processes]
    assert len(identities) == len(set(identities)) == 4, "one of each host, and what is left of w1"


def test_the_unit_of_the_scheduler_refuses_to_start_at_a_boot_beside_another() -> None:
    world = fleet(w1='place = "here"\nlost = [[30, 100]]', w2="")
    world.advance_to(50)
    world.start(SCHEDULER, world.machines[1])
    world.advance_to(140)
    assert [m.schedules for m in world.machines] == [False, True]


def test_on_a_frozen_host_all_takes_as_much_longer() -> None:
    world = fleet(LONG, w1="frozen = [[50, 150]]", w2="")
    world.start(InstanceKey(2), world.machines[0])  # boots in 10 to 20 s
    world.advance_to(101)
    frozen, other = world.machines
    assert not other.groups[0].instances[0].jobs, "w2 has done its jobs"
    assert len(frozen.groups[0].instances[0].jobs) == 10
    assert not frozen.fleetd_runs(100)
    world.advance_to(112)
    assert beating(world, "w1") == [], "their heartbeats have expired"
    world.advance_to(198)
    assert len(frozen.groups[0].instances[0].jobs) == 10
    world.advance_to(203)
    assert not frozen.groups[0].instances[0].jobs
    assert len(beating(world, "w1")) == 2
    assert world.lost_jobs == 0
    assert world.queues["pull"].waiting == 0


def test_a_frozen_host_fetches_nothing() -> None:
    world = fleet(w1="frozen = [[50, 150]]", w2="frozen = [[50, 150]]")
    world.advance_to(150)
    assert world.queues["default"].waiting == pytest.approx(5000, rel=0.1)
    assert world.busy_threads == 0.0


def test_a_host_that_is_cut_off_ends_its_jobs_and_gets_no_others() -> None:
    world = fleet(LONG + BUSY, w1="cut_off = [[50, 300]]", w2="cut_off = [[50, 300]]")
    world.advance_to(120)
    assert not any(i.jobs for m in world.machines for i in m.present), "the long jobs have ended"
    assert world.queues["default"].waiting > 3000
    sidekiq = SimulatedSidekiq(world, world.machines[0])
    with pytest.raises(SourceUnavailableError):
        asyncio.run(sidekiq.read())
    assert "mastodon-sidekiq@1.w1" in open_names(world), "Postgres is there"
    world.advance_to(400)
    assert len(asyncio.run(sidekiq.read()).processes) == 3


def test_jobs_of_a_stop_are_lost_where_they_cannot_be_pushed_back() -> None:
    world = fleet(LONG, w1="cut_off = [[50, 300]]", w2="")
    world.advance_to(60)
    world.stop(InstanceKey(1), world.machines[0])
    world.advance_to(90)
    w1 = world.machines[0]
    assert (w1.lost_jobs, w1.lost_by_stops_jobs) == (10, 10), "it was cut off when it was stopped"
    world = fleet(LONG, w1="cut_off = [[50, 300]]", w2="")
    world.advance_to(40)
    world.stop(InstanceKey(1), world.machines[0])
    world.advance_to(90)
    w1 = world.machines[0]
    assert (w1.lost_jobs, w1.lost_by_stops_jobs) == (10, 0), "that could not be foreseen"
