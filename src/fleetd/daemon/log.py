"""What is worth a line in the log: a sentence when something changed, silence otherwise (law 7, law 8).

Every fault, source and clamp is named when it comes and when it goes, not every tick.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from fleetd.core.model.decision import Clamp
from fleetd.core.model.facts import KeyFault, Known
from fleetd.core.model.history import EntryKind
from fleetd.core.model.status import Event, Status
from fleetd.daemon.tick import TickResult

#: Sentences kept for `fleetctl status`.
EVENTS_MAX = 50
#: Faulty keys named at most; a broken Redis could have thousands.
FAULTS_MAX = 50

_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)?")

Say = Callable[..., None]
#: Where a sentence is kept beyond the log: its kind, itself, and whether it is a warning.
Keep = Callable[[EntryKind, str, bool], None]


def _nowhere(_kind: EntryKind, _sentence: str, _warning: bool) -> None: ...


class TickLog:
    """Compares each tick with the one before and says what is new."""

    def __init__(self, say: Say, warn: Say, keep: Keep = _nowhere) -> None:
        self._say = say
        self._warn = warn
        self._keep = keep
        self._events: deque[tuple[float, str]] = deque(maxlen=EVENTS_MAX)
        self._sources_down: dict[str, str] = {}
        self._faults: frozenset[tuple[str, str]] = frozenset()
        self._clamps: frozenset[tuple[str, str, str]] = frozenset()
        self._scheduler = ""
        self._wants: dict[str, int] = {}

    def note(self, now_seconds: float, sentence: str, kind: EntryKind = "daemon") -> None:
        """Something beside a tick: a reload, a refused configuration, a person's order."""
        self._events.append((now_seconds, sentence))
        self._keep(kind, sentence, False)

    def events(self, now_seconds: float) -> tuple[Event, ...]:
        return tuple(Event(age_seconds=now_seconds - at, sentence=what) for at, what in self._events)

    def report(self, told: TickResult, status: Status) -> None:
        """Log what changed since the last tick, in one line per kind of thing."""
        now = told.snapshot.now_seconds
        self._report_sources(status)
        self._report_faults(told)
        for sentence in told.noticed:
            self._event(now, sentence, "noticed")
        self._report_wants(told)
        for result in told.results:
            step = result.step
            sentence = f"{step.verb} {step.unit}: {step.sentence}"
            if result.result == "done":
                self._event(now, sentence, "step", step=step.verb, unit=step.unit)
            else:
                sentence = f"{sentence} — {result.result}: {result.sentence}"
                self._events.append((now, sentence))
                self._warn(sentence, unit=step.unit)
                self._keep("step", sentence, True)
        self._report_clamps(status)
        if status.scheduler.sentence.split(" for ")[0] != self._scheduler.split(" for ")[0]:
            sentence = f"scheduler: {status.scheduler.sentence}"
            self._say(sentence)
            self._keep("scheduler", sentence, False)
        self._scheduler = status.scheduler.sentence

    def _report_wants(self, told: TickResult) -> None:
        """Before the steps, which say how many are wanted but not why."""
        planned = told.fleet.plan.profiles.get(told.snapshot.host, {})
        for name, why in told.fleet.why.items():
            if self._wants.get(name) != planned[name].instances:
                self._event(told.snapshot.now_seconds, f"{name}: {why}", "want")
        if planned:
            self._wants = {name: plan.instances for name, plan in planned.items()}

    def _event(self, now_seconds: float, sentence: str, kind: EntryKind, **fields: object) -> None:
        self._events.append((now_seconds, sentence))
        self._say(sentence, **fields)
        self._keep(kind, sentence, False)

    def _report_sources(self, status: Status) -> None:
        down: dict[str, str] = {s.name: s.why for s in status.sources if not s.ok}
        for name, why in down.items():
            if name not in self._sources_down:
                sentence = f"{name} can't be read: {why}"
                self._warn(sentence, source=name)
                self._keep("reading", sentence, True)
        for name in self._sources_down:
            if name not in down:
                sentence = f"{name} can be read again"
                self._say(sentence, source=name)
                self._keep("reading", sentence, False)
        self._sources_down = down

    def _report_faults(self, told: TickResult) -> None:
        if not isinstance(told.snapshot.sidekiq, Known):
            return
        faults: tuple[KeyFault, ...] = told.snapshot.sidekiq.value.faults[:FAULTS_MAX]
        for fault in faults:
            if (fault.key, fault.why) not in self._faults:
                sentence = f"Redis key {fault.key} is unreadable and counts as unknown: {fault.why}"
                self._warn(sentence)
                self._keep("reading", sentence, True)
        self._faults = frozenset((f.key, f.why) for f in faults)

    def _report_clamps(self, status: Status) -> None:
        """One line when the set of reasons changed; the numbers inside a sentence may move without one."""
        clamps: tuple[Clamp, ...] = status.clamps
        now = frozenset(_reason(c) for c in clamps)
        new = [c for c in clamps if _reason(c) not in self._clamps]
        gone = len(self._clamps - now)
        self._clamps = now
        if new or gone:
            reasons = "; ".join(f"{c.profile + ': ' if c.profile else ''}{c.sentence}" for c in new)
            sentence = f"{status.summary}{' — ' + reasons if reasons else ''}"
            self._say(sentence)
            self._keep("reason", sentence, False)


def _reason(clamp: Clamp) -> tuple[str, str, str]:
    """What makes a clamp another one: the same code may say that there is no room, or that room is given back."""
    return clamp.code.value, clamp.profile, _NUMBERS.sub("", clamp.sentence)
