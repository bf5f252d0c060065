"""The log: a line when something changed, silence otherwise (law 7, law 8).

Every fault, source and clamp is logged when it comes and when it goes, not every tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fleetd.core.model.decision import Clamp
from fleetd.core.model.facts import KeyFault
from fleetd.core.model.history import EntryKind
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.status import Event, Status
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence

#: Sentences kept for `fleetctl status`.
EVENTS_MAX = 50
#: Most faulty keys logged; a broken Redis could have thousands.
FAULTS_MAX = 50

Say = Callable[..., None]
#: Keeps a sentence beyond the log: its kind, the sentence, and whether it is a warning.
Keep = Callable[[EntryKind, str, bool], None]


def _nowhere(_kind: EntryKind, _sentence: str, _warning: bool) -> None: ...


class TickLog:
    """Compares each tick with the one before, and logs what is new."""

    def __init__(self, say: Say, warn: Say, keep: Keep = _nowhere) -> None:
        self._say = say
        self._warn = warn
        self._keep = keep
        self._events: deque[tuple[float, str]] = deque(maxlen=EVENTS_MAX)
        self._unread: frozenset[str] = frozenset()
        self._faults: frozenset[KeyFault] = frozenset()
        self._clamps: frozenset[tuple[object, ...]] = frozenset()
        self._scheduler: tuple[object, ...] = ()
        self._admitted: dict[str, int] = {}
        self._signs: frozenset[tuple[object, ...]] = frozenset()
        self._trouble = ""

    def note(self, now_seconds: float, said: str, kind: EntryKind = "daemon") -> None:
        """Keep a sentence about something outside the ticks: a reload, a refused configuration, a person's order."""
        self._events.append((now_seconds, said))
        self._keep(kind, said, False)

    def noticed(self, now_seconds: float, said: str, *, warning: bool = False) -> None:
        """Log and keep a sentence about the ticks themselves."""
        self._events.append((now_seconds, said))
        self._tell("noticed", said, warning=warning)

    def events(self, now_seconds: float) -> tuple[Event, ...]:
        return tuple(Event(age_seconds=now_seconds - at, sentence=what) for at, what in self._events)

    def report(self, result: TickResult, status: Status) -> None:
        """Log what changed since the last tick, in one line per kind of thing."""
        now = result.tick.now_seconds
        self._report_sources(status)
        self._report_faults(result)
        for reason in result.noticed:
            self._event(now, sentence(reason), "noticed")
        self._report_signs(result)
        self._report_trouble(now, result.trouble)
        self._report_wanted(result)
        for step in status.step_results:
            said = f"{step.verb} {step.unit}: {step.why}"
            failed = step.result != "done"
            said += f" — {step.result}: {step.sentence}" if failed else ""
            self._events.append((now, said))
            self._tell("step", said, warning=failed, step=step.verb, unit=step.unit)
        self._report_clamps(result, status)
        self._report_scheduler(result.scheduler.state)

    def _tell(self, kind: EntryKind, said: str, *, warning: bool = False, **fields: str) -> None:
        """Log and keep a sentence. `fields`: what the log line has besides it."""
        say = self._warn if warning else self._say
        say(said, **fields)
        self._keep(kind, said, warning)

    def _event(self, now_seconds: float, said: str, kind: EntryKind) -> None:
        self._events.append((now_seconds, said))
        self._tell(kind, said)

    def _report_scheduler(self, state: Reason) -> None:
        if state.alike() != self._scheduler:
            self._tell("scheduler", f"scheduler: {sentence(state)}")
        self._scheduler = state.alike()

    def _report_signs(self, result: TickResult) -> None:
        """Log once what the readings show to be wrong, however its numbers move."""
        for sign in result.signs:
            if sign.alike() not in self._signs:
                said = sentence(sign)
                self._events.append((result.tick.now_seconds, said))
                self._tell("noticed", said, warning=True)
        self._signs = frozenset(sign.alike() for sign in result.signs)

    def _report_trouble(self, now_seconds: float, trouble: str) -> None:
        """Log once that the host's memory can't be saved, and once that it can again."""
        if trouble and trouble != self._trouble:
            said = f"fleetd's memory can't be saved, so a restart would lose it: {trouble}"
            self._event(now_seconds, said, "noticed")
        elif self._trouble and not trouble:
            self._event(now_seconds, "fleetd's memory can be saved again", "noticed")
        self._trouble = trouble

    def _report_wanted(self, result: TickResult) -> None:
        """Log why counts changed. This comes before the steps, which say how many are wanted but not why."""
        planned = result.fleet.plan.profiles.get(result.tick.policy.host, {})
        for name, why in result.fleet.wanted.items():
            if self._admitted.get(name) != planned[name].admitted_instances:
                self._event(result.tick.now_seconds, f"{name}: {sentence(why)}", "want")
        if planned:
            self._admitted = {name: plan.admitted_instances for name, plan in planned.items()}

    def _report_sources(self, status: Status) -> None:
        unread = {s.name: s.why for s in status.sources if not s.ok}
        for name, why in unread.items():
            if name not in self._unread:
                self._tell("reading", f"{name} can't be read: {why}", warning=True, source=name)
        for again in sorted(self._unread - unread.keys()):
            self._tell("reading", f"{again} can be read again", source=again)
        self._unread = frozenset(unread)

    def _report_faults(self, result: TickResult) -> None:
        if result.tick.sidekiq is None:
            return
        faults = result.tick.sidekiq.faults[:FAULTS_MAX]
        for fault in faults:
            if fault not in self._faults:
                said = f"Redis key {fault.key} is unreadable and counts as unknown: {fault.why}"
                self._tell("reading", said, warning=True)
        self._faults = frozenset(faults)

    def _report_clamps(self, result: TickResult, status: Status) -> None:
        """Log one line when the set of reasons changed, but not when only the numbers in them did."""
        now = frozenset(map(_alike, result.clamps))
        new = [c for c in result.clamps if _alike(c) not in self._clamps]
        gone = len(self._clamps - now)
        self._clamps = now
        if new or gone:
            said = "; ".join(f"{f'{c.profile}: ' if c.profile else ''}{sentence(c.reason)}" for c in new)
            self._tell("reason", f"{status.summary}{f' — {said}' if said else ''}")


def _alike(clamp: Clamp) -> tuple[object, ...]:
    return clamp.profile, clamp.reason.alike()
