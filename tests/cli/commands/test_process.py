"""fleetctl as a process: closed pipes, Ctrl-C, a full disk, and which modules are loaded."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetd.adapters.history.writer import SqliteHistory
from fleetd.core.model.history import Batch
from tests.support.builders.history import entry
from tests.support.project import PROJECT

START = """
import sys
import msgspec
from fleetd import __version__
from tests.support.builders import status_examples
from fleetd.cli.main import main
from fleetd.cli.client import Client
answer = msgspec.structs.replace(status_examples.surge(), version=__version__)
client = Client(fetch=lambda seconds: msgspec.json.encode(answer).decode())
"""
DEADLINE_SECONDS = 90.0


def command(*arguments: str, after: str = "main(client)") -> list[str]:
    return [sys.executable, "-c", START + after, *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}", "PYTHONUTF8": "1", **more}


def test_a_reader_that_goes_away_and_a_full_disk_leave_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    for arguments in (["status"], ["status", "--json"], ["connections"], ["explain"]):
        for stdout in (write, os.open("/dev/full", os.O_WRONLY)):
            done = subprocess.run(
                command(*arguments),
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=environment(),
                timeout=DEADLINE_SECONDS,
                check=False,
            )
            assert done.returncode == 1
            assert b"Traceback" not in done.stderr
            assert b"Exception" not in done.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("status", b"X default"), ("connections", b"- 224 others"), ("explain", b"9->6")]
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_ascii(encoding: str, name: str, words: bytes) -> None:
    done = subprocess.run(
        command(name),
        capture_output=True,
        env=environment(PYTHONIOENCODING=encoding),
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    assert done.stdout.isascii()
    assert words in done.stdout
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["status", "connections", "explain", "history"])
def test_json_loads_no_terminal_library(name: str, tmp_path: Path) -> None:
    after = "\ntry: main(client)\nfinally: print('rich' in sys.modules, file=sys.stderr)"
    more = []
    if name == "history":
        writer = SqliteHistory(tmp_path / "history.sqlite", days=14, bytes_max=64 * 1024 * 1024)
        writer.append(Batch(entries=(entry(time.time() - 60.0, "a step"),)))
        writer.close()
        more = ["--file", str(tmp_path / "history.sqlite")]
    done = subprocess.run(
        command(name, "--json", *more, after=after),
        capture_output=True,
        env=environment(),
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    assert done.stdout.startswith(b"{")
    assert done.stderr.strip() == b"False"


def _read_until(terminal: int, words: bytes) -> bytes:
    """What the terminal got up to these words. Fails after the deadline."""
    got = b""
    end = time.monotonic() + DEADLINE_SECONDS
    while words not in got:
        assert time.monotonic() < end, got
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                got += os.read(terminal, 65536)
            except OSError:  # the other side has closed it
                break
    assert words in got
    return got


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_watch_restores_the_terminal(number: signal.Signals, code: int) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        command("status", "--watch"),
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=environment(TERM="xterm-256color"),
    )
    try:
        os.close(inner)
        drawn = _read_until(outer, b"connections.")
        assert b"\x1b[?1049h" in drawn
        process.send_signal(number)
        end = _read_until(outer, b"\x1b[?25h")
        assert b"\x1b[?1049l" in end
        assert b"Traceback" not in end
        assert process.wait(DEADLINE_SECONDS) == code
    finally:
        process.kill()
        process.wait()
        os.close(outer)


@pytest.mark.parametrize(
    ("variables", "colored", "own_screen"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_only_where_they_are_wanted(variables: dict[str, str], colored: bool, own_screen: bool) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        command("status", "--watch"), stdin=inner, stdout=inner, stderr=inner, env=environment(**variables)
    )
    try:
        os.close(inner)
        drawn = _read_until(outer, b"mastodon-sidekiq@6")
        assert (b"31m" in drawn) == colored
        assert (b"\x1b[?1049h" in drawn) == own_screen
        assert own_screen or b"\x1b" not in drawn
    finally:
        process.kill()
        process.wait()
        os.close(outer)


FOLLOW = """
import itertools, time
from msgspec.structs import replace
from tests.support.builders import status_instances
ticks = itertools.count()
client = Client(
    fetch=lambda seconds: msgspec.json.encode(replace(status_instances.rolling(), ticks_total=next(ticks))).decode(),
    order=lambda command: "Replaces 5 instances.",
    sleep=lambda seconds: time.sleep(0.02),
)
main(client)
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, b"fleetctl pause holds"), (signal.SIGTERM, 143, b""), (signal.SIGHUP, 129, b"")],
)
def test_a_restart_is_watched_in_place_and_goes_on_without_a_watcher(
    number: signal.Signals, code: int, said: bytes
) -> None:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        command("restart", after=FOLLOW),
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=environment(TERM="xterm-256color", COLUMNS="80"),
    )
    try:
        os.close(inner)
        drawn = _read_until(outer, b"2 of 5 instances")
        assert b"Replaces 5 instances." in drawn
        assert b"\x1b[?25l" in drawn, "no cursor flickers in the bar"
        _read_until(outer, b"drains, 3 jobs left")
        process.send_signal(number)
        end = _read_until(outer, said or b"\x1b[?25h")
        assert b"\x1b[?25h" in end
        assert b"Traceback" not in end
        assert process.wait(DEADLINE_SECONDS) == code
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def test_orders_load_no_terminal_library_unless_somebody_watches() -> None:
    after = FOLLOW.replace("main(client)", "try: main(client)\nfinally: print('rich' in sys.modules, file=sys.stderr)")
    for arguments in (["pause", "--for", "1h"], ["restart", "--no-wait"]):
        done = subprocess.run(
            command(*arguments, after=after),
            capture_output=True,
            env=environment(),
            timeout=DEADLINE_SECONDS,
            check=True,
        )
        assert (done.stdout, done.stderr.strip()) == (b"Replaces 5 instances.\n", b"False")
