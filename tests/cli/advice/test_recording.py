"""A recording made readable: repeats are merged, and times without a record are found."""

from __future__ import annotations

from fleetd.cli.advice.recording import gaps_of, repeats_merged
from fleetd.core.model.history import Recording, TimeSpan
from tests.support.builders.history import entry


def spans(*from_to: tuple[float, float]) -> tuple[TimeSpan, ...]:
    return tuple(TimeSpan(from_seconds=a, to_seconds=b) for a, b in from_to)


def times(gaps: list[TimeSpan]) -> list[tuple[float, float]]:
    return [(gap.from_seconds, gap.to_seconds) for gap in gaps]


def test_identical_sentences_in_short_succession_are_one_line() -> None:
    flapping = [entry(60.0 * i, f"local 1/12 ({'pace' if i % 2 else 'max'})", "reason") for i in range(10)]
    lines = repeats_merged(tuple(flapping))
    assert [(line.count, line.last_seconds) for line in lines] == [(5, 480.0), (5, 540.0)]


def test_a_sentence_with_another_number_or_much_later_is_a_separate_line() -> None:
    versions = (entry(0.0, "fleetd 0.1.0 starts", "daemon"), entry(60.0, "fleetd 0.2.0 starts", "daemon"))
    assert len(repeats_merged(versions)) == 2
    failed = [entry(60.0 * i, f"start mastodon-sidekiq@{i + 1}.service: x — failed: y", warning=True) for i in range(3)]
    assert len(repeats_merged(tuple(failed))) == 3
    assert len(repeats_merged((entry(0.0, "a", "reason"), entry(7200.0, "a", "reason")))) == 2
    assert len(repeats_merged((entry(0.0, "a", "reason"), entry(1.0, "a", "reason", warning=True)))) == 2


def test_gaps_are_between_watched_times_and_up_to_now() -> None:
    recording = Recording(watched_spans=spans((0.0, 100.0), (500.0, 900.0)), newest_seconds=900.0)
    assert times(gaps_of(recording, 0.0, 2000.0)) == [(100, 500), (900, 2000)]
    assert times(gaps_of(recording, 0.0, 950.0)) == [(100, 500)], "what is written comes a little late"
    assert gaps_of(Recording(), 0.0, 950.0) == []


def test_records_from_while_the_clock_was_ahead_hide_no_gap() -> None:
    watched = spans((0.0, 100.0), (4e6, 4e6 + 60), (160.0, 220.0), (500, 900))
    found = gaps_of(Recording(watched_spans=watched, newest_seconds=4e6 + 60), 0.0, 950.0)
    assert times(found) == [(100, 160), (220, 500)]
