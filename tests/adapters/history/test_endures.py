"""What the history endures: wrong clocks, floods of sentences, damaged pages, rows that make no sense."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleetd.adapters.history import file as history_file
from fleetd.adapters.history import retention as history_room
from fleetd.adapters.history import writer as history_sqlite
from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.core.model.history import Batch, PolicyChange
from tests.support.builders.history import entry, minute, sample
from tests.support.rig.history_file import MIB, opened, sentences, settle
from tests.support.world.ports import policy, strict


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def at() -> float:
    return time.time() - 3600.0


@pytest.mark.parametrize("jump_days", [40, -20_000])
def test_a_clock_that_is_wrong_for_a_while_costs_next_to_nothing(
    path: Path, at: float, monkeypatch: pytest.MonkeyPatch, jump_days: float
) -> None:
    history = opened(path)
    for n in range(100):
        history.append(minute(at - 6000 + 60 * n, f"minute {n}"))
        settle(history)
    real, wrong = time.time, time.time() + jump_days * 86_400
    monkeypatch.setattr(time, "time", lambda: wrong)
    for n in range(5):
        history.append(minute(wrong + 60 * n, "wrong"))
        settle(history)
    monkeypatch.setattr(time, "time", real)
    history.append(minute(at, "right again"))
    history.close()
    found = SqliteHistorySource(path).read(at - 7000, samples=True)
    left = [e.sentence for e in found.entries]
    assert left[-1] == "right again"
    kept = sum(sentence.startswith("minute") for sentence in left)
    each = history_room.AGED_FOR_EACH
    assert kept == (100 - 5 * each if jump_days > 0 else 100)
    assert sum(s.at_seconds < at for s in found.samples) >= 12 * kept


def test_a_shorter_time_takes_effect_little_by_little(path: Path, at: float) -> None:
    history = opened(path)
    for n in range(30):
        history.append(minute(at - 86_400 + n, "yesterday"))
    settle(history)
    history.keep(days=0.5, bytes_max=MIB)
    for n in range(8):
        history.append(minute(at + n, "today"))
        settle(history)
    history.close()
    assert set(sentences(path)) == {"today"}


def test_a_flood_of_sentences_costs_no_samples(path: Path, at: float) -> None:
    history = opened(path, mebibytes=1)
    for n in range(100):
        history.append(minute(at + 60 * n, "before"))
        settle(history)
    for n in range(80):
        flood = tuple(entry(at + 6000 + n, f"{n} {os.urandom(60).hex()}") for _ in range(100))
        history.append(Batch(entries=flood))
        settle(history)
        assert path.stat().st_size <= MIB
    history.close()
    found = SqliteHistorySource(path).read(0.0, samples=True)
    assert len(found.samples) == 1200
    assert found.entries[-1].sentence.startswith("79 ")
    assert 100 < len(found.entries) < 8000


def test_samples_leave_the_newest_sentences_their_share(path: Path, at: float) -> None:
    history = opened(path, mebibytes=1)
    for n in range(60):
        batch = Batch(samples=tuple(sample(at + n, jobs=n * i) for i in range(400)))
        history.append(batch)
        history.append(Batch(entries=(entry(at + n, f"{n}"),)))
        settle(history)
    history.close()
    assert sentences(path) == [f"{n}" for n in range(60)]


def test_policies_are_bounded_too(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_room, "POLICIES_MAX", 5)
    history = opened(path)
    for n in range(20):
        change = PolicyChange(at_seconds=at + n, policy=policy(strict(low=n % 3)))
        history.append(Batch(policies=(change,)))
        settle(history)
    history.close()
    found = SqliteHistorySource(path).read(0.0, samples=False).policies
    assert 5 <= len(found) <= 7
    assert found[-1].at_seconds == at + 19


def damaged_in_the_middle(path: Path, at: float, table: str) -> None:
    """Ten hours in a file, and a page of the table (or index) that is nothing any more."""
    rows = []
    for n in range(600):
        rows += history_sqlite._rows(minute(at + 60 * n, f"minute {n} " + "of a usual length " * 4))
    history_file.store(path, rows, days=14, bytes_max=64 * MIB)
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 1",
            (table,),
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


@pytest.mark.parametrize("table", ["entries", "readings", "entries_at", "readings_ends"])
def test_a_damaged_page_costs_what_lies_on_it(path: Path, at: float, table: str) -> None:
    damaged_in_the_middle(path, at, table)
    source = SqliteHistorySource(path)
    found = source.read(0.0, samples=True)
    lost = found.unreadable_rows
    assert len(found.entries) == 600 - lost * (table == "entries")
    assert len(found.samples) == 12 * (600 - lost * (table == "readings"))
    assert (lost > 0) == (table in ("entries", "readings"))
    assert found.entries[-1].sentence.startswith("minute 599 ")
    late = source.read(at + 60 * 595, samples=True)
    assert (len(late.entries), len(late.samples), late.unreadable_rows) == (5, 60, 0)


def test_a_damaged_page_in_the_middle_is_found_at_a_start_and_daily(
    path: Path, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_in_the_middle(path, at, "readings")
    history = opened(path)
    with capture_logs() as said:
        history.append(minute(at, "after"))
        settle(history)
        history.append(minute(at + 60, "later"))
        settle(history)
        assert sentences(path) == ["after", "later"]
        assert len(said) == 1
        aside = path.with_name("history.sqlite.damaged")
        assert f"fleetctl history --file {aside}" in said[0]["event"]
        assert len(sentences(aside)) == 600
        aside.replace(path)
        history.append(minute(at + 86_400, "not looked at again so soon"))
        settle(history)
        assert not aside.exists()
        monkeypatch.setattr(history_sqlite, "CHECK_SECONDS", 0.0)
        history.append(minute(at + 86_460, "a day later"))
        history.close()
    assert sentences(path) == ["a day later"]


@pytest.mark.parametrize(
    "row",
    [
        ("entries", ("abc", "step", 0, "text for a time")),
        ("entries", (9e18, "step", 0, "beyond all calendars")),
        ("entries", (-1e18, "step", 0, "before them")),
        ("entries", (float("inf"), "step", 0, "never")),
        ("entries", (b"\0\1", "step", 0, "bytes for a time")),
        ("entries", (1e9, 7, 0, "no kind")),
        ("entries", (1e9, "step", 0, b"\xff\xfe")),
        ("readings", ("x", 1e9, b"")),
        ("readings", (1e9, 9e18, b"")),
        ("readings", (1e9, 1e9, "text")),
        ("readings", (1e9, 1e9, b"nonsense")),
        ("policies", ("x", b"nonsense")),
        ("policies", (1e9, "text")),
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_and_counted(
    path: Path, at: float, row: tuple[str, tuple[object, ...]]
) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    history.close()
    with sqlite3.connect(path) as connection:
        connection.execute(history_file._INSERTS[row[0]], row[1])
    connection.close()
    found = SqliteHistorySource(path).read(-1e19, samples=True)
    assert found.unreadable_rows == 1
    assert [e.sentence for e in found.entries] == ["one"]
    assert len(found.samples) == 12
    history = opened(path)
    history.append(minute(at + 60, "two"))
    history.close()
    assert history.problem == ""
    assert sentences(path)[-1] == "two", "it stops no writer either"
