"""Whose running jobs each host of a fleet reads, and that a new leader takes nobody for idle. On real Tickers."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.facts import SidekiqFacts
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.counts import QueueNeeds
from fleetd.daemon.tick import TickResult
from tests.support.fleet.several import Fleet
from tests.support.world.fleets import HOUR, QUICK
from tests.support.world.ports import policy, strict

BUSY = 8  # threads that keep a job for the whole test


def host(name: str, *, low: int = 2, high: int = 4) -> Policy:
    scheduler = SchedulerPolicy(place="auto", takeover_seconds=30.0, threads=5, db_pool=7)
    return structs.replace(
        policy(strict(numbers="1-4", low=low, high=high), scheduler=scheduler, pace=QUICK), host=name
    )


def three(**options: int) -> Fleet:
    """w1 leads; two instances on each host, and threads that keep long jobs."""
    fleet = Fleet(*(host(name, **options) for name in ("w1", "w2", "w3")))
    fleet.run(120.0)
    for world in fleet.worlds.values():
        world.job_seconds = (6 * HOUR, 6 * HOUR)
    fleet.worlds["w1"].enqueue("default", BUSY)
    fleet.run(60.0)
    for world in fleet.worlds.values():
        world.job_seconds = (0.5, 0.5)
    assert leader(fleet) == "w1"
    return fleet


def leader(fleet: Fleet) -> str:
    [found] = [name for name, result in fleet.last.items() if result.shared is not None]
    return found


def facts(result: TickResult) -> SidekiqFacts:
    assert result.tick.sidekiq is not None
    return result.tick.sidekiq


def left_out(fleet: Fleet, name: str) -> set[str]:
    """The hosts whose running jobs this one did not ask for in its last reading."""
    tags = [
        parse_tag(p.tag) for p in facts(fleet.last[name]).processes if p.identity in fleet.rigs[name].sidekiq.left_out
    ]
    return {tag.host for tag in tags if tag is not None}


def at_work(fleet: Fleet, name: str) -> int | None:
    """As `fleetctl status` on this host shows it."""
    [queue] = [queue for queue in fleet.status(name).queues if queue.name == "default"]
    return queue.busy_threads


def need(fleet: Fleet, name: str) -> float | None:
    [queue] = [queue for queue in fleet.status(name).queues if queue.name == "default"]
    return queue.need_threads


def test_the_leader_reads_everybody_s_jobs_and_the_others_their_own() -> None:
    fleet = three()
    assert [left_out(fleet, name) for name in ("w1", "w2", "w3")] == [set(), {"w1", "w3"}, {"w1", "w2"}]
    assert facts(fleet.last["w1"]).queues["default"].busy_threads == BUSY
    assert facts(fleet.last["w2"]).queues["default"].busy_threads is None
    for name in ("w1", "w2", "w3"):
        assert at_work(fleet, name) == BUSY, "the leader tells what it has read"
        assert need(fleet, name) == need(fleet, "w1")
        assert fleet.last[name].scheduler.live_processes == 1


def test_who_hears_of_no_leader_reads_everybody_s_jobs() -> None:
    fleet = three()
    fleet.shared.memory.state = None
    fleet.tick()  # it was asked for before the ledger said that it gathers
    fleet.tick()
    assert fleet.last["w2"].tick.fleet.reply is not None
    assert fleet.last["w2"].tick.fleet.reply.gathering is not None
    assert left_out(fleet, "w2") == set()
    assert facts(fleet.last["w2"]).queues["default"].busy_threads == BUSY
    fleet.rigs["w3"].start_fleetd()
    fleet.tick()
    assert left_out(fleet, "w3") == set()


def test_a_new_leader_takes_no_process_for_idle_whose_jobs_it_has_not_read_yet() -> None:
    fleet = three(low=1)
    before = fleet.last["w1"].shared
    assert before is not None
    mean = before.memory.demand.busy_mean_threads["default"]
    assert mean > 0.8 * BUSY
    fleet.rigs["w1"].on = False  # its workers go on
    del fleet.last["w1"]
    while all(result.shared is None for result in fleet.last.values()):
        fleet.tick()
    new = leader(fleet)
    first = fleet.last[new].shared
    assert first is not None
    assert facts(fleet.last[new]).queues["default"].busy_threads is None
    assert first.memory.demand.busy_mean_threads["default"] >= 0.95 * mean
    assert first.plan.profiles[0].needed_instances == before.plan.profiles[0].needed_instances
    fleet.tick()
    assert left_out(fleet, new) == set()
    assert facts(fleet.last[new]).queues["default"].busy_threads == BUSY


def test_a_new_leader_knows_at_once_which_processes_finish_nothing() -> None:
    fleet = three()
    fleet.run(50 * 60.0)
    stalled = fleet.last["w1"].tick.evidence.stalled
    assert stalled
    before = facts(fleet.last["w1"]).queues["default"].busy_threads
    fleet.rigs["w1"].on = False
    del fleet.last["w1"]
    while all(result.shared is None for result in fleet.last.values()):
        fleet.tick()
    new = leader(fleet)
    fleet.tick()
    assert fleet.last[new].tick.evidence.stalled.keys() >= stalled.keys()
    assert facts(fleet.last[new]).queues["default"].busy_threads == before


def test_a_host_that_decides_alone_again_knows_no_load_of_earlier_days() -> None:
    fleet = three(low=1)
    rig = fleet.rigs["w2"]
    assert "default" not in rig.ticker.planned.demand.busy_mean_threads
    rig.sources.ledger = None  # `fleet.ledger = "local"`, after a restart
    fleet.tick()
    assert facts(fleet.last["w2"]).queues["default"].busy_threads is None
    assert fleet.running("w2") >= 1
    fleet.tick()
    assert left_out(fleet, "w2") == set()
    assert rig.ticker.planned.demand.busy_mean_threads["default"] == BUSY


def test_why_a_host_gets_more_is_told_by_the_need_that_the_leader_read() -> None:
    fleet = three(low=1)
    fleet.worlds["w1"].enqueue("default", 5000)
    needs: dict[str, Reason | None] = {}
    for _ in range(4):
        fleet.tick()
        for name, result in fleet.last.items():
            for why in result.fleet.wanted.values():
                needs.setdefault(name, why.need)
    assert all(isinstance(need, QueueNeeds) and need.length_jobs >= 4000 for need in needs.values())
    assert needs.keys() >= {"w1", "w2"}
