"""Which lost jobs a host's processes had in hand when it lost its power. Sidekiq's basic fetch keeps no copy."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.jobs.records import Run, Window

_BEGIN_SECONDS = 3.0
"""A job begins within this time after a process took it from its queue, however busy the machine is."""


@dataclass(frozen=True)
class InHand:
    """The lost jobs, by where they were at that moment."""

    running: tuple[str, ...] = ()
    """Begun in a process of that host, and ended nowhere."""
    fetched: tuple[str, ...] = ()
    """Taken from their queue at that moment, and begun nowhere."""
    elsewhere: tuple[str, ...] = ()
    """Neither: they were lost in another way."""

    @property
    def total(self) -> int:
        """How many went with the power."""
        return len(self.running) + len(self.fetched)


def in_hand(
    lost: Iterable[str], runs: Collection[Run], pushes: Mapping[str, Mapping[str, Any]], host: str, off: Window
) -> InHand:
    """Sort the lost jobs. `runs` and `pushes`: all that `records` has. `off`: the time in which the power went.

    Queues are first in, first out, so a job that began nowhere was taken between its neighbours in its queue.
    """
    there = {run.jid for run in runs if run.host == host and run.result is None and run.started_at <= off[1]}
    begun: dict[str, float] = {}
    for run in runs:
        begun.setdefault(run.jid, run.started_at)
    queues: dict[str, list[str]] = {}
    for jid in sorted(pushes, key=lambda jid: float(pushes[jid]["at"])):
        queues.setdefault(pushes[jid]["queue"], []).append(jid)
    running, fetched, elsewhere = [], [], []
    for jid in sorted(lost):
        if jid in there:
            running.append(jid)
        elif jid not in begun and _taken_then(jid, queues[pushes[jid]["queue"]], begun, off):
            fetched.append(jid)
        else:
            elsewhere.append(jid)
    return InHand(tuple(running), tuple(fetched), tuple(elsewhere))


def _taken_then(jid: str, queue: list[str], begun: Mapping[str, float], off: Window) -> bool:
    """Whether its nearest neighbours that have begun did so about when the power went."""
    at = queue.index(jid)
    before = next((begun[other] for other in reversed(queue[:at]) if other in begun), None)
    after = next((begun[other] for other in queue[at + 1 :] if other in begun), None)
    not_too_late = before is None or before <= off[1] + _BEGIN_SECONDS
    return not_too_late and (after is None or after >= off[0] - _BEGIN_SECONDS)
