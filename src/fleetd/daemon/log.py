"""The log: a line when something changed, silence otherwise (law 7, law 8).

Every fault, source and clamp is logged when it comes and when it goes, not every tick. What comes and goes all the time
is logged less and less (standing.py), and a minute has a budget of lines. Steps and orders are always logged.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from fleetd.core.model.decision import Clamp
from fleetd.core.model.history import EntryKind
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.counts import QueuesUnserved, UnitUnfit
from fleetd.core.model.reasons.fleet import RestartStoppedElsewhere
from fleetd.core.model.reasons.units import Died, OomKilled
from fleetd.core.model.status import Event, Status
from fleetd.daemon.standing import Budget, Seldom, Standing
from fleetd.daemon.tick import TickResult
from fleetd.words.evidence import SUBJECTS
from fleetd.words.formatting import CONNECTION_SOURCES, capitalised, times
from fleetd.words.observing import ACTS, OBSERVES, going_on, would
from fleetd.words.reasons import hold_subject, sentence

#: Sentences kept for `fleetctl status`.
EVENTS_MAX = 50
#: Faulty keys that are named where many share a line.
NAMED_MAX = 3
#: Between the key of a fault and why it is one.
_WHY = "\0"
#: These are logged whatever else is.
_ALWAYS = frozenset({"step", "order"})
#: What is noticed is a warning if it is one of these.
_WARNINGS = (Died, OomKilled, RestartStoppedElsewhere)
#: Of these there are the most, so they may not take the whole budget of a minute.
_OF_READINGS = frozenset({"reading", "reason"})
#: A fault must be gone for this long before it is over: not every fault is seen in each reading.
_FAULT_SETTLES_SECONDS = (60.0, 600.0)
#: A fleet that works has up to a hundred changes of its reasons an hour, and hardly one of its scheduler.
_REASONS_AT_ONCE, _REASONS_EVERY_SECONDS = 120, 60.0
_SCHEDULER_AT_ONCE, _SCHEDULER_EVERY_SECONDS = 20, 600.0

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
        self._budget = Budget()
        self._sources = Standing(over=lambda name: f"{name} can be read again", more=_more_sources)
        self._faults = Standing(over=_fault_over, more=_more_faults, settle_seconds=_FAULT_SETTLES_SECONDS)
        self._unsaved = Standing(over=lambda _: "fleetd's memory can be saved again", more=_more_sources)
        self._unserved = Standing(over=lambda name: f"queue {name} is served again, or empty", more=_more_unserved)
        self._full = Standing(over=_roomy_again, more=_more_sources)
        self._unfit = Standing(over=_fit_again, more=_more_sources, settle_seconds=(0.0, 0.0, 60.0, 600.0))
        self._holds = Standing(over=lambda what: f"{what} no longer holds the fleet", more=_more_sources)
        self._signs = Standing(over=lambda subject: f"no longer seen: {subject}", more=_more_sources)
        self._would = Standing(over=str, more=lambda wishes: f"would do {times(len(wishes), 'more thing')}")
        self._observes = False  # as last told
        self._unknown = Standing(over=str, more=lambda clamps: f"and {len(clamps)} more")
        self._clamps: frozenset[tuple[object, ...]] = frozenset()  # as last told
        self._clamps_seldom = Seldom(_REASONS_AT_ONCE, _REASONS_EVERY_SECONDS)
        self._scheduler: tuple[object, ...] = ()  # as last told
        self._scheduler_seldom = Seldom(_SCHEDULER_AT_ONCE, _SCHEDULER_EVERY_SECONDS)
        self._admitted: dict[str, int] = {}

    def note(self, now_seconds: float, said: str, kind: EntryKind = "daemon") -> None:
        """Keep a sentence about something outside the ticks: a reload, a refused configuration, a person's order."""
        self._events.append((now_seconds, said))
        self._keep(kind, said, False)

    def noticed(self, now_seconds: float, said: str, *, warning: bool = False) -> None:
        """Log and keep a sentence about the ticks themselves."""
        self._events.append((now_seconds, said))
        self._tell("noticed", said, warning=warning)

    def aside(self, said: str) -> None:
        """Log a warning from outside the ticks, if the minute's budget allows; the history does not keep it."""
        if self._budget.take(of_readings=True):
            self._warn(said)

    def events(self, now_seconds: float) -> tuple[Event, ...]:
        return tuple(Event(age_seconds=now_seconds - at, sentence=what) for at, what in self._events)

    def report(self, result: TickResult, status: Status) -> None:
        """Log what changed since the last tick, in one line per kind of thing."""
        now = result.tick.now_seconds
        left_out = self._budget.ended(now)
        if left_out:
            self._tell("daemon", f"and {left_out} more in the last minute, left out of the log", warning=True)
        self._report_sources(now, status)
        self._report_faults(now, result)
        for reason in result.noticed:
            self._event(now, sentence(reason), "noticed", warning=isinstance(reason, _WARNINGS))
        self._report_holds(result)
        self._report_signs(result)
        self._report_unfit(result)
        self._report_unsaved(result)
        self._report_unserved(result)
        self._report_full(result)
        self._report_mode(result)
        self._report_wanted(result)
        self._report_would(now, status)
        for step in status.step_results:
            said = f"{step.verb} {step.unit}: {step.why}"
            failed = step.result != "done"
            said += f" — {step.result}: {step.sentence}" if failed else ""
            self._events.append((now, said))
            self._tell("step", said, warning=failed, step=step.verb, unit=step.unit)
        self._report_clamps(now, result, status)
        self._report_scheduler(now, result.scheduler.state)

    def _tell(self, kind: EntryKind, said: str, *, warning: bool = False, **fields: str) -> bool:
        """Log and keep a sentence, if the minute's budget allows. `fields`: what the log line has besides it."""
        if kind not in _ALWAYS and not self._budget.take(of_readings=kind in _OF_READINGS):
            return False
        say = self._warn if warning else self._say
        say(said, **fields)
        self._keep(kind, said, warning)
        return True

    def _event(self, now_seconds: float, said: str, kind: EntryKind, *, warning: bool = False) -> None:
        if self._tell(kind, said, warning=warning):
            self._events.append((now_seconds, said))

    def _report_scheduler(self, now_seconds: float, state: Reason) -> None:
        if state.alike() != self._scheduler and self._scheduler_seldom.may(now_seconds):
            self._tell("scheduler", f"scheduler: {sentence(state)}")
            self._scheduler = state.alike()

    def _report_holds(self, result: TickResult) -> None:
        """Log what holds the fleet, and when it no longer does: the history shows it even if no step was due."""
        now = result.tick.now_seconds
        constraints = result.tick.constraints
        holds = [h.reason for h in (*constraints.holds, constraints.maintenance) if h is not None]
        there = {name: sentence(hold) for hold in holds if (name := hold_subject(hold)) is not None}
        for line in self._holds.look(now, there, self._budget.left(of_readings=False)):
            self._events.append((now, line.sentence))
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_signs(self, result: TickResult) -> None:
        """Log what the readings show to be wrong: one line for each kind of it."""
        there: dict[str, str] = {}
        for sign in result.signs:
            there.setdefault(SUBJECTS[type(sign)], sentence(sign))
        now = result.tick.now_seconds
        for line in self._signs.look(now, there, self._budget.left(of_readings=False)):
            if line.warning:
                self._events.append((now, line.sentence))
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_unsaved(self, result: TickResult) -> None:
        """Log once that the host's memory can't be saved, and once that it can again."""
        now, unsaved = result.tick.now_seconds, result.unsaved
        there = {} if unsaved is None else {"memory": sentence(unsaved)}
        for line in self._unsaved.look(now, there, self._budget.left(of_readings=False)):
            self._events.append((now, line.sentence))
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_unfit(self, result: TickResult) -> None:
        """Log which units are somebody else's: the first thing to know when nothing starts."""
        now, units = result.tick.now_seconds, result.host.memory.unfit_units
        # By what is wrong, too: somebody who mends one thing after the other wants to hear of the next.
        there = {
            f"{unit}{_WHY}{','.join(f'{f.file} {f.rule}' for f in unfit.faults)}": sentence(UnitUnfit(unfit=unfit))
            for unit, unfit in units.items()
        }
        for line in self._unfit.look(now, there, self._budget.left(of_readings=False)):
            if not line.warning and line.key.partition(_WHY)[0] in units:
                continue
            self._events.append((now, line.sentence))
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_unserved(self, result: TickResult) -> None:
        sidekiq, lone = result.tick.sidekiq, result.fleet.unserved
        if sidekiq is None or not sidekiq.processes_complete:
            return
        queues = {one.queue: sentence(QueuesUnserved(queues=(one,))) for one in (lone.queues if lone else ())}
        room = self._budget.left(of_readings=False)
        for line in self._unserved.look(result.tick.now_seconds, queues, room):
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_full(self, result: TickResult) -> None:
        """Log that a source of connections is full, even where no count changes for it."""
        if result.tick.instances is None or result.fleet.budget.unread:
            return  # whether they still are is unknown
        now = result.tick.now_seconds
        there = {CONNECTION_SOURCES[full.source]: sentence(full) for full in result.fleet.full}
        for line in self._full.look(now, there, self._budget.left(of_readings=False)):
            self._events.append((now, line.sentence))
            self._tell("noticed", line.sentence, warning=line.warning)

    def _report_mode(self, result: TickResult) -> None:
        """Log that fleetd only observes from now on, or acts again."""
        observes = result.tick.policy.observes
        if observes != self._observes:
            begun = tuple(result.host.memory.drains)
            self._event(result.tick.now_seconds, f"{OBSERVES}{going_on(begun)}" if observes else ACTS, "daemon")
            self._observes = observes

    def _report_would(self, now_seconds: float, status: Status) -> None:
        """Log what fleetd would do when it begins to want it, and when it concerns more units or fewer.

        Which instance it would drain changes with the work that each has, so another one is not said.
        """
        there = {f"{w.verb} {w.profile if w.verb == 'drain' else w.keys}": would(w) for w in status.would}
        for line in self._would.look(now_seconds, there, self._budget.left(of_readings=False)):
            if line.warning:
                self._event(now_seconds, line.sentence, "would")

    def _report_wanted(self, result: TickResult) -> None:
        """Log why counts changed. This comes before the steps, which say how many are wanted but not why."""
        planned = result.fleet.plan.profiles.get(result.tick.policy.host, {})
        for name, why in result.fleet.wanted.items():
            if self._admitted.get(name) != planned[name].admitted_instances:
                self._event(result.tick.now_seconds, f"{name}: {sentence(why)}", "want")
        if planned:
            self._admitted = {name: plan.admitted_instances for name, plan in planned.items()}

    def _report_sources(self, now_seconds: float, status: Status) -> None:
        unread: dict[str, str] = {s.name: f"{s.name} can't be read: {s.why}" for s in status.sources if not s.ok}
        for line in self._sources.look(now_seconds, unread, self._budget.left(of_readings=True)):
            self._tell("reading", line.sentence, warning=line.warning, source=line.key)

    def _report_faults(self, now_seconds: float, result: TickResult) -> None:
        if result.tick.sidekiq is None:
            return
        faults = {
            # The same fault may come with other numbers each time.
            f"{fault.key}{_WHY}{re.sub('[0-9]+', '#', fault.why)}": (f"Redis key {fault.key}: {fault.why}")
            for fault in result.tick.sidekiq.faults
        }
        for line in self._faults.look(now_seconds, faults, self._budget.left(of_readings=True)):
            self._tell("reading", line.sentence, warning=line.warning)

    def _report_clamps(self, now_seconds: float, result: TickResult, status: Status) -> None:
        """Log one line when the set of reasons changed, but not when only the numbers in them did.

        What is unknown comes and goes with the readings, whose faults are logged by themselves.
        """
        full = result.fleet.full  # logged by itself
        known = [c for c in result.clamps if not _is_unknown(c) and (c.profile is not None or c.reason not in full)]
        unknown = {f"{c.profile} {c.code}": _clamp_words(c) for c in result.clamps if _is_unknown(c)}
        changed = self._unknown.look(now_seconds, unknown)
        said = [line.sentence for line in changed if line.warning]
        now = frozenset(map(_alike, known))
        if now != self._clamps and self._clamps_seldom.may(now_seconds):
            said += [_clamp_words(c) for c in known if _alike(c) not in self._clamps]
            self._clamps = now
        elif not changed:
            return
        why = f" — {'; '.join(said)}" if said else ""
        self._tell("reason", f"{status.summary}{why}")


