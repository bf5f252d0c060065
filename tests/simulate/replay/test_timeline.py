"""A recording on one timeline: where it starts, and which samples are used."""

from __future__ import annotations

from msgspec import structs

from fleetd.simulate.replay.timeline import apart_seconds, from_calm
from tests.support.builders.recordings import recorded
from tests.support.builders.traces import queue_toml, small_trace


def test_a_recording_starts_where_nothing_waits_or_reports_that() -> None:
    body = queue_toml("push", "[[0, 2]]", 0.6, bursts="[[600, 20000]]")
    history, _ = recorded(small_trace(body, seconds=1800))
    inside = next(s.at_seconds for s in history.samples if (s.queues or {})["push"].latency_milliseconds > 60_000)
    found, notes = from_calm(history, inside)
    assert found.samples[0].at_seconds < inside
    assert (found.samples[0].queues or {})["push"].latency_milliseconds <= 5000
    assert "earlier than asked" in notes[0]
    cut = structs.replace(history, samples=tuple(s for s in history.samples if s.at_seconds >= inside))
    found, notes = from_calm(cut, inside)
    assert found.samples == cut.samples
    assert "begins inside a backlog" in notes[0]
    assert from_calm(history, history.samples[0].at_seconds)[1] == ()


def test_a_week_uses_fewer_samples() -> None:
    assert apart_seconds(86_400.0) == 0.0
    assert apart_seconds(2 * 86_400.0) == 10.0
    assert apart_seconds(14 * 86_400.0) == 30.0
