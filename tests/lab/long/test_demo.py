"""`make demo` from end to end: the whole story as a newcomer sees it, and Ctrl-C in the middle of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.demo.__main__ import NAME
from lab.hosts import cgroups, holder
from tests.support.project import PROJECT

pytestmark = [pytest.mark.lab, pytest.mark.long]

#: The story takes four minutes and ends by itself after at most eight.
STORY_SECONDS_MAX = 600.0
#: In the environment of every process that the demo starts on this machine.
MARK = "FLEETD_DEMO_TEST"


@contextmanager
def demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo in its own session, as a terminal does, until the block ends."""
    command = [sys.executable, "-m", "lab.demo", "--plain", *arguments]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, MARK: str(os.getpid()), "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def left_behind() -> list[str]:
    """All that exists of a lab with the demo's name, and every process that this test's demos started."""
    mark = f"{MARK}={os.getpid()}".encode()
    found = [str(path) for path in (cgroups.of_lab(NAME), holder.STATE / NAME) if path.exists()]
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                found.append((environ.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_the_whole_story_is_as_promised() -> None:
    with demo() as process:
        told, complaints = process.communicate(timeout=STORY_SECONDS_MAX)
    assert process.returncode == 0, told + complaints
    assert told.rstrip().endswith(
        "As promised: the fleet grew, stopped at its budget, shrank again, and no job was lost."
    )
    assert re.search(r"^✔ jobs lost +0$", told, re.MULTILINE)
    enqueued, processed = (
        re.search(rf"^✔ {label} +([0-9,]+)$", told, re.MULTILINE) for label in ("jobs enqueued", "jobs processed")
    )
    assert enqueued is not None
    assert processed is not None
    assert enqueued[1] == processed[1]
    assert int(enqueued[1].replace(",", "")) > 1000, "a surge that is none would keep every promise"
    # Both while it happens and in the summary.
    assert re.search(r"fleetd: .*, connections: one more needs [0-9]+ connections, [0-9]+ are left", told)
    assert re.search(r"^✔ what stopped growth +one more needs [0-9]+ connections", told, re.MULTILINE)
    assert left_behind() == []


def test_the_whole_story_of_three_hosts_is_as_promised() -> None:
    with demo("--hosts") as process:
        told, complaints = process.communicate(timeout=STORY_SECONDS_MAX)
    assert process.returncode == 0, told + complaints
    flat = " ".join(told.split())
    assert re.search(r"As promised: three hosts shared the surge, w[23] took the scheduler over from w1, and .*$", flat)
    enqueued, processed, gone = (
        int(found[1].replace(",", ""))
        for label in ("jobs enqueued", "jobs processed", "gone with the power")
        if (found := re.search(rf"^[✔·] {label} +([0-9,]+)", told, re.MULTILINE))
    )
    assert enqueued == processed + gone
    assert enqueued > 1000, "a surge that is none would keep every promise"
    assert re.search(r"^✔ other jobs lost +0$", told, re.MULTILINE)
    assert re.search(r"^✔ two schedulers +never", told, re.MULTILINE)
    # While it happens: what the demo did, and what the others say of it.
    for said in ("The demo: w1 has lost its power", "w1 is lost: it has not been heard of", "w1 is heard of again"):
        assert said in flat
    assert left_behind() == []


@pytest.mark.parametrize("arguments", [(), ("--hosts",)], ids=["one host", "three hosts"])
def test_ctrl_c_in_mid_surge_leaves_nothing(arguments: tuple[str, ...]) -> None:
    with demo(*arguments) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("SURGE:") for line in lines), "it came to the surge"
        assert any("jobs wait" in line and "surge" in line for line in lines)
        time.sleep(5)
        assert left_behind() != [], "or the look at what is left sees nothing"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all processes in the foreground
        _, complaints = process.communicate(timeout=90)
    assert process.returncode == 130, complaints
    assert complaints == "Stopped. All hosts are gone, and nothing of them is left.\n"
    assert left_behind() == []
