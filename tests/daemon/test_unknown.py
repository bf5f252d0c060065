"""Unknown is never a number: while heartbeats can't be read, screen, metrics, history and decision say so alike."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.cli.advice.findings import findings
from fleetd.cli.advice.verdict import Level, scheduler_level
from fleetd.cli.screens.status import status_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import UNICODE
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.scheduler import SchedulerUnreadable
from fleetd.core.model.status import Status
from fleetd.daemon.metrics import Metrics
from fleetd.daemon.record import sample_of
from fleetd.daemon.tick import TickResult
from tests.support.world.ports import policy
from tests.support.world.recorded import Recorded, busy_world
from tests.support.world.world import World

GARBLED_QUEUES = "default push"


def garbled(place: str) -> tuple[Recorded, TickResult, Status]:
    """A host whose own instances work, beside a process whose heartbeat can't be understood."""
    world = busy_world()
    scheduler = SchedulerPolicy(place=place)  # type: ignore[arg-type]
    world.policy = world.rendered_policy = structs.replace(world.policy, scheduler=scheduler)
    rig = Recorded(world)
    world.appear("main", GARBLED_QUEUES)
    world.garbled = True
    rig.live(120.0)
    result = rig.tick()
    return rig, result, rig.status(result)


def names(status: Status) -> set[str]:
    metrics = Metrics(version="1", now_seconds=lambda: 0.0)
    metrics.tell(status)
    return {sample.name for family in metrics.registry.collect() for sample in family.samples}


@pytest.mark.parametrize("place", ["auto", "here", "elsewhere"])
def test_whether_a_scheduler_runs_is_unknown(place: str) -> None:
    rig, result, status = garbled(place)
    assert result.scheduler.state == SchedulerUnreadable(what="heartbeat")
    assert (result.scheduler.live_processes, result.scheduler.start) == (None, False)
    assert "NONE RUNS" not in " ".join([*rig.lines, status.scheduler.sentence])
    assert scheduler_level(status) == Level.UNKNOWN
    assert "fleetd_scheduler_processes" not in names(status)
    assert any("Scheduler: a heartbeat in Redis is unreadable" in finding.sentence for finding in findings(status))


def test_one_that_can_be_read_is_counted_even_so() -> None:
    rig, _, _ = garbled("elsewhere")
    rig.world.garbled = False
    rig.world.appear("other", "scheduler")
    assert rig.tick().scheduler.live_processes == 1


def test_busy_threads_are_unknown_everywhere() -> None:
    rig, result, status = garbled("elsewhere")
    assert {queue.busy_threads for queue in status.queues} == {None}
    assert not names(status) & {"fleetd_queue_busy_threads"}
    assert {"fleetd_queue_latency_seconds", "fleetd_queue_length_jobs"} <= names(status)
    sample = sample_of(result, 5.0)
    assert sample.queues == {}
    assert sample.foreign_threads is None
    page = Page(80, UNICODE)
    rows = [line.plain for line in status_screen(status, page, height=None) if " default  " in line.plain]
    assert rows[0].split()[-2] == "?", rows[0]
    rig.world.garbled = False
    known = rig.status(rig.tick())
    assert None not in {queue.busy_threads for queue in known.queues}


def test_an_unknown_age_is_never_within_the_target() -> None:
    rig = Recorded(World(policy()))
    rig.live(60.0)
    rig.world.unreadable = {"pull"}
    status = rig.status(rig.tick())
    assert status.summary.startswith("unknown how long pull waits; ")
    rig.world.enqueue("default", 500)
    rig.world.advance(10.0)
    assert rig.status(rig.tick()).summary.startswith("late: default 10 s; unknown how long pull waits; ")


def test_many_unknown_queues_make_a_short_summary() -> None:
    rules = policy()
    profile = rules.profiles[0]
    many = structs.replace(profile, queues=tuple((f"q{n}", 1) for n in range(60)))
    rig = Recorded(World(structs.replace(rules, profiles=(many,))))
    rig.world.unreadable = set(rig.world.queues)
    assert rig.status(rig.tick()).summary.startswith("unknown how long q0, q1, q2, q3, q4, q5 and 54 more wait; ")


def test_the_need_of_a_queue_that_was_never_read_is_unknown() -> None:
    rig = Recorded(busy_world())
    rig.world.unreadable = {"pull"}
    need = {queue.name: queue.need_threads for queue in rig.status(rig.tick()).queues}
    assert need["pull"] is None
    assert need["push"] == 0.0
