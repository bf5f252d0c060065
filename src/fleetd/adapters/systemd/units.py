"""systemd over D-Bus: what our units are doing, and start, stop and quiet for them.

Laws that this module could break:
- Law 4 (no job is lost): it sends signals to the main process only, and only two. SIGTSTP, once the unit is active,
  because a process that still boots would lose it. SIGTERM, once systemd's stop is under way, to a process that lost
  the one of that stop. A stop is systemd's ordinary stop with the unit's own timeout. A start never cancels a stop
  under way (mode "fail").
- Law 6 (only ours): every unit name comes from the configured numbers and those that fleetd rendered. Any other is
  refused before the bus is asked, and no other is ever reported, but for the target of all workers, which is read and
  never touched.

How it reads: states come from one ListUnitsByPatterns in each reading, so a lost signal can't hide one. The properties
cost more. They are read again for a unit whose state is not the last seen one, or that a signal named (a quick restart
looks the same in the list). They are read again for all units after daemon-reload and daemon-reexec, every 60 s, and
when a unit file changed on disk, because only they say that systemd has not read it yet. How a main process ended is
gone from them once systemd has started the next, so the signal that told it is remembered; so is the one that told of a
start that the unit's own condition refused, after which systemd unloads the unit. UnitNew and UnitRemoved are
ignored on purpose: reading the properties of an unloaded unit loads and unloads it, which sends both again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from dbus_next.message import Message

from fleetd.adapters.bus.connection import BusCallError, BusLostError
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.systemd.link import MANAGER, PROPERTIES, SERVICE, SYSTEMD_PATH, SystemdLink
from fleetd.adapters.systemd.unit_properties import (
    UNIT_ROWS_SIGNATURE,
    UNIT_UNLOADED,
    SeenUnit,
    UnitRow,
    ending,
    failure,
    target_facts,
    unit_path,
)
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import SKIPPED, Ending, SystemdFacts, TargetFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TARGET_UNIT, InstanceKey, unit_of
from fleetd.errors import SourceUnavailableError

_UNIT_PATTERNS = ["mastodon-sidekiq@*.service", SCHEDULER_UNIT, TARGET_UNIT]
_FULL_READING_SECONDS = 60.0
_FINISHED_JOBS_MAX = 256
_NONSENSE = (LookupError, TypeError, ValueError, AttributeError)


class FinishedJob(msgspec.Struct, frozen=True):
    """A systemd job on one of our units that ended, whoever asked for it.

    `result` is systemd's word (done, canceled, timeout, failed, dependency, skipped); done is not "running".
    """

    unit: str
    result: str


class SystemdUnits:
    """ports.UnitControl over the system bus (or the one at `bus_address`).

    `numbers`: the configured instances; the scheduler's unit is always ours as well. `rendered`: those that have
    settings of fleetd's, asked at each reading: one that the configuration names no more is ours until it is gone.
    `monotonic_seconds`: CLOCK_MONOTONIC, the clock of systemd's own timestamps. `unit_files`: those that this systemd
    loads; by default this host's.
    """

    def __init__(
        self,
        numbers: Iterable[InstanceKey],
        *,
        rendered: Callable[[], Iterable[InstanceKey]] = tuple,
        bus_address: str | None = None,
        unit_files: UnitFiles | None = None,
        monotonic_seconds: Callable[[], float] = time.monotonic,
        read_deadline_seconds: float = 5.0,
        step_deadline_seconds: float = 10.0,
    ) -> None:
        self._monotonic_seconds = monotonic_seconds
        self._read_deadline_seconds = read_deadline_seconds
        self._step_deadline_seconds = step_deadline_seconds
        self._configured: frozenset[InstanceKey] = frozenset()
        self._rendered = rendered
        self._units: dict[str, InstanceKey] = {}
        self._names_by_path: dict[str, str] = {}
        self._seen: dict[str, SeenUnit] = {}
        self._outdated: set[str] = set()  # units whose properties must be read again
        self._all_outdated = True
        self._endings: dict[str, Ending] = {}  # by unit: of its last main process
        self._skipped: dict[str, SeenUnit] = {}  # units that their condition kept from starting, until they start
        self._unit_files = unit_files or UnitFiles()
        self._unit_digests: dict[str, str | None] = {}
        self._full_reading_at_seconds = 0.0
        self._polkit_runs = True
        self._finished: deque[FinishedJob] = deque(maxlen=_FINISHED_JOBS_MAX)
        self._link = SystemdLink(
            bus_address,
            on_signal=self._signal_came,
            on_new_systemd=self._follow_anew,
            timeout_seconds=max(read_deadline_seconds, step_deadline_seconds),
        )
        self.reconfigure(numbers)

    def reconfigure(self, numbers: Iterable[InstanceKey]) -> None:
        """Use other instance numbers from the next reading on."""
        self._configured = frozenset(numbers)
        self._follow()

    def _follow(self) -> None:
        """Follow the units that are ours now."""
        units = {unit_of(key): key for key in sorted({SCHEDULER, *self._configured, *self._rendered()})}
        if units == self._units:
            return
        self._units = units
        self._names_by_path = {unit_path(name): name for name in self._units}
        self._link.follow(self._names_by_path)

    async def read(self) -> SystemdFacts:
        """Our units as systemd has them now.

        Waits out a daemon-reload, a daemon-reexec and a restart of the bus within the read deadline; after that it
        raises SourceUnavailableError.
        """
        try:
            async with asyncio.timeout(self._read_deadline_seconds):
                return await self._link.asking(self._read)
        except TimeoutError as error:
            why = "did not answer" if self._link.systemd_present else "was not on the bus"
            self._link.drop()
            raise SourceUnavailableError(
                f"systemd {why} for {self._read_deadline_seconds:g} s; see systemctl status dbus"
            ) from error
        except BusLostError as error:
            raise SourceUnavailableError(f"systemd can't be read: {error}") from error
        except BusCallError as error:
            raise SourceUnavailableError(f"systemd can't be read: {error.text} ({error.name})") from error
        except _NONSENSE as error:
            raise SourceUnavailableError(
                f"systemd's answer can't be understood ({type(error).__name__}: {error})"
            ) from error

    async def carry_out(self, step: Step) -> StepResult:
        """Hand one step to systemd: "done" once systemd has taken it, not once it is finished. Raises nothing."""
        unit = step.unit
        if unit not in self._units:
            sentence = f"{unit} is neither in the configuration nor rendered by fleetd, which touches no other"
            return StepResult(step=step, result="refused", sentence=sentence)
        self._outdated.add(unit)
        try:
            async with asyncio.timeout(self._step_deadline_seconds):
                return await self._carry_out(step)
        except TimeoutError as error:
            self._link.drop()
            return failure(step, error)
        except BusCallError as error:
            return failure(step, error, polkit_runs=await self._ask_polkit())
        except (BusLostError, *_NONSENSE) as error:
            return failure(step, error)

    async def _ask_polkit(self) -> bool:
        """Whether it runs, asked because a step failed; as last known if that can't be found out."""
        with contextlib.suppress(TimeoutError, BusCallError, BusLostError, *_NONSENSE):
            async with asyncio.timeout(self._read_deadline_seconds):
                self._polkit_runs = await self._link.polkit_runs(start=True)
        return self._polkit_runs

    def finished_jobs(self) -> tuple[FinishedJob, ...]:
        """The jobs on our units that ended since the last call, oldest first, the last 256 at most."""
        jobs = tuple(self._finished)
        self._finished.clear()
        return jobs

    async def close(self) -> None:
        self._link.drop()

    async def _read(self) -> SystemdFacts:
        self._follow()
        rows = await self._list(_UNIT_PATTERNS)
        target = await self._target(rows.pop(TARGET_UNIT, None))
        now = self._monotonic_seconds()
        if self._unit_digests != (digests := self._unit_files.digests()):
            self._unit_digests = digests
            self._all_outdated = True
        if self._all_outdated or now - self._full_reading_at_seconds >= _FULL_READING_SECONDS:
            self._all_outdated = False
            self._outdated.update(rows)
            self._full_reading_at_seconds = now
            self._polkit_runs = await self._link.polkit_runs(start=True)
        elif not self._polkit_runs:
            self._polkit_runs = await self._link.polkit_runs(start=False)
        self._outdated &= rows.keys()
        self._endings = {name: ended for name, ended in self._endings.items() if name in rows}
        seen: dict[str, SeenUnit] = {}
        for name, row in rows.items():
            unit = self._seen.get(name)
            if unit is None or name in self._outdated or not unit.agrees_with(row):
                unit = await self._properties(name, row)
            if unit is not None:
                seen[name] = unit
        self._seen = seen
        self._skipped = {n: unit for n, unit in self._skipped.items() if n in self._units and n not in rows}
        return SystemdFacts(
            units={
                **{self._units[name]: unit.at(now) for name, unit in self._skipped.items()},
                **{
                    self._units[name]: msgspec.structs.replace(unit.at(now), job=rows[name][8])
                    for name, unit in seen.items()
                },
            },
            polkit_runs=self._polkit_runs,
            target=target,
        )

    async def _target(self, row: UnitRow | None) -> TargetFacts | None:
        """The target of all workers. Its properties, which say when it was stopped, are read while it is down."""
        if row is None:
            return None
        properties: dict[str, Any] = {}
        if row[3] == "inactive":
            try:
                properties = await self._get_all(row)
            except BusCallError as error:
                if error.name not in UNIT_UNLOADED:
                    raise
                return None
        return target_facts(row, properties, self._monotonic_seconds())

    async def _list(self, patterns: list[str]) -> dict[str, UnitRow]:
        """The rows of our units that are loaded, by name."""
        [rows] = await self._link.call(
            SYSTEMD_PATH, MANAGER, "ListUnitsByPatterns", "asas", [], patterns, reply_signature=UNIT_ROWS_SIGNATURE
        )
        return {row[0]: row for row in rows if row[0] in self._units or row[0] == TARGET_UNIT}

    async def _properties(self, name: str, row: UnitRow) -> SeenUnit | None:
        self._outdated.discard(name)  # before the call, so that a signal during it marks the unit again
        try:
            unit = self._unit(name, await self._get_all(row))
            self._seen[name] = unit  # at once, because this reading may still fail at the next unit
            return unit
        except BusCallError as error:
            if error.name in UNIT_UNLOADED:
                return None
            self._outdated.add(name)
            raise
        except BaseException:
            self._outdated.add(name)
            raise

    async def _get_all(self, row: UnitRow) -> dict[str, Any]:
        [variants] = await self._link.call(row[6], PROPERTIES, "GetAll", "s", "", reply_signature="a{sv}")
        return {key: variant.value for key, variant in variants.items()}

    def _unit(self, name: str, properties: dict[str, Any]) -> SeenUnit:
        unit = SeenUnit.from_properties(name, properties)
        self._note_ending(name, properties)
        unread = self._unit_files.lacks(name, properties["DropInPaths"])
        facts = msgspec.structs.replace(
            unit.facts,
            ending=self._endings.get(name),
            need_daemon_reload=unit.facts.need_daemon_reload or unread,
        )
        return msgspec.structs.replace(unit, facts=facts)

    def _note_ending(self, name: str, properties: dict[str, Any]) -> None:
        ended = ending(properties)
        if ended is not None:
            self._endings[name] = ended

    def _note_skip(self, name: str, properties: dict[str, Any]) -> None:
        """Its condition refused the start: systemd says so once and unloads the unit."""
        if properties.get("Result") != SKIPPED:
            if "Result" in properties:
                self._skipped.pop(name, None)
            return
        before, restarts = self._seen.get(name), properties.get("NRestarts")
        known = (
            before.facts
            if before is not None
            else UnitFacts(name=name, load_state="loaded", active_state="", sub_state="")
        )
        facts = msgspec.structs.replace(
            known,
            active_state="inactive",
            sub_state="dead",
            result=SKIPPED,
            main_pid=0,
            restarts=restarts if isinstance(restarts, int) else known.restarts,
            ending=self._endings.get(name),
        )
        self._skipped[name] = SeenUnit(facts, self._monotonic_seconds())

    async def _carry_out(self, step: Step) -> StepResult:
        unit = step.unit
        rows = await self._link.asking(lambda: self._list([unit]))
        state = rows[unit][3] if unit in rows else "inactive"
        match step.verb:
            case "start":
                if state in ("active", "activating", "reloading"):
                    return StepResult(step=step, result="skipped", sentence=f"{unit} is {state} already")
                if state == "failed":
                    # systemd refuses a start past the start limit, and the unit's result does not always say so.
                    await self._order("ResetFailedUnit", "s", unit)
                await self._order("StartUnit", "ss", unit, "fail")
            case "stop":
                if state in ("inactive", "failed"):
                    return StepResult(step=step, result="skipped", sentence=f"{unit} does not run")
                if state == "deactivating" and rows[unit][8] == "stop":  # told already, and systemd tells it once
                    await self._order("KillUnit", "ssi", unit, "main", int(signal.SIGTERM))
                else:
                    await self._order("StopUnit", "ss", unit, "replace")  # also ends a boot under way
            case "quiet":
                if state not in ("active", "reloading"):
                    sentence = f"{unit} is {state}; a quiet before it serves would be lost"
                    return StepResult(step=step, result="refused", sentence=sentence)
                await self._order("KillUnit", "ssi", unit, "main", int(signal.SIGTSTP))
            case _:
                sentence = f"fleetd does not {step.verb} units"
                return StepResult(step=step, result="refused", sentence=sentence)
        return StepResult(step=step, result="done", sentence=f"systemd took the {step.verb} of {unit}")

    async def _order(self, method: str, signature: str, *arguments: object) -> None:
        """One change, asked for once: if there is no answer, the next reading shows whether it happened."""
        await self._link.call(SYSTEMD_PATH, MANAGER, method, signature, *arguments)

    def _signal_came(self, message: Message) -> None:
        """Only notes what to read again, so that a storm of signals costs one reading."""
        if message.member == "JobRemoved" and message.signature == "uoss":
            _, _, unit, result = message.body
            if unit in self._units:
                self._outdated.add(unit)
                self._finished.append(FinishedJob(unit, result))
        elif message.member == "PropertiesChanged" and message.path in self._names_by_path:
            name = self._names_by_path[message.path]
            self._outdated.add(name)
            if message.signature == "sa{sv}as" and message.body[0] == SERVICE:
                changed = {key: variant.value for key, variant in message.body[1].items()}
                self._note_ending(name, changed)
                self._note_skip(name, changed)
        elif message.member == "Reloading":
            self._all_outdated = True

    def _follow_anew(self) -> None:
        """Signals may have been missed."""
        self._endings.clear()
        self._skipped.clear()
        self._all_outdated = True
