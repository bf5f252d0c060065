"""The history in SQLite: the contract, bounds, and everything that may be wrong with the file while fleetd runs."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fleetd.adapters import history_file, history_sqlite
from fleetd.adapters.history_reader import SqliteHistorySource
from fleetd.adapters.history_schema import packed_samples, unpacked_samples
from fleetd.adapters.history_sqlite import SqliteHistory
from fleetd.core.history import Batch
from fleetd.errors import SourceUnavailableError
from fleetd.ports import History
from tests.adapters.contracts_history import HistoryCheck, history_contract
from tests.fake_history import FakeHistory
from tests.histories import entry, minute, sample

MIB = 1024 * 1024


class SqliteStage:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = time.time() - 7200.0
        self.path = path
        self._monkeypatch = monkeypatch

    def open(self) -> SqliteHistory:
        return SqliteHistory(self.path, days=1, bytes_max=MIB)

    @property
    def source(self) -> SqliteHistorySource:
        return SqliteHistorySource(self.path)

    def settle(self, history: History) -> None:
        assert isinstance(history, SqliteHistory)
        settle(history)

    def fill_disk(self) -> None:
        def full(*_: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        self._monkeypatch.setattr(history_file, "_insert", full)

    def free_disk(self) -> None:
        self._monkeypatch.undo()


class FakeStage:
    def __init__(self) -> None:
        self.at = 1_000_000.0
        self.history = FakeHistory()

    def open(self) -> FakeHistory:
        self.history.closed = False
        return self.history

    @property
    def source(self) -> FakeHistory:
        return self.history

    def settle(self, history: History) -> None: ...

    def fill_disk(self) -> None:
        self.history.full = True

    def free_disk(self) -> None:
        self.history.full = False


def settle(history: SqliteHistory) -> None:
    """The thread has taken everything, and is done with it."""
    end = time.monotonic() + 90.0
    while time.monotonic() < end:
        if history._batches.empty() and history._idle.is_set():
            return
        time.sleep(0.005)
    raise AssertionError("the history's thread hangs")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def at() -> float:
    return time.time() - 3600.0


@pytest.mark.parametrize("check", history_contract, ids=lambda check: check.__name__)
def test_contract(check: HistoryCheck, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(SqliteStage(path, monkeypatch))


@pytest.mark.parametrize("check", history_contract, ids=lambda check: check.__name__)
def test_the_fake_keeps_the_contract(check: HistoryCheck) -> None:
    check(FakeStage())


def opened(path: Path, *, days: float = 14, mebibytes: int = 64) -> SqliteHistory:
    return SqliteHistory(path, days=days, bytes_max=mebibytes * MIB)


def sentences(path: Path, since: float = 0.0) -> list[str]:
    return [e.sentence for e in SqliteHistorySource(path).read(since, samples=False).entries]


def test_everyone_may_read_it_and_a_person_with_sqlite3_too(path: Path, at: float) -> None:
    before = os.umask(0o027)
    try:
        history = opened(path)
        history.append(minute(at, "start mastodon-sidekiq@3.service: default needs 30 threads"))
        history.close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT kind, sentence FROM entries").fetchall()
    connection.close()
    assert rows == [("step", "start mastodon-sidekiq@3.service: default needs 30 threads")]


def test_a_fortnight_fits_several_times(path: Path, at: float) -> None:
    history = opened(path)
    for n in range(60):
        history.append(minute(at + 60 * n, "an entry of usual length, a step or a reason, twice an hour" * 2))
        settle(history)
    history.close()
    assert path.stat().st_size / 60 * 1440 * 14 < 48 * MIB


def test_what_is_too_old_goes(path: Path, at: float) -> None:
    history = opened(path, days=0.5)
    history.append(minute(at - 86_400.0, "yesterday"))
    history.append(minute(at, "today"))
    history.append(minute(at + 60, "now"))
    history.close()
    assert sentences(path) == ["today", "now"]


def test_it_never_grows_beyond_its_size_and_keeps_the_newest(path: Path, at: float) -> None:
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


def test_no_days_keep_nothing(path: Path, at: float) -> None:
    history = opened(path, days=0)
    history.append(minute(at, "one"))
    history.close()
    assert not path.exists()


def test_secrets_are_taken_out(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "redis can't be read: redis://u:hunter2@10.0.0.1 refuses", "password=hunter2"))
    history.close()
    assert b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize("damage", ["garbage", "half", "pages", "no table", "foreign"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(path: Path, at: float, damage: str) -> None:
    history = opened(path)
    for n in range(30):
        history.append(minute(at + 60 * n, "before"))
    settle(history)
    if damage == "garbage":
        path.write_bytes(os.urandom(10_000))
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "pages":
        content = path.read_bytes()
        path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    else:
        if damage == "foreign":
            path.unlink()
        with sqlite3.connect(path) as connection:
            drop = "CREATE TABLE mine (x)" if damage == "foreign" else "DROP TABLE entries"
            connection.execute(drop)
        connection.close()
    with capture_logs() as said:
        history.append(minute(at + 3600, "after"))
        settle(history)
        history.append(minute(at + 3660, "later"))
        settle(history)
    history.close()
    assert len(said) == 1, "said once"
    assert "a new history has begun" in said[0]["event"]
    assert "a new history has begun" in history.problem, "and shown for a while"
    assert sentences(path)[-2:] == ["after", "later"]
    aside = [p.name for p in path.parent.iterdir() if p != path and not p.name.endswith("-journal")]
    assert aside in (["history.sqlite.damaged"], ["history.sqlite.other"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(where=st.floats(0, 1), length=st.integers(1, 5000), seed=st.randoms())
def test_no_damage_makes_it_fail(tmp_path: Path, where: float, length: int, seed: object) -> None:
    path, now = tmp_path / "history.sqlite", time.time() - 60
    path.unlink(missing_ok=True)
    history = opened(path)
    history.append(minute(now, "before"))
    settle(history)
    content = bytearray(path.read_bytes())
    begin = int(where * (len(content) - 1))
    content[begin : begin + length] = seed.randbytes(len(content[begin : begin + length]))  # type: ignore[attr-defined]
    path.write_bytes(content)
    with capture_logs():
        for _ in range(2):
            history.append(Batch(entries=(entry(now, "after"),)))
            settle(history)
        history.close()
    with suppress(SourceUnavailableError):
        SqliteHistorySource(path).read(0.0, samples=True)


def test_a_newer_ones_file_is_put_aside_and_an_older_reader_says_so(path: Path, at: float) -> None:
    first = opened(path)
    first.append(minute(at, "newer"))
    first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SourceUnavailableError, match="another version of fleetd"):
        sentences(path)
    history = opened(path)
    history.append(minute(at + 60, "ours"))
    history.close()
    assert sentences(path) == ["ours"]
    assert path.with_name("history.sqlite.other").exists()


def test_a_person_who_holds_a_lock_delays_it_and_loses_nothing(
    path: Path, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_file, "BUSY_SECONDS", 0.1)
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    person = sqlite3.connect(path, isolation_level=None)
    person.execute("BEGIN EXCLUSIVE")
    with capture_logs() as said:
        for n in range(3):
            history.append(minute(at + 60 * n, "two"))
            settle(history)
    assert "somebody holds" in history.problem
    assert len(said) == 1
    person.close()
    with capture_logs() as said:
        history.append(minute(at + 600, "three"))
        settle(history)
    assert [line["event"] for line in said] == ["the history is kept again"]
    history.close()
    assert sentences(path) == ["one", "two", "two", "two", "three"]


def test_a_reader_in_the_middle_waits_for_nobody(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    person = sqlite3.connect(path, isolation_level=None)
    person.execute("BEGIN")
    person.execute("SELECT * FROM entries").fetchone()
    assert sentences(path) == ["one"]
    person.close()
    history.close()


def test_what_waits_is_bounded(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_sqlite, "WAITING_ROWS_MAX", 10)
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


def test_a_disk_that_hangs_stops_nothing(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    thaw = threading.Event()

    def hang(*_: object, **__: object) -> str:
        thaw.wait(90)
        return ""

    monkeypatch.setattr(history_file, "store", hang)
    monkeypatch.setattr(history_sqlite, "CLOSE_SECONDS_MAX", 0.1)
    history = opened(path)
    begun = time.monotonic()
    with capture_logs() as said:
        for n in range(3 * history_sqlite.QUEUE_MAX):
            history.append(minute(at + n))
        history.close()
    assert time.monotonic() - begun < 60.0, "it was not waited for"
    assert "does not answer" in history.problem
    assert len(said) == 1
    thaw.set()


def test_a_host_without_room_for_a_thread_stops_nothing(
    path: Path, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    history = opened(path)
    with monkeypatch.context() as patched, capture_logs() as said:
        patched.setattr(threading.Thread, "start", refuse)
        for n in range(3):
            history.append(minute(at + n, "lost"))
    assert "can't start new thread" in history.problem
    assert len(said) == 1
    history.append(minute(at + 60, "kept"))
    history.close()
    assert history.problem == ""
    assert sentences(path) == ["kept"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link to nothing"])
def test_something_else_in_its_place_is_said(path: Path, at: float, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere/at/all")
    history = opened(path)
    with capture_logs():
        history.append(minute(at, "one"))
        settle(history)
    assert "it is no file" in history.problem
    history.close()
    with pytest.raises(SourceUnavailableError, match=r"is no file|There is no history"):
        sentences(path)


def test_a_file_that_was_removed_is_made_anew(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    path.unlink()
    history.append(minute(at, "two"))
    history.close()
    assert sentences(path) == ["two"]


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A place of somebody who is not root, as whom the test then runs."""
    with tempfile.TemporaryDirectory() as place:
        before = os.geteuid()
        if before == 0:
            os.chown(place, 65534, 65534)
            os.seteuid(65534)
        yield Path(place) / "history.sqlite"
        os.seteuid(before)


