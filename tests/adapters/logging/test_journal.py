"""Log lines as they arrive at a journal's socket, on a terminal and on a pipe, and what must never arrive."""

from __future__ import annotations

import io
import logging
import os
import pty
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from fleetd.adapters.logging import journal
from fleetd.adapters.logging.journal import configure, finished, level, set_level
from fleetd.adapters.logging.outputs import (
    FIELDS_MAX,
    MESSAGE_BYTES_MAX,
    Journal,
    Prefixed,
    Terminal,
    output_for,
)

log = structlog.get_logger("fleetd.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before, root_level, output = list(root.handlers), root.level, journal._State.output
    yield
    root.handlers[:] = before
    root.setLevel(root_level)
    logging.captureWarnings(capture=False)
    journal._State.output = output
    journal._State.priority_max = 6
    structlog.reset_defaults()


class Journald:
    """The receiving end of the native protocol."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(60)

    def entry(self) -> dict[str, str]:
        return parsed(self.socket.recv(1 << 20))

    def waiting(self) -> bool:
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(60)


def parsed(data: bytes) -> dict[str, str]:
    """Parses systemd's Native Journal Protocol, following its specification."""
    fields: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            data = rest
        else:
            name = line
            (size,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + size], rest[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    made = Journald(tmp_path / "socket")
    yield made
    made.socket.close()


@pytest.fixture
def to_journal(journald: Journald) -> Iterator[Journald]:
    configure()
    output = Journal(journald.path)
    journal._State.output = output
    yield journald
    output._socket.close()


def test_fields_in_the_journal(to_journal: Journald) -> None:
    log.warning("redis can't be read", source="redis", age_seconds=3.5)
    assert to_journal.entry() == {
        "MESSAGE": "redis can't be read",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "fleetd",
        "FLEETD_SOURCE": "redis",
        "FLEETD_AGE_SECONDS": "3.5",
        "FLEETD_LOGGER": "fleetd.test",
    }


@pytest.mark.parametrize(
    ("method", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_priorities(to_journal: Journald, method: str, priority: str) -> None:
    set_level("debug")
    getattr(log, method)("a sentence")
    assert to_journal.entry()["PRIORITY"] == priority


def test_an_exception_keeps_its_line_breaks(to_journal: Journald) -> None:
    error = RuntimeError("broken: postgresql://u:hunter2@db/x")
    log.error("tick failed", exc_info=error)
    message = to_journal.entry()["MESSAGE"]
    assert message.startswith("tick failed\nRuntimeError: ")
    assert "hunter2" not in message


def test_a_queue_name_cannot_forge_fields_or_colours(to_journal: Journald) -> None:
    log.info("queue a\nPRIORITY=0\x1b[31m", **{"x\ny": "1\nMESSAGE=forged", "_PID": "1", "é=": "2"})
    entry = to_journal.entry()
    assert entry["MESSAGE"] == "queue a\\nPRIORITY=0\\x1b[31m"
    assert entry["PRIORITY"] == "6"
    assert all(name in {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"} or name.startswith("FLEETD_") for name in entry)


def test_nothing_invisible_is_in_a_line_nor_in_a_traceback(to_journal: Journald) -> None:
    name = "txt.\u202eexe\u2066\u200b\x9b\u2028"
    log.error(f"queue {name}", queue=name, exc_info=RuntimeError(name))
    entry = to_journal.entry()
    shown = r"txt.\u202eexe\u2066\u200b\x9b\u2028"
    assert entry["MESSAGE"] == f"queue {shown}\nRuntimeError: {shown}"
    assert entry["FLEETD_QUEUE"] == shown


def test_size_and_number_of_fields_are_bounded(to_journal: Journald) -> None:
    log.info("y" * 100_000, **{f"f{n}": "z" * 50_000 for n in range(200)})
    entry = to_journal.entry()
    assert len(entry) <= FIELDS_MAX + 1
    assert len(entry["MESSAGE"]) == MESSAGE_BYTES_MAX
    assert sum(map(len, entry.values())) < 200_000


def test_a_journal_that_hangs_is_not_waited_for(to_journal: Journald) -> None:
    for n in range(2000):
        log.info(f"line {n}")
    received = 0
    while to_journal.waiting():
        to_journal.entry()
        received += 1
    assert 0 < received < 2000
    log.info("after")
    entry = to_journal.entry()
    assert entry["MESSAGE"] == "after"
    assert int(entry["FLEETD_LINES_MISSING_BEFORE"]) == 2000 - received
    log.info("and on")
    assert "FLEETD_LINES_MISSING_BEFORE" not in to_journal.entry()


def test_a_journal_that_restarts_is_found_again(to_journal: Journald, tmp_path: Path) -> None:
    to_journal.socket.close()
    log.info("lost")
    (tmp_path / "socket").unlink()
    log.info("lost too")
    again = Journald(tmp_path / "socket")
    log.info("back")
    assert again.entry()["FLEETD_LINES_MISSING_BEFORE"] == "2"
    again.socket.close()


def test_lines_go_to_the_journal_the_terminal_or_the_pipe(journald: Journald, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        stat = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        to_journal = output_for(stream, ours, journald.path)
        assert isinstance(to_journal, Journal)
        to_journal._socket.close()
        assert isinstance(output_for(stream, ours, str(tmp_path / "no-socket")), Prefixed)
        # Inherited by a program whose stderr has been redirected since:
        assert isinstance(output_for(stream, {"JOURNAL_STREAM": "1:2"}, journald.path), Prefixed)
        assert isinstance(output_for(stream, {}, journald.path), Prefixed)
    assert isinstance(output_for(io.StringIO(), ours, journald.path), Prefixed)
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        assert isinstance(output_for(terminal, {}), Terminal)
    os.close(leader)


def test_prefixed_lines() -> None:
    stream = io.StringIO()
    configure(stream=stream, environ={})
    log.warning("postgres can't be read", source="postgres")
    try:
        int("x")
    except ValueError:
        log.exception("tick failed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "<4>postgres can't be read source=postgres"
    assert lines[1] == "<3>tick failed"
    assert lines[2] == "<3>Traceback (most recent call last):"
    assert all(line.startswith("<3>") for line in lines[2:])


def test_lines_on_a_terminal_are_made_for_reading() -> None:
    stream = io.StringIO()
    Terminal(stream, colours=False).write(finished({"event": "fleetd is up", "level": "info", "workers": 3}))
    shown = stream.getvalue()
    assert "fleetd is up" in shown
    assert "workers=3" in shown
    assert not set('{}\x1b"') & set(shown)
    coloured = io.StringIO()
    Terminal(coloured, colours=True).write(finished({"event": "e", "level": "error"}))
    assert "\x1b[" in coloured.getvalue()


@pytest.mark.parametrize("word", ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"])
def test_each_level_can_be_set(word: str) -> None:
    set_level(word)
    assert level() == word


def test_the_level_can_be_changed_at_run_time() -> None:
    stream = io.StringIO()
    configure("warning", stream=stream, environ={})
    log.info("one")
    set_level("info")
    log.info("two")
    log.debug("three")
    set_level("error")
    log.warning("four")
    assert stream.getvalue() == "<6>two\n"
    assert level() == "err"
    with pytest.raises(ValueError, match="no log level"):
        set_level("loud")
    assert level() == "err"


def test_log_lines_of_libraries_take_the_same_way() -> None:
    logging.getLogger().handlers.clear()  # pytest's own handler would fail on a library's wrong log call
    stream = io.StringIO()
    configure(stream=stream, environ={})
    logging.getLogger("redis.connection").warning("lost redis://:hunter2@main:6379/0\nand more")
    logging.getLogger("psycopg").info("connection attempt")
    logging.getLogger("asyncio").error("Task exception: %s", "x", exc_info=(ValueError, ValueError("y"), None))
    logging.getLogger("broken").warning("%d", "not a number")
    text = stream.getvalue()
    assert "<4>lost redis://[hidden]@main:6379/0\\nand more\n" in text
    assert "connection attempt" not in text
    assert "<3>ValueError: y" in text
    assert "broken: '%d'" in text
    configure(stream=io.StringIO(), environ={})
    ours = [h for h in logging.getLogger().handlers if type(h).__module__ == "fleetd.adapters.logging.journal"]
    assert len(ours) == 1, "configured twice, heard once"


def test_a_closed_stream_raises_no_error() -> None:
    stream = io.StringIO()
    configure(stream=stream, environ={})
    stream.close()
    log.error("nobody hears this")
