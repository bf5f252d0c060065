"""Watches fleetd's ticks one by one, so that a test can set its limits in ticks, however slow the machine is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleetd.core.model.decision import Verb
from fleetd.core.model.identity import InstanceKey, unit_of
from fleetd.core.model.status import Status
from lab import LabError
from lab.waiting import wait_until
from tests.support.lab.fleet import Fleet

_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Tick:
    """The status of one tick. The tick began after the Unix time `not_begun` and had ended by `ended`."""

    number: int
    not_begun: float
    ended: float
    status: Status


class Ticks:
    """The ticks seen. All of them, unless the machine kept this thread waiting for longer than a tick."""

    def __init__(self) -> None:
        self.seen: list[Tick] = []
        self.end = threading.Event()

    def wait(self, what: str, check: Callable[[Status], bool]) -> Tick:
        """The first tick since the watch began whose status passes `check`."""
        looked = 0

        def passed() -> bool:
            nonlocal looked
            while looked < len(self.seen):
                looked += 1
                if check(self.seen[looked - 1].status):
                    return True
            return False

        wait_until(what, passed)
        return self.seen[looked - 1]

    def since(self, event: float, last: Tick) -> int:
        """How many ticks began after the Unix time `event`, up to and including this one."""
        later = [tick.number for tick in self.seen if tick.not_begun > event and tick.number <= last.number]
        return last.number - later[0] + 1 if later else 0

    def run(self, fleet: Fleet) -> None:
        asked = time.time()
        while not self.end.is_set():
            before, asked = asked, time.time()
            try:
                status = fleet.status()
            except LabError:  # not up yet, or busy
                continue
            if not self.seen or status.ticks_total != self.seen[-1].number:
                # This tick had not ended when the previous status was asked for.
                begun = before - status.tick_duration_seconds
                self.seen.append(Tick(status.ticks_total, begun, time.time(), status))
            self.end.wait(_EVERY_SECONDS)


def did(verb: Verb, key: InstanceKey | None = None) -> Callable[[Status], bool]:
    """Whether a tick carried out a step like this."""
    unit = None if key is None else unit_of(key)
    return lambda status: any(
        step.verb == verb and step.result == "done" and unit in (None, step.unit) for step in status.step_results
    )


@contextmanager
def watching(fleet: Fleet) -> Iterator[Ticks]:
    """Watch for the duration of the block."""
    ticks = Ticks()
    thread = threading.Thread(target=ticks.run, args=[fleet], daemon=True)
    thread.start()
    try:
        wait_until("a tick is seen", lambda: bool(ticks.seen))
        yield ticks
    finally:
        ticks.end.set()
        thread.join()
