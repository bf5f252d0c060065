"""People's orders as values: what each leaves in the memory, and its sentence."""

from __future__ import annotations

import pytest

from fleetd.core.instances.host_memory import Failure, HostMemory, Rollout
from fleetd.core.instances.lifecycle import Drain, Pin
from fleetd.core.instances.orders import obey, span
from fleetd.core.model.commands import (
    DrainInstance,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.core.model.facts import CodeStamp
from fleetd.core.model.policy import SchedulerPolicy
from fleetd.errors import OrderRefusedError
from tests.support.builders.readings import process, seen, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict, weighted

NOW = 10_000.0
RULES = policy(strict(numbers="1-3"), weighted(numbers="7-8"), scheduler=SchedulerPolicy(place="here"))
ROLL = Rollout(
    cause="restart", left={"2": "", "1": ""}, total=3, done=1, since_seconds=NOW - 60.0, current="2"
)


FAILED = Failure(count=11, last_seconds=0.0)


def given(
    command: object, memory: HostMemory | None = None, *, quiet: bool = False
) -> tuple[HostMemory, str]:
    """@1, @2 and the scheduler run."""
    memory = memory or HostMemory()
    beats = tuple(process(tag(n), pid=n, quiet=quiet, busy=2) for n in (1, 2))
    units = systemd({1: unit(pid=1), 2: unit(pid=2)}, unit(pid=9))
    views = seen(RULES, snapshot(RULES, now=NOW, redis=sidekiq(processes=beats), units=units), memory)
    return obey(RULES, views, memory, command, NOW)  # type: ignore[arg-type]


def test_a_pin_keeps_what_is() -> None:
    for number, quiet, wants in ((1, False, "run"), (1, True, "quiet"), (3, False, "stopped")):
        pin = given(PinInstance(number=number, for_seconds=60.0), quiet=quiet)[0].pins[str(number)]
        assert (pin.wants, pin.by, pin.until_seconds) == (wants, "fleetctl", NOW + 60.0)
    assert "scheduler" in given(PinInstance(number="scheduler"))[0].pins


def test_no_time_given_is_the_time_of_pins() -> None:
    assert given(PinInstance(number=1))[0].pins["1"].until_seconds == NOW + RULES.pace.pin_seconds


def test_release_forgets_pin_and_failures() -> None:
    memory = HostMemory(
        pins={"3": Pin(wants="stopped", since_seconds=0.0, until_seconds=NOW + 9.0)},
        failures={"3": Failure(count=11, last_seconds=NOW)},
    )
    after, sentence = given(ReleaseInstance(number=3), memory)
    assert (after.pins, after.failures) == ({}, {})
    assert "its 11 failures are forgotten" in sentence


def test_a_released_quiet_one_is_left_to_the_next_tick_to_drain() -> None:
    memory = HostMemory(pins={"1": Pin(wants="quiet", since_seconds=0.0, until_seconds=NOW + 900.0)})
    after, _ = given(ReleaseInstance(number=1), memory, quiet=True)
    assert after.pins["1"].until_seconds == NOW


def test_a_drain_is_begun_and_then_kept_stopped() -> None:
    after, sentence = given(DrainInstance(number=2, for_seconds=60.0))
    assert after.pins["2"].wants == "stopped"
    assert after.drains["2"].quiet_sent_seconds is None
    assert "2 jobs to finish" in sentence


def test_set_and_auto() -> None:
    after, _ = given(SetInstances(profile="weighted", instances=0, for_seconds=60.0))
    assert after.sets["weighted"].instances == 0
    assert given(SetInstances(profile="weighted", instances=None), after)[0].sets == {}


def test_pause_and_resume() -> None:
    after, sentence = given(Pause(for_seconds=90.0, reason=" x" * 500))
    assert after.pause is not None
    assert len(after.pause.reason) <= 200
    assert sentence.startswith("Paused for 90 s")
    assert given(Resume(), after)[0].pause is None


def test_resume_accepts_the_code_on_disk() -> None:
    memory = HostMemory(code="old", code_on_disk=CodeStamp(digest="new", version="4.5.0"))
    after, sentence = given(Resume(), memory)
    assert after.code == "new"
    assert "(4.5.0) is accepted" in sentence


def test_restart_takes_what_runs_the_scheduler_last_and_ends_their_pins() -> None:
    memory = HostMemory(pins={"1": Pin(wants="run", since_seconds=0.0, until_seconds=NOW + 9.0)}, code="old")
    after, sentence = given(Restart(), memory)
    assert after.rollout is not None
    assert list(after.rollout.left) == ["1", "2", "scheduler"]
    assert after.pins == {}
    assert "1 pin(s) on them end" in sentence
    assert given(Restart(profile="default-first"))[0].rollout.left == {"1": "", "2": ""}  # type: ignore[union-attr]


def test_restart_leaves_out_what_drains_or_is_quiet() -> None:
    after, _ = given(Restart(profile="default-first"), HostMemory(drains={"1": Drain(since_seconds=NOW)}))
    assert after.rollout is not None
    assert list(after.rollout.left) == ["2"]
    with pytest.raises(OrderRefusedError, match="nothing to restart"):
        given(Restart(profile="default-first"), quiet=True)


def test_a_second_restart_is_taken_only_where_the_code_has_changed_again() -> None:
    with pytest.raises(OrderRefusedError, match="1 of 3 done"):
        given(Restart(), HostMemory(rollout=ROLL))
    memory = HostMemory(
        rollout=ROLL, code="old", code_on_disk=CodeStamp(digest="new"), drains={"2": Drain(since_seconds=NOW)}
    )
    after, _ = given(Restart(), memory)
    assert after.rollout is not None
    assert after.rollout.code_before == "old"
    assert after.rollout.current == "2", "the one on its way out comes first"
    assert list(after.rollout.left) == ["2", "1", "scheduler"]
    assert after.rollout.total == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(90.0, "90 s"), (120.0, "2 min"), (7200.0, "2.0 h"), (172800.0, "2.0 days")]
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_restart_forgets_the_failures_of_what_it_is_for() -> None:
    failures = {"3": FAILED, "7": FAILED, "scheduler": FAILED}
    memory, sentence = given(Restart(profile="default-first"), HostMemory(failures=failures))
    assert set(memory.failures) == {"7", "scheduler"}
    assert "What failed before is tried again: mastodon-sidekiq@3." in sentence
    memory, _ = given(Restart(), HostMemory(failures=failures))
    assert memory.failures == {}


def test_a_restart_of_one_profile_says_that_the_code_is_accepted_for_all() -> None:
    upgraded = HostMemory(code="old", code_on_disk=CodeStamp(digest="new"))
    memory, sentence = given(Restart(profile="default-first"), upgraded)
    assert memory.code == "new"
    assert "accepted for all profiles" in sentence
    assert "accepted for all" not in given(Restart(), upgraded)[1]
    assert "accepted for all" not in given(Restart(profile="default-first"))[1]
