"""Everything that can be wrong with the history file while fleetd runs or somebody reads it."""

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

from fleetd.adapters.history import file as history_file
from fleetd.adapters.history import writer
from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.core.model.history import Batch
from fleetd.errors import SourceUnavailableError
from tests.support.builders.history import entry, minute
from tests.support.fleetctl import fleetctl
from tests.support.rig.history_file import MIB, opened, sentences, settle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def at() -> float:
    return time.time() - 3600.0


def test_everyone_may_read_it_also_with_sqlite3(path: Path, at: float) -> None:
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


def test_secrets_are_taken_out(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "redis can't be read: redis://u:hunter2@10.0.0.1 refuses", "password=hunter2"))
    history.close()
    assert b"hunter2" not in path.read_bytes()


@pytest.mark.parametrize("damage", ["garbage", "half", "pages", "no table", "foreign"])
def test_a_damaged_file_is_moved_aside_and_a_new_one_is_begun(path: Path, at: float, damage: str) -> None:
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
    assert history.problem == said[0]["event"], "shown for a while"
    assert sentences(path) == [said[0]["event"], "after", "later"], "and kept where the others are"
    aside = [p.name for p in path.parent.iterdir() if p != path and not p.name.endswith("-journal")]
    assert aside in (["history.sqlite.damaged"], ["history.sqlite.other"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(where=st.floats(0, 1), length=st.integers(1, 5000), seed=st.randoms())
def test_no_damage_raises_an_error(tmp_path: Path, where: float, length: int, seed: object) -> None:
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


@pytest.fixture
def damaged_in_the_middle(path: Path, at: float) -> Path:
    """A file of ten hours in which a page of the samples is destroyed."""
    rows = []
    for n in range(600):
        rows += writer._rows(minute(at + 60 * n, f"minute {n} " + "of a usual length " * 4))
    history_file.store(path, rows, days=14, bytes_max=64 * MIB)
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'readings' AND pagetype = 'leaf' LIMIT 1 OFFSET 1"
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    return path


def test_a_reader_of_a_damaged_file_is_told_what_to_do(damaged_in_the_middle: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"is damaged .* sqlite3 .*/history\.sqlite \.dump"):
        SqliteHistorySource(damaged_in_the_middle).read(0.0, samples=True)
    connection = sqlite3.connect(damaged_in_the_middle)
    assert connection.execute("SELECT count(sentence) FROM entries").fetchone() == (600,), "as .dump does it"
    connection.close()


def test_damage_that_no_write_touches_is_found_at_start_and_daily(
    damaged_in_the_middle: Path, at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = damaged_in_the_middle
    history = opened(path)
    with capture_logs() as said:
        history.append(minute(at, "after"))
        settle(history)
        history.append(minute(at + 60, "later"))
        settle(history)
        assert sentences(path)[1:] == ["after", "later"]
        assert len(said) == 1
        aside = path.with_name("history.sqlite.damaged")
        assert aside.exists()
        aside.replace(path)
        history.append(minute(at + 86_400, "not looked at again so soon"))
        settle(history)
        assert not aside.exists()
        monkeypatch.setattr(writer, "CHECK_SECONDS", 0.0)
        history.append(minute(at + 86_460, "a day later"))
        history.close()
    assert sentences(path)[1:] == ["a day later"]


def test_another_versions_file_is_moved_aside_and_its_reader_is_informed(path: Path, at: float) -> None:
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
    assert sentences(path)[1:] == ["ours"]
    assert path.with_name("history.sqlite.other").exists()


def test_a_lock_held_by_a_person_delays_writes_and_loses_nothing(
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


def test_a_reader_does_not_wait_for_the_writer(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    person = sqlite3.connect(path, isolation_level=None)
    person.execute("BEGIN")
    person.execute("SELECT * FROM entries").fetchone()
    assert sentences(path) == ["one"]
    person.close()
    history.close()


def test_a_disk_that_hangs_does_not_stop_fleetd(path: Path, at: float, monkeypatch: pytest.MonkeyPatch) -> None:
    thaw = threading.Event()

    def hang(*_: object, **__: object) -> None:
        thaw.wait(90)

    monkeypatch.setattr(writer, "store", hang)
    monkeypatch.setattr(writer, "CLOSE_SECONDS_MAX", 0.1)
    history = opened(path)
    begun = time.monotonic()
    with capture_logs() as said:
        for n in range(3 * writer.QUEUE_MAX):
            history.append(minute(at + n))
        history.close()
    assert time.monotonic() - begun < 60.0, "it was not waited for"
    assert "does not answer" in history.problem
    assert len(said) == 1
    thaw.set()


def test_a_host_that_can_start_no_thread_does_not_stop_fleetd(
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
def test_something_else_in_its_place_is_reported(path: Path, at: float, kind: str) -> None:
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


def test_a_file_that_was_removed_is_created_again(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    settle(history)
    path.unlink()
    history.append(minute(at, "two"))
    history.close()
    assert sentences(path) == ["two"]


@pytest.fixture
def somebodys_path() -> Iterator[Path]:
    """A directory of a user other than root. The test then runs as that user."""
    with tempfile.TemporaryDirectory() as place:
        before = os.geteuid()
        if before == 0:
            os.chown(place, 65534, 65534)
            os.seteuid(65534)
        yield Path(place) / "history.sqlite"
        os.seteuid(before)


def test_a_read_only_or_unreadable_file_is_reported(somebodys_path: Path, at: float) -> None:
    path = somebodys_path
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


def test_the_journal_of_a_killed_fleetd_does_not_prevent_reading(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    history.close()
    # A hot journal: its header is valid and nobody holds the lock. The content is nonsense, as after a power cut.
    path.with_name(path.name + "-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    path.parent.chmod(0o555)
    try:
        assert sentences(path) == ["one"]
    finally:
        path.parent.chmod(0o755)


def test_missing_history_and_missing_rights_give_sentences(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="There is no history at"):
        sentences(tmp_path / "history.sqlite")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(SourceUnavailableError, match="is damaged or no history"):
        sentences(tmp_path / "text")


@pytest.mark.parametrize("when", ["1e300", "-1e300", "9e999", "'soon'", "x'00'", "300000000000"])
def test_rows_whose_time_cannot_be_are_left_out_and_counted(path: Path, at: float, when: str) -> None:
    """A date of them would raise, so fleetctl could show none of the others."""
    history = opened(path)
    history.append(minute(at, "one"))
    history.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT INTO entries (at, kind, warning, sentence) VALUES ({when}, 'step', 0, 'never')")
        connection.execute(f"INSERT INTO policies (at, policy) VALUES ({when}, x'00ff')")
        connection.execute(f"INSERT INTO readings (begins, ends, samples) VALUES ({when}, {when}, x'00ff')")
    connection.close()
    found = SqliteHistorySource(path).read(0.0, samples=True)
    assert [e.sentence for e in found.entries] == ["one"]
    assert found.samples == minute(at).samples
    assert found.newest_seconds is not None
    assert found.newest_seconds < at + 100
    assert found.unreadable_rows == (0 if when.startswith("-") else 3)
    shown = fleetctl("history", "--file", str(path), "--since", "2h")
    assert (shown.exit_code, "one" in shown.stdout) == (0, True)


def test_rows_that_cannot_be_decoded_are_left_out_and_counted(path: Path, at: float) -> None:
    history = opened(path)
    history.append(minute(at))
    history.append(minute(at + 60, "one"))
    history.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE readings SET samples = x'00ff' WHERE id = 1")
        connection.execute("INSERT INTO policies (at, policy) VALUES (?, x'00ff')", (at,))
        connection.execute("UPDATE entries SET sentence = CAST(x'ff6f6e65' AS TEXT)")
    connection.close()
    found = SqliteHistorySource(path).read(0.0, samples=True)
    assert found.unreadable_rows == 2
    assert found.samples == minute(at + 60).samples
    assert [e.sentence for e in found.entries] == ["\ufffdone"]


@pytest.mark.parametrize(
    ("table", "column"), [("entries", "sentence"), ("entries", "kind"), ("policies", "policy"), ("readings", "samples")]
)
@pytest.mark.parametrize("value", ["'text'", "x'00'", "5"])
def test_rows_of_another_type_are_left_out_and_counted(
    path: Path, at: float, table: str, column: str, value: str
) -> None:
    history = opened(path)
    history.append(minute(at, "one"))
    history.close()
    rows = {
        "entries": {"at": str(at), "kind": "'step'", "warning": "0", "sentence": "'two'"},
        "policies": {"at": str(at), "policy": "x'00'"},
        "readings": {"begins": str(at), "ends": str(at), "samples": "x'00'"},
    }
    row = rows[table] | {column: value}
    with sqlite3.connect(path) as connection:
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")
    connection.close()
    found = SqliteHistorySource(path).read(0.0, samples=True)
    understood = (column, value) == ("sentence", "'text'") or (column, value) == ("sentence", "5")
    assert found.unreadable_rows == (0 if understood else 1)
    assert "one" in [e.sentence for e in found.entries]
    shown = fleetctl("history", "--file", str(path), "--since", "2h")
    assert (shown.exit_code, "one" in shown.stdout) == (0, True)