def test_read_only_and_unreadable(nobodys: Path, at: float) -> None:
    path = nobodys
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    path.chmod(0o444)
    with capture_logs() as said:
        history.append(minute(at, "two"))
        settle(history)
    assert "read-only" in history.problem
    assert len(said) == 1
    assert sentences(path) == ["one"], "reading goes on"
    path.chmod(0o000)
    with pytest.raises(SourceUnavailableError, match="use sudo"):
        sentences(path)
    path.chmod(0o644)
    history.append(minute(at, "three"))
    history.close()
    assert sentences(path) == ["one", "two", "three"]


def test_a_journal_that_a_killed_fleetd_left_does_not_keep_others_from_reading(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    history.close()
    # A hot journal: valid header, nobody holds the lock. Its content is nonsense, as after a power cut.
    path.with_name(path.name + "-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    path.parent.chmod(0o555)
    try:
        assert sentences(path) == ["one"]
    finally:
        path.parent.chmod(0o755)


def test_no_history_and_no_right_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="There is no history at"):
        sentences(tmp_path / "history.sqlite")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(SourceUnavailableError, match="is damaged or no history"):
        sentences(tmp_path / "text")


def test_a_damaged_row_is_passed_over_and_counted(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at))
    history.append(minute(at + 60))
    history.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE readings SET samples = x'00ff' WHERE id = 1")
    connection.close()
    found = SqliteHistorySource(path).read(0.0, samples=True)
    assert found.unreadable_rows == 1
    assert found.samples == minute(at + 60).samples


def test_a_bomb_does_not_unpack() -> None:
    import zlib

    with pytest.raises(ValueError):
        unpacked_samples(zlib.compress(bytes(500 * MIB)))
    assert unpacked_samples(packed_samples((sample(1.0),))) == (sample(1.0),)
