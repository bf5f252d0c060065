"""States of instances, and which heartbeat belongs to which instance."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.lifecycle import Drain, InstanceMemory, state_of
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Known, ProcessFacts, UnitFacts
from fleetd.core.model.heartbeats import claim_of, heartbeats_by_key, present_heartbeat
from fleetd.core.model.identity import SCHEDULER, InstanceKey, WorkerTag, application_name, parse_tag
from fleetd.core.model.reasons.units import DrainedByPeople, PinKind
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

DRAIN = Drain(since_seconds=0.0, cause=DrainedByPeople(), quiet_sent_seconds=0.0)
STOPPED = structs.replace(DRAIN, stop_sent_seconds=5.0)


@pytest.mark.parametrize(
    ("own_unit", "beat", "drain", "ordered", "state"),
    [
        (None, None, None, False, "stopped"),
        (None, None, None, True, "starting"),
        (unit("inactive"), None, None, False, "stopped"),
        (unit("failed"), None, None, False, "failed"),
        (unit("failed"), None, None, True, "failed"),
        (unit("activating"), None, None, False, "starting"),
        (unit("activating"), None, DRAIN, False, "stopping"),
        (unit("deactivating"), None, DRAIN, False, "stopping"),
        (unit(age=5.0), None, None, False, "starting"),  # READY, no beat yet
        (unit(age=31.0), None, None, False, "serving"),  # not if others beat: see below
        (unit(age=5.0), process(tag(1)), None, False, "serving"),
        (unit(), process(tag(1)), DRAIN, False, "quieting"),
        (unit(), process(tag(1), quiet=True), DRAIN, False, "draining"),
        (unit(), process(tag(1), quiet=True), None, False, "draining"),
        (unit(), process(tag(1), quiet=True), STOPPED, False, "stopping"),
        (unit("reloading"), process(tag(1)), None, False, "serving"),
    ],
)
def test_the_state_follows_from_unit_heartbeat_drain_and_start_order(
    own_unit: UnitFacts | None, beat: ProcessFacts | None, drain: Drain | None, ordered: bool, state: str
) -> None:
    memory = InstanceMemory(drain=drain, start_ordered=ordered)
    assert state_of(own_unit, beat, memory, sidekiq_known=True) == InstanceState(state)


def test_an_instance_silent_while_others_beat_never_becomes_capacity() -> None:
    unheard = InstanceMemory(unheard=True)
    assert state_of(unit(age=3000.0), None, unheard, sidekiq_known=True) == InstanceState.STARTING
    assert state_of(unit(age=3000.0), None, unheard, sidekiq_known=False) == InstanceState.SERVING
    assert state_of(unit(), process(tag(1)), unheard, sidekiq_known=True) == InstanceState.SERVING


def test_an_instance_that_we_ended_because_it_did_not_come_up_has_failed() -> None:
    failed = InstanceMemory(failed=True)
    assert state_of(None, None, failed, sidekiq_known=True) == InstanceState.FAILED
    assert state_of(unit(), process(tag(1)), failed, sidekiq_known=True) == InstanceState.SERVING
    stopped = InstanceMemory(failed=True, pinned=PinKind.STOPPED)
    assert state_of(None, None, stopped, sidekiq_known=True) == InstanceState.PINNED


def test_without_redis_active_units_count_as_serving() -> None:
    found = state_of(unit(age=5.0), None, InstanceMemory(), sidekiq_known=False)
    assert found == InstanceState.SERVING


def heard(beats: tuple[ProcessFacts, ...], own: UnitFacts | None) -> ProcessFacts | None:
    """The heartbeat of @1 on w1."""
    return present_heartbeat(heartbeats_by_key(beats, "w1").get(InstanceKey(1), []), own)


def test_a_heartbeat_is_matched_by_tag_and_pid() -> None:
    beats = (
        process(tag(1), pid=100, started=70.0),
        process(tag(1), pid=200, started=8.0),
        process(tag(2), pid=100, started=8.0),
        process(tag(1, host="w2"), pid=200, started=8.0, hostname="w2"),
    )
    assert heard(beats, unit(age=5.0, pid=200)) is beats[1]


def test_behind_a_wrapper_the_younger_heartbeat_is_ours() -> None:
    ghost, fresh = process(tag(1), pid=1, started=70.0), process(tag(1), pid=2, started=9.0)
    assert heard((ghost, fresh), unit(age=5.0, pid=999)) is fresh
    assert heard((ghost,), unit(age=5.0, pid=999)) is None


def test_without_a_unit_there_is_no_heartbeat() -> None:
    assert heard((process(tag(1)),), None) is None


def test_the_age_of_a_beat_includes_the_age_of_the_reading() -> None:
    rules = policy()
    shot = snapshot(
        rules, redis=sidekiq(processes=(process(tag(1), beat=4.0, pid=5),)), units=systemd({1: unit(pid=5)})
    )
    assert isinstance(shot.sidekiq, Known)
    old = structs.replace(shot, sidekiq=structs.replace(shot.sidekiq, age_seconds=3.0))
    own = tick_of(rules, old).view(InstanceKey(1))
    assert own is not None
    assert own.beat_age_seconds == 7.0


def test_every_configured_number_and_the_scheduler_are_seen() -> None:
    rules = policy()
    found = tick_of(rules, snapshot(rules, units=systemd({3: unit(), 99: unit()}))).instances
    assert found is not None
    assert [v.key for v in found] == [1, 2, 3, 4, 5, 6, SCHEDULER]
    assert [v.claim_connections for v in found] == [0, 0, 7, 0, 0, 0, 0]


def test_a_claim_is_one_connection_per_thread_plus_a_margin_up_to_the_pool() -> None:
    assert claim_of(process(tag(1, pool=7), threads=5)) == 7
    assert claim_of(process(tag(1, pool=90), threads=60)) == 62
    assert claim_of(process("", threads=25)) == 27


def test_a_tag_is_read_back_as_it_was_written() -> None:
    mark = WorkerTag(host="w-1.example", key=InstanceKey(12), db_pool=90, digest="0a1b2c3d")
    assert str(mark) == "fleetd:w-1.example:12:p90:0a1b2c3d"
    assert parse_tag(str(mark)) == mark
    boss = WorkerTag(host="w1", key=SCHEDULER, db_pool=12, digest="0a1b2c3d")
    assert str(boss) == "fleetd:w1:scheduler:p12:0a1b2c3d"
    assert parse_tag(str(boss)) == boss


@pytest.mark.parametrize(
    "text",
    [
        "",
        "live",
        "fleetd:w1:1:p7",
        "fleetd:w1:x:p7:00000000",
        "fleetd:w1:0:p7:00000000",  # neither one of our numbers nor the scheduler
        "fleetd:w1:1:p7:00000000 ",
        "xfleetd:w1:1:p7:00000000",
        "fleetd:w1:1:p7:0000000G",
        "fleetd::1:p7:00000000",
        "fleetd:w1:12345:p7:00000000",
    ],
)
def test_anything_else_is_no_tag(text: str) -> None:
    assert parse_tag(text) is None


def test_connection_names_fit_postgres() -> None:
    assert application_name(InstanceKey(3), "w1") == "mastodon-sidekiq@3.w1"
    assert application_name(SCHEDULER, "w1") == "mastodon-sidekiq-scheduler.w1"
    assert len(application_name(SCHEDULER, "h" * 64)) == 63
