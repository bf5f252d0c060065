"""Starts observers and reads what they have seen so far."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.errors import LabError
from lab.hosts import cgroups, holder, namespaces
from lab.hosts.host import Host
from lab.lab import Lab
from lab.observers.timeline import Alive, Counted, Look, Timeline
from lab.waiting import PATIENCE_SECONDS, wait_until


class Observer:
    """A running observer. Times are monotonic seconds, as of `time.monotonic()`."""

    def __init__(self, process: namespaces.Process, record: Path) -> None:
        self._process = process
        self._record = record
        self._read = 0
        self._looks: list[Look] = []
        self._counts: list[Counted] = []

    def timeline(self) -> Timeline:
        """All that was seen up to now. LabError: the observer has died, so something may have been missed."""
        now = time.monotonic()
        self.wait_until("a new look", lambda: bool(self._looks) and self._looks[-1].begun >= now)
        return Timeline(tuple(self._looks), tuple(self._counts))

    def wait(self, what: str, check: Callable[[Timeline], bool], timeout: float = PATIENCE_SECONDS) -> Timeline:
        """Wait until what was seen passes `check`, and return it."""
        found: list[Timeline] = []

        def passed() -> bool:
            found[:] = [self.timeline()]
            return check(found[0])

        wait_until(what, passed, timeout)
        return found[0]

    def wait_until(self, what: str, check: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Read on until `check` is true."""

        def passed() -> bool:
            self._read_on()
            self.check()
            return check()

        wait_until(what, passed, timeout, every=0.02)

    def check(self) -> None:
        """LabError: the observer has died."""
        if self._process.poll() is not None:
            _, said = self._process.communicate()
            raise LabError(f"The observer has ended: {said.strip()[-2000:]}")

    def stop(self) -> None:
        """End it. What it has seen stays readable through timelines that were taken before."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_SECONDS)

    def _read_on(self) -> None:
        with self._record.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]  # the last line may be half written
        self._read += len(whole)  # it is all ASCII
        for line in whole.splitlines():
            look = json.loads(line)
            if "alive" in look:
                alive = frozenset(Alive(*one) for one in look["alive"])
                self._looks.append(Look(look["begun"], look["ended"], alive))
            else:
                self._counts.append(Counted(look["begun"], look["ended"], look["open"]))


@contextlib.contextmanager
def observing(lab: Lab, postgres: Host | None = None) -> Iterator[Observer]:
    """Observe all hosts of a lab during the block, and the database on the host `postgres` whenever it is up."""
    record = holder.STATE / lab.name / f"observed-{time.monotonic_ns()}.jsonl"
    record.touch(exist_ok=False)
    arguments = [str(cgroups.of_lab(lab.name)), str(record), *([postgres.address] if postgres else [])]
    process = lab.popen(
        [sys.executable, "-m", "lab.observers.program", *arguments],
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    observer = Observer(process, record)
    try:
        observer.timeline()
        yield observer
        observer.check()
    finally:
        observer.stop()
