"""What a reconstruction is made of: long jobs, profiles that changed, a begin in a backlog, bursts in a calm day."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.model.history import PolicyChange
from fleetd.simulate.replay.reconstruct import reconstruct
from fleetd.simulate.replay.replay import Ages, queue_error
from fleetd.simulate.replay.timeline import apart_seconds, from_calm
from fleetd.simulate.trace.arrivals import arrivals
from tests.support.builders.recordings import recorded
from tests.support.builders.traces import queue, trace


def test_jobs_of_a_minute_are_as_many_as_they_were() -> None:
    body = queue("default", "[[0, 30], [1800, 60], [3600, 30]]", 0.15) + queue(
        "pull", "[[0, 0.2]]", 60.0, sigma=0.3, bursts="[[1000, 200]]"
    )
    history, truly = recorded(trace(body, seconds=3600))
    again = reconstruct(history, "again")
    jobs = {name: sum(arrivals(again.trace, name)) for name in again.trace.queues}
    assert jobs["pull"] == pytest.approx(truly.queues["pull"].jobs, rel=0.2), (
        "a counter alone makes 15 times as many"
    )
    old = tuple(
        structs.replace(
            s, queues={n: structs.replace(q, young_threads=None) for n, q in (s.queues or {}).items()}
        )
        for s in history.samples
    )
    before = reconstruct(structs.replace(history, samples=old), "recorded before")
    assert before.jobs_sigma["pull"] > again.jobs_sigma["pull"]


def test_profiles_are_known_by_name_when_their_numbers_move() -> None:
    made = trace(queue("default", "[[0, 40]]", 0.2), seconds=1200)
    history, _ = recorded(made)
    (profile,) = history.policies[-1].policy.profiles
    moved = structs.replace(profile, numbers=tuple(range(21, 27)))
    renamed = structs.replace(profile, name="other", numbers=tuple(range(21, 27)))
    for now, kept in ((moved, True), (renamed, False)):
        policy = structs.replace(history.policies[-1].policy, profiles=(now,))
        late = history.samples[-30:]
        number = now.numbers[0]
        samples = history.samples[:-30] + tuple(
            structs.replace(
                s,
                instances=tuple(
                    structs.replace(i, number=number + k, profile=now.name)
                    for k, i in enumerate(s.instances or ())
                ),
            )
            for s in late
        )
        change = PolicyChange(at_seconds=late[0].at_seconds, policy=policy)
        again = reconstruct(
            structs.replace(history, samples=samples, policies=(*history.policies, change)), "again"
        )
        assert not again.one_policy
        assert any("profiles that are no more" in note for note in again.notes) is not kept
        assert again.trace.duration_seconds == pytest.approx(1195 if kept else 145, abs=6)
        assert max(count for _, count in again.sizes[now.name]) >= 1


def test_a_recording_begins_where_nothing_waits_or_says_so() -> None:
    body = queue("push", "[[0, 2]]", 0.6, bursts="[[600, 20000]]")
    history, _ = recorded(trace(body, seconds=1800))
    inside = next(
        s.at_seconds for s in history.samples if (s.queues or {})["push"].latency_milliseconds > 60_000
    )
    found, notes = from_calm(history, inside)
    assert found.samples[0].at_seconds < inside
    assert (found.samples[0].queues or {})["push"].latency_milliseconds <= 5000
    assert "earlier than asked" in notes[0]
    cut = structs.replace(history, samples=tuple(s for s in history.samples if s.at_seconds >= inside))
    found, notes = from_calm(cut, inside)
    assert found.samples == cut.samples
    assert "begins inside a backlog" in notes[0]
    assert from_calm(history, history.samples[0].at_seconds)[1] == ()


def test_of_a_week_fewer_samples_are_taken() -> None:
    assert apart_seconds(86_400.0) == 0.0
    assert apart_seconds(2 * 86_400.0) == 10.0
    assert apart_seconds(14 * 86_400.0) == 30.0


def test_short_bursts_are_not_hidden_by_the_calm_of_the_day() -> None:
    calm, late = Ages(30.0), Ages(30.0)
    for second in range(86_400):
        calm.add(0.0, 1.0)
        late.add(59.0 if 5000 <= second < 5400 else 0.0, 1.0)
    error = queue_error(late.waits(), calm.waits(), 0.05)
    assert error.recorded.p95_seconds == 59.0
    assert error.recorded.late_seconds == 400.0
    assert set(error.doubts) == {"p95", "longest", "late"}
