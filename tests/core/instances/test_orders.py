"""People's orders: what each leaves in memory, how it is answered, and what is refused."""

from __future__ import annotations

import pytest

from fleetd.core.fleet.orders import NOTE_CHARACTERS_MAX
from fleetd.core.instances.host_memory import Failure, HostMemory, Rollout
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
    Situation,
)
from fleetd.core.model.facts import CodeStamp
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.replies import (
    AutoTaken,
    DrainTaken,
    PauseTaken,
    PinTaken,
    ReleaseTaken,
    Reply,
    RestartTaken,
    ResumeTaken,
    SetTaken,
)
from fleetd.core.model.reasons.units import (
    DrainedByPeople,
    MoreThanAdmitted,
    PinKind,
    ReplaceCause,
    SystemdResult,
)
from fleetd.errors import OrderRefusedError
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import pinned
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy, strict, weighted

NOW = 10_000.0
RULES = policy(strict(numbers="1-3"), weighted(numbers="7-8"), scheduler=SchedulerPolicy(place="here"))
ONE, TWO, THREE, SEVEN = (InstanceKey(n) for n in (1, 2, 3, 7))
ROLL = Rollout(
    cause=ReplaceCause.RESTART,
    left={TWO: "", ONE: ""},
    total_instances=3,
    done_instances=1,
    since_seconds=NOW - 60.0,
    current=TWO,
)
FAILED = Failure(count=11, last_seconds=0.0, cause=SystemdResult(result="exit-code"))
LEAVING = Drain(since_seconds=NOW, cause=MoreThanAdmitted(profile="default-first"))


def given(order: Order, memory: HostMemory | None = None, *, quiet: bool = False) -> tuple[HostMemory, Reply]:
    """@1, @2 and the scheduler run."""
    memory = memory or HostMemory()
    beats = tuple(process(tag(n), pid=n, quiet=quiet, busy=2) for n in (1, 2))
    units = systemd({1: unit(pid=1), 2: unit(pid=2)}, unit(pid=9))
    shot = snapshot(RULES, now=NOW, redis=sidekiq(processes=beats), units=units)
    return order.obey(Situation(tick_of(RULES, shot, memory), memory, NOW))


@pytest.mark.parametrize(
    ("key", "quiet", "wants"),
    [
        (ONE, False, PinKind.RUN),
        (ONE, True, PinKind.QUIET),
        (THREE, False, PinKind.STOPPED),
        (SCHEDULER, False, PinKind.RUN),
    ],
)
def test_a_pin_keeps_an_instance_as_it_is(key: InstanceKey, quiet: bool, wants: PinKind) -> None:
    after, reply = given(PinInstance(key=key, for_seconds=60.0), quiet=quiet)
    pin = after.people.pins[key]
    assert (pin.wants, pin.by, pin.until_seconds) == (wants, "fleetctl", NOW + 60.0)
    assert reply == PinTaken(key=key, wants=wants, for_seconds=60.0)


def test_an_order_without_a_time_holds_as_long_as_a_pin_by_hand() -> None:
    pins = given(PinInstance(key=ONE))[0].people.pins
    assert pins[ONE].until_seconds == NOW + RULES.pace.pin_seconds


def test_release_forgets_pin_and_failures() -> None:
    memory = pinned({3: PinKind.STOPPED}).with_failures({THREE: FAILED})
    after, reply = given(ReleaseInstance(key=THREE), memory)
    assert (after.people.pins, after.units.failures) == ({}, {})
    assert reply == ReleaseTaken(key=THREE, is_drained=False, forgotten_failures=11)
    assert "11 failures are forgotten" in sentence(reply)


def test_a_released_quiet_instance_is_drained_by_the_next_tick() -> None:
    after, reply = given(ReleaseInstance(key=ONE), pinned({1: PinKind.QUIET}), quiet=True)
    assert after.people.pins[ONE].until_seconds == NOW
    assert reply == ReleaseTaken(key=ONE, is_drained=True, forgotten_failures=0)


def test_a_drained_instance_is_kept_stopped() -> None:
    after, reply = given(DrainInstance(key=TWO, for_seconds=60.0))
    assert after.people.pins[TWO].wants == PinKind.STOPPED
    assert after.drains == {TWO: Drain(since_seconds=NOW, cause=DrainedByPeople())}
    longest = RULES.pace.drain_seconds_max
    assert reply == DrainTaken(key=TWO, busy_threads=2, drain_seconds_max=longest, for_seconds=60.0)
    assert "2 jobs to finish" in sentence(reply)


