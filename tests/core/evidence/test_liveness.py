"""Live processes and ghosts: by heartbeats that move, in readings that prove that they could."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.evidence.liveness import GHOST_SECONDS, Liveness, LivenessMemory, tell_apart
from fleetd.core.model.facts import ProcessFacts
from fleetd.core.model.policy_tables import PacePolicy
from tests.support.builders.readings import process, sidekiq

PACE = PacePolicy()
EPOCH = 1_700_000_000.0


class Readings:
    """Readings of one Redis. Each heartbeat is given with the Unix time that stands in it."""

    def __init__(self) -> None:
        self.memory = LivenessMemory()

    def read(
        self,
        at: float,
        beats: dict[str, float],
        *,
        writable: bool | None = True,
        complete: bool = True,
        stepped: float = 0.0,
    ) -> Liveness:
        now = EPOCH + at + stepped
        found = tuple(process("", hostname=host, pid=1, beat=now - (EPOCH + beat)) for host, beat in beats.items())
        facts = sidekiq(processes=found, now=now, writable=writable, complete=complete)
        told = tell_apart(PACE, facts, self.memory, at)
        self.memory = told.memory
        return told


def hosts(processes: tuple[ProcessFacts, ...]) -> list[str]:
    return [found.hostname for found in processes]


def test_a_heartbeat_that_stands_still_for_90_s_is_a_ghost() -> None:
    redis = Readings()
    for at in range(0, 90, 5):
        assert hosts(redis.read(at, {"old": -86_400.0}).live) == ["old"], "until then it counts as live"
    told = redis.read(90.0, {"old": -86_400.0})
    assert (hosts(told.live), hosts(told.ghosts)) == ([], ["old"])


def test_a_ghost_that_beats_again_lives() -> None:
    redis = Readings()
    for at in range(0, 120, 5):
        redis.read(at, {"old": 0.0})
    assert hosts(redis.read(120.0, {"old": 119.0}).live) == ["old"]
    assert hosts(redis.read(125.0, {"old": 119.0}).live) == ["old"]


@pytest.mark.parametrize("writable", [False, None], ids=["Redis refuses writes", "this user may not write"])
def test_nobody_is_a_ghost_while_nothing_proves_that_others_could_write(writable: bool | None) -> None:
    redis = Readings()
    for at in range(0, 600, 5):
        told = redis.read(at, {"a": 0.0, "b": 1.0}, writable=writable)
        assert (told.proved_seconds, told.ghosts) == (0.0, ())


def test_without_the_right_to_write_another_beat_that_moves_is_the_proof() -> None:
    redis = Readings()
    for at in range(0, 85, 5):
        assert redis.read(at, {"old": 0.0, "new": at - at % 10}, writable=None).ghosts == ()
    told = redis.read(110.0, {"old": 0.0, "new": 110.0}, writable=None)
    for at in range(115, 140, 5):
        told = redis.read(at, {"old": 0.0, "new": at - at % 10}, writable=None)
    assert hosts(told.ghosts) == ["old"]


def test_a_beat_that_goes_back_after_a_failover_proves_no_write() -> None:
    redis = Readings()
    redis.read(0.0, {"a": 0.0}, writable=None)
    redis.read(5.0, {"a": 4.0}, writable=None)
    assert redis.read(10.0, {"a": 1.0}, writable=None).proved_seconds == 0.0


def test_time_in_which_nobody_read_does_not_count() -> None:
    redis = Readings()
    for at in range(0, 1000, 100):
        assert redis.read(at, {"old": 0.0}).ghosts == ()


def test_an_unreadable_heartbeat_does_not_start_the_count_anew() -> None:
    redis = Readings()
    for at in range(0, 90, 5):
        redis.read(at, {"old": 0.0})
    redis.read(88.0, {}, complete=False)
    assert hosts(redis.read(93.0, {"old": 0.0}).ghosts) == ["old"]


@given(st.lists(st.tuples(st.floats(0.5, 40.0), st.sampled_from([True, False, None]), st.booleans()), max_size=60))
def test_a_ghost_has_stood_still_for_90_s_of_proof(steps: list[tuple[float, bool | None, bool]]) -> None:
    redis, at, beat, still = Readings(), 0.0, 0.0, 0.0
    redis.read(at, {"a": beat})
    for gap, writable, moves in steps:
        at += gap
        beat, still = (at - 0.1, 0.0) if moves else (beat, still + gap)
        told = redis.read(at, {"a": beat}, writable=writable)
        assert not told.ghosts or still >= GHOST_SECONDS - 1e-6
        assert len(told.live) + len(told.ghosts) == 1


@pytest.mark.parametrize("stepped", [3600.0, -3600.0], ids=["ahead", "back"])
def test_a_step_of_redis_s_clock_is_known_from_the_next_beat_and_not_guessed_before(stepped: float) -> None:
    redis = Readings()
    for at in range(0, 60, 5):
        redis.read(at, {"a": at - at % 10})
    for at in (60, 65):
        assert redis.read(at, {"a": 60.0}, stepped=stepped).live[0].clock_ahead_seconds == 0.0
    (process_,) = redis.read(70.0, {"a": 70.0}, stepped=stepped).live
    assert -stepped <= process_.clock_ahead_seconds <= -stepped + 5.0
    assert 0.0 <= process_.beat_age_seconds <= 5.0


def test_a_beat_that_was_unread_for_a_while_says_nothing_of_its_clock() -> None:
    redis = Readings()
    for at in range(0, 115, 5):
        redis.read(at, {"a": at - at % 10})
    for unread_at in (115.0, 120.0, 140.0):
        redis.read(unread_at, {}, complete=False)
    told = redis.read(145.0, {"a": 115.1})
    assert told.live[0].clock_ahead_seconds == 0.0
