"""The screen of `fleetctl history`."""

from __future__ import annotations

import pytest

from fleetd.cli.screens.history import history_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import UNICODE
from fleetd.core.model.history import Entry, Recording, TimeSpan
from tests.support.builders.history import entry

WATCHED = (TimeSpan(from_seconds=0.0, to_seconds=10_000.0),)


def drawn(*entries: Entry, width: int = 80, everything: bool = False) -> list[str]:
    """The lines of a screen, for a time that fleetd recorded without a gap."""
    recording = Recording(entries=entries, watched_spans=WATCHED, newest_seconds=10_000.0)
    lines = history_screen(recording, 0.0, 10_000.0, Page(width, UNICODE), everything=everything)
    return [line.plain for line in lines]


def test_a_repeat_shows_how_often_and_when_it_was_last() -> None:
    again = [entry(60.0 * i, "local 1/12 (max)", "reason") for i in range(5)]
    said = "\n".join(drawn(*again, everything=True))
    assert "(5 times, last" in said
    assert said.count("local 1/12") == 1


def test_only_equal_events_share_a_line() -> None:
    """Two starts of 0.1.0 and one of 0.2.0 are no three starts of either; 2 of 1 is not 1 of 2."""
    starts = ("fleetd 0.1.0 started", "fleetd 0.1.0 started", "fleetd 0.2.0 started")
    counts = ("local 2/1, bulk 1/1", "local 1/1, bulk 2/1")
    entries = [entry(60.0 * i, said, "daemon") for i, said in enumerate(starts)]
    entries += [entry(300.0 + i, said, "reason", warning=True) for i, said in enumerate(counts)]
    lines = [line.partition(" ")[2].strip() for line in drawn(*entries)[1:]]
    assert [line.partition("  (")[0] for line in lines] == [
        "fleetd 0.1.0 started.",
        "fleetd 0.2.0 started.",
        "▲ local 2/1, bulk 1/1.",
        "▲ local 1/1, bulk 2/1.",
    ]
    assert ["times" in line for line in lines] == [True, False, False, False]


def test_what_was_done_stays_in_its_order() -> None:
    """0.1.0, 0.2.0, 0.1.0 again: merged over the line between, the last start would seem to be 0.2.0's."""
    starts = [entry(60.0 * i, f"fleetd 0.{n}.0 started", "daemon") for i, n in enumerate((1, 2, 1))]
    orders = [entry(600.0 + i, said, "order") for i, said in enumerate(("ordered: pause", "resumed", "ordered: pause"))]
    lines = drawn(*starts, *orders)[1:]
    assert len(lines) == 6
    assert not any("times" in line for line in lines)


def test_each_step_is_a_line_under_its_days_date() -> None:
    day, *lines = drawn(*[entry(100.0, f"start mastodon-sidekiq@{n}.service: more is needed") for n in (2, 3)])
    assert day.endswith("1970")
    assert [line.partition("» ")[2] for line in lines] == [
        "start mastodon-sidekiq@2.service: more is needed.",
        "start mastodon-sidekiq@3.service: more is needed.",
    ]


def test_reasons_without_a_step_are_counted_and_shown_on_request() -> None:
    entries = (
        entry(5.0, "queues within target; local 1/1 (min)", "reason"),
        entry(10.0, "local: 2 wanted, 1 runs: threads kept busy: push 30", "want"),
        entry(10.01, "start mastodon-sidekiq@2.service: local has 1 of 2 wanted"),
        entry(10.02, "queues within target; local 1/2 (pace)", "reason"),
        entry(15.0, "queues within target; local 2/2 (hold_window)", "reason"),
        entry(20.0, "redis can't be read", "reading", warning=True),
    )
    said = "\n".join(drawn(*entries))
    assert "(min)" not in said
    assert "(hold_window)" not in said
    for shown in ("2 wanted, 1 runs", "@2.service", "(pace)", "redis can't", "Left out: 2 reasons", "--all"):
        assert shown in said
    everything = "\n".join(drawn(*entries, everything=True))
    assert "(min)" in everything
    assert "(hold_window)" in everything
    assert "--all" not in everything


def test_a_time_without_events_is_told_apart_from_a_time_without_records() -> None:
    assert "Nothing happened in the last 2.8 h: fleetd ran, and changed nothing." in " ".join(drawn())
    nobody = history_screen(Recording(), 0.0, 100.0, Page(80, UNICODE))
    assert [line.plain for line in nobody] == ["Nothing has been recorded yet."]


def test_rows_that_cannot_be_read_are_counted() -> None:
    recording = Recording(watched_spans=WATCHED, newest_seconds=10_000.0, unreadable_rows=3)
    lines = history_screen(recording, 0.0, 10_000.0, Page(200, UNICODE))
    assert "3 rows of the history can't be read: the file is damaged" in lines[-1].plain


def test_foreign_text_cannot_control_the_terminal() -> None:
    lines = drawn(entry(1.0, "paused: \x1b[2J\u202egnp", "order"))
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    assert "◆" in "".join(lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    lines = drawn(*[entry(i, "word " * 60, "noticed", warning=True) for i in range(3)], width=width)
    assert max(map(len, lines)) <= width
    assert "\n".join(lines).count("word") == 60
