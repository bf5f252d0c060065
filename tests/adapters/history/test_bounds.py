"""What the history keeps and for how long: retention, size, wrong clocks, floods of sentences, a missing disk."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleetd.adapters.history import retention, writer
from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.adapters.history.schema import packed_samples, unpacked_samples
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


def test_two_weeks_fit_several_times(path: Path, at: float) -> None:
    history = opened(path)
    for n in range(60):
        history.append(minute(at + 60 * n, "an entry of usual length, a step or a reason, twice an hour" * 2))
        settle(history)
    history.close()
    assert path.stat().st_size / 60 * 1440 * 14 < 48 * MIB


def test_what_is_too_old_is_removed(path: Path, at: float) -> None:
    history = opened(path, days=0.5)
    history.append(minute(at - 86_400.0, "yesterday"))
    history.append(minute(at, "today"))
    history.append(minute(at + 60, "now"))
    history.close()
    assert sentences(path) == ["today", "now"]


def test_the_file_never_exceeds_its_size_and_keeps_the_newest(path: Path, at: float) -> None:
    history = opened(path, mebibytes=1)
    for n in range(40):
        batch = Batch(
            samples=tuple(sample(at + n, jobs=n * i) for i in range(100)),
            entries=tuple(entry(at + n, f"{n} {os.urandom(400).hex()}") for _ in range(100)),
        )
        history.append(batch)
        settle(history)
        assert history.problem == ""
        assert path.stat().st_size <= MIB
    history.close()
    left = sentences(path)
    assert left[-1].startswith("39 ")
    assert not any(sentence.startswith("0 ") for sentence in left)


def test_a_smaller_size_takes_effect(path: Path, at: float) -> None:
    history = opened(path, mebibytes=8)
    for n in range(20):
        history.append(Batch(entries=tuple(entry(at + n, os.urandom(450).hex()) for _ in range(200))))
        settle(history)
    assert path.stat().st_size > 3 * MIB
    history.keep(days=14, bytes_max=MIB)
    for n in range(6):
        history.append(Batch(entries=(entry(at + 100 + n, "more"),)))
        settle(history)
    history.close()
    assert path.stat().st_size <= MIB
    assert sentences(path)[-1] == "more"


def test_a_retention_of_0_days_keeps_nothing(path: Path, at: float) -> None:
    history = opened(path, days=0)
    history.append(minute(at, "one"))
    history.close()
    assert not path.exists()


@pytest.mark.parametrize("jump_days", [40, -20_000])
def test_a_clock_that_is_wrong_for_a_while_loses_little(
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
    each = retention.AGED_ROWS_PER_ROW
    assert kept == (100 - 5 * each if jump_days > 0 else 100)
    assert sum(s.at_seconds < at for s in found.samples) >= 12 * kept


def test_a_shorter_retention_takes_effect_gradually(path: Path, at: float) -> None:
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


def test_a_flood_of_sentences_does_not_push_out_samples(path: Path, at: float) -> None:
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


def test_policies_are_bounded(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "POLICIES_MAX", 5)
    history = opened(path)
    for n in range(20):
        change = PolicyChange(at_seconds=at + n, policy=policy(strict(low=n % 3)))
        history.append(Batch(policies=(change,)))
        settle(history)
    history.close()
    found = SqliteHistorySource(path).read(0.0, samples=False).policies
    assert 5 <= len(found) <= 7
    assert found[-1].at_seconds == at + 19


def test_what_waits_to_be_written_is_bounded(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING_ROWS_MAX", 10)
    (path.parent / "gone").mkdir()
    lost = opened(path.parent / "gone" / "history.sqlite")
    (path.parent / "gone").rmdir()
    with capture_logs() as said:
        for n in range(30):
            lost.append(Batch(entries=(entry(at + n, str(n)),)))
            settle(lost)
    assert len(lost._waiting) == 10
    assert len(said) == 1
    (path.parent / "gone").mkdir()
    lost.append(Batch(entries=(entry(at + 99, "99"),)))
    lost.close()
    assert sentences(path.parent / "gone" / "history.sqlite") == [*map(str, range(21, 30)), "99"]


def test_a_decompression_bomb_is_not_unpacked() -> None:
    with pytest.raises(ValueError):
        unpacked_samples(zlib.compress(bytes(500 * MIB)))
    assert unpacked_samples(packed_samples((sample(1.0),))) == (sample(1.0),)