def _is_unknown(clamp: Clamp) -> bool:
    return clamp.code.value.endswith("_unknown")


def _clamp_words(clamp: Clamp) -> str:
    return f"{f'{clamp.profile}: ' if clamp.profile else ''}{sentence(clamp.reason)}"


def _roomy_again(source: str) -> str:
    return f"{capitalised(source)} has room for all claims again"


def _fit_again(key: str) -> str:
    return f"{key.partition(_WHY)[0]} is as fleetd needs it again"


def _more_sources(names: list[str]) -> str:
    return f"and {times(len(names), 'more source')} can't be read"


def _fault_over(fault: str) -> str:
    return f"Redis key {fault.partition(_WHY)[0]} can be read again, or is gone"


def _more_unserved(queues: list[str]) -> str:
    return f"and {times(len(queues), 'more queue')} that no process serves: see fleetctl status"


def _more_faults(faults: list[str]) -> str:
    named = ", ".join(fault.partition(_WHY)[0] for fault in faults[:NAMED_MAX])
    more = f" and {len(faults) - NAMED_MAX} others" if len(faults) > NAMED_MAX else ""
    return f"{times(len(faults), 'more Redis key')} can't be read and count as unknown: {named}{more}"


def _alike(clamp: Clamp) -> tuple[object, ...]:
    return clamp.profile, clamp.reason.alike()