def test_a_count_that_is_set_is_kept_until_auto() -> None:
    after, reply = given(SetInstances(profile="weighted", instances=0, for_seconds=60.0))
    assert after.people.sets["weighted"].instances == 0
    assert reply == SetTaken(profile="weighted", instances=0, for_seconds=60.0, min_instances=1)
    after, reply = given(SetInstances(profile="weighted", instances=None), after)
    assert after.people.sets == {}
    assert reply == AutoTaken(profile="weighted")


def test_a_pause_is_kept_with_its_note_and_resume_ends_it() -> None:
    after, reply = given(Pause(for_seconds=90.0, reason="  moving\nthe  database "))
    assert after.people.pause is not None
    assert after.people.pause.note == "moving the database"
    assert reply == PauseTaken(for_seconds=90.0, drains_going_on=0, note="moving the database")
    assert sentence(reply).startswith("Paused for 90 s")
    after, reply = given(Resume(), after)
    assert after.people.pause is None
    assert reply == ResumeTaken(pause_ended=True, code_accepted=False, version=None)


def test_a_note_too_long_for_everybodys_screen_is_refused() -> None:
    longest = "x" * NOTE_CHARACTERS_MAX
    pause = given(Pause(reason=longest))[0].people.pause
    assert pause is not None
    assert pause.note == longest
    for reason in (f"{longest}x", " x" * 500, "\x1b[2J"):
        with pytest.raises(OrderRefusedError, match="at most 200 characters"):
            given(Pause(reason=reason))


def test_resume_accepts_the_code_on_disk() -> None:
    memory = HostMemory(code="old", code_on_disk=CodeStamp(digest="new", version="4.5.0"))
    after, reply = given(Resume(), memory)
    assert after.code == "new"
    assert reply == ResumeTaken(pause_ended=False, code_accepted=True, version="4.5.0")
    assert "(4.5.0) is accepted" in sentence(reply)


def test_restart_takes_all_that_run_the_scheduler_last_and_ends_their_pins() -> None:
    after, reply = given(Restart(), pinned({1: PinKind.RUN}))
    assert after.rollout is not None
    assert list(after.rollout.left) == [ONE, TWO, SCHEDULER]
    assert after.people.pins == {}
    assert reply == RestartTaken(instances=3, code_for_all=False, tried_again=(), pins_ended=1)
    assert "1 pin on them ends" in sentence(reply)


def test_restart_of_one_profile_leaves_out_the_scheduler() -> None:
    after, _ = given(Restart(profile="default-first"))
    assert after.rollout is not None
    assert after.rollout.left == {ONE: "", TWO: ""}


def test_restart_leaves_out_instances_that_drain_or_are_quiet() -> None:
    after, _ = given(Restart(profile="default-first"), HostMemory(drains={ONE: LEAVING}))
    assert after.rollout is not None
    assert list(after.rollout.left) == [TWO]
    with pytest.raises(OrderRefusedError, match="nothing to restart"):
        given(Restart(profile="default-first"), quiet=True)


def test_a_second_restart_is_accepted_only_if_the_code_has_changed_again() -> None:
    with pytest.raises(OrderRefusedError, match="1 of 3 done"):
        given(Restart(), HostMemory(rollout=ROLL))
    memory = HostMemory(rollout=ROLL, code="old", code_on_disk=CodeStamp(digest="new"), drains={TWO: LEAVING})
    after, _ = given(Restart(), memory)
    assert after.rollout is not None
    assert after.rollout.code_before == "old"
    assert after.rollout.current == TWO, "the one on its way out comes first"
    assert list(after.rollout.left) == [TWO, ONE, SCHEDULER]
    assert after.rollout.total_instances == 3


def test_a_restart_forgets_the_failures_of_its_instances() -> None:
    before = HostMemory().with_failures({THREE: FAILED, SEVEN: FAILED, SCHEDULER: FAILED})
    after, reply = given(Restart(profile="default-first"), before)
    assert set(after.units.failures) == {SEVEN, SCHEDULER}
    assert reply == RestartTaken(instances=2, code_for_all=False, tried_again=(THREE,), pins_ended=0)
    assert "What failed before is tried again: mastodon-sidekiq@3." in sentence(reply)
    after, _ = given(Restart(), before)
    assert after.units.failures == {}


def test_a_restart_of_one_profile_says_that_the_code_is_accepted_for_all() -> None:
    upgraded = HostMemory(code="old", code_on_disk=CodeStamp(digest="new"))
    after, reply = given(Restart(profile="default-first"), upgraded)
    assert after.code == "new"
    assert "accepted for all profiles" in sentence(reply)
    assert "accepted for all" not in sentence(given(Restart(), upgraded)[1])
    assert "accepted for all" not in sentence(given(Restart(profile="default-first"))[1])
