"""What people and systemd did to our units since the last look, folded into the host's memory (law 6).

A move that we did not order is a person's, and is kept for a while as a pin. What systemd restarts by itself is
neither: it never passes through `inactive`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeVar

import msgspec

from fleetd.core.instances.host_memory import Failure, HostMemory, unit_name
from fleetd.core.instances.lifecycle import Drain, Pin
from fleetd.core.model.facts import Known, Snapshot, SystemdFacts, UnitFacts
from fleetd.core.model.heartbeats import Number, present_heartbeat, processes_by_number
from fleetd.core.model.policy import Policy, Profile

#: Down and up again by hand within this time is a restart, not an order to keep it down or up.
RESTART_SECONDS = 180.0
#: After a boot systemd starts each profile's `min` and the scheduler itself, before or after fleetd's first look:
#: so many at a time, and one that hangs holds up the next ones for this much longer.
BOOT_SECONDS = 300.0
BOOT_ROUND_SECONDS = 120.0
#: Serving this long forgives earlier failures.
FORGIVEN_SECONDS = 600.0
#: An order that systemd does not show within this time had no effect.
ORDER_SECONDS = 30.0
#: What comes up this long after such an order was ours after all: a starved systemd, not a person.
LATE_SECONDS = 300.0

_T = TypeVar("_T")
_UP = frozenset({"active", "activating", "reloading"})


def remember_units(policy: Policy, snapshot: Snapshot, memory: HostMemory) -> tuple[HostMemory, list[str]]:
    """Fold this tick's units into the memory; returns it with a sentence for each thing people did."""
    forgotten: list[str] = []
    if memory.boot_id != snapshot.boot_id:
        if memory.pins or memory.pause or memory.sets:
            forgotten = ["this host was rebooted: pins, pauses and set counts from before are forgotten"]
        memory = HostMemory(
            boot_id=snapshot.boot_id,
            boot_seconds=memory.boot_seconds,
            instance_bytes=memory.instance_bytes,
        )
    if not isinstance(snapshot.systemd, Known):
        return memory, forgotten
    if memory.since_seconds is None:
        memory = msgspec.structs.replace(memory, since_seconds=snapshot.now_seconds)
    systemd: SystemdFacts = snapshot.systemd.value
    keys = _keys(policy.profiles)
    fold = _Fold(policy, snapshot, memory)
    at_rest = fold.at_rest()
    for key, number in keys.items():
        unit = systemd.scheduler if number == "scheduler" else systemd.instances.get(number)
        if unit is not None or key not in at_rest:
            fold.unit(key, number, unit)
    return fold.result(keys), [*forgotten, *fold.said]


@lru_cache(maxsize=8)
def _keys(profiles: tuple[Profile, ...]) -> dict[str, Number]:
    """Ours, by their key in the host's memory."""
    numbers: list[Number] = [n for p in profiles for n in p.numbers]
    return {str(number): number for number in [*numbers, "scheduler"]}


class _Fold:
    """One tick's units on their way into the memory."""

    def __init__(self, policy: Policy, snapshot: Snapshot, memory: HostMemory) -> None:
        self.policy = policy
        self.snapshot = snapshot
        self.now = snapshot.now_seconds
        self.before = memory
        self.drains = dict(memory.drains)
        self.starts = dict(memory.starts)
        self.pins = dict(memory.pins)
        self.seen = dict(memory.seen)
        self.failures = dict(memory.failures)
        self.said: list[str] = []
        sidekiq = snapshot.sidekiq
        self.beats = (
            processes_by_number(sidekiq.value.processes, policy.host) if isinstance(sidekiq, Known) else {}
        )

    def at_rest(self) -> set[str]:
        """Units of which there is nothing to fold as long as they are not loaded: most of them, most of the time."""
        return (
            {k for k, state in self.seen.items() if state == "inactive"}
            - self.starts.keys()
            - self.drains.keys()
        )

    def unit(self, key: str, number: Number, unit: UnitFacts | None) -> None:
        state = unit.active_state if unit is not None else "inactive"
        before = self.seen.get(key)
        self.seen[key] = state
        if before is not None and before not in _UP and state in _UP:
            self._came_up(number)
        elif before in _UP and state not in _UP and state != "failed":
            self._went_down(key)
        self._count_failures(key, state, before, unit)
        if state in _UP:
            self.starts.pop(key, None)
        if state == "failed" or (state == "inactive" and key not in self.starts):
            self.drains.pop(key, None)  # while our start is not shown yet, what is to end it must be kept
        self._quiet_by_hand(number, unit, adopted=before is None)

    def _count_failures(self, key: str, state: str, before: str | None, unit: UnitFacts | None) -> None:
        ordered = self.starts.get(key)
        lost = ordered is not None and state == "inactive" and self.now - ordered >= ORDER_SECONDS
        died = state == "failed" and (before is None or before in _UP or ordered is not None)
        if lost and self._stopped_by_us(key):
            self.starts.pop(key, None)  # called off before it was shown
        elif lost or (died and not self._stopped_by_us(key)):
            count = self.failures[key].count + 1 if key in self.failures else 1
            why = _why_failed(unit) if died else "systemd showed no effect of the start"
            self.failures[key] = Failure(
                count=count, last_seconds=self.now, ordered=ordered is not None, why=why
            )
            self.starts.pop(key, None)
        elif before == "failed" and state == "inactive" and ordered is None and key in self.failures:
            del self.failures[key]  # `systemctl reset-failed`: a person has cured it
            self.said.append(f"{unit_name(key)} was reset by hand: tried again")
        if unit is not None and state == "active" and unit.state_age_seconds > FORGIVEN_SECONDS:
            self.failures.pop(key, None)
        elif state == "active" and key in self.failures:
            self.failures[key] = msgspec.structs.replace(self.failures[key], ended=False)

    def _came_up(self, number: Number) -> None:
        key = str(number)
        pin, failure = self.pins.get(key), self.failures.get(key)
        late = failure is not None and failure.ordered and self.now - failure.last_seconds < LATE_SECONDS
        if key in self.before.starts or late:
            if pin is not None and pin.by == "hand":
                del self.pins[key]
            elif pin is not None and pin.wants == "stopped" and key not in self.drains:
                # Ordered by a person before our start was shown: it is not to stay.
                self.drains[key] = Drain(since_seconds=self.now, why="kept stopped by fleetctl")
        elif pin is not None and pin.wants == "stopped" and self.now - pin.since_seconds < RESTART_SECONDS:
            del self.pins[key]
            self.said.append(f"{unit_name(key)} was restarted by hand")
        elif not self._started_by_the_boot(number):
            self._pin(key, "run", "was started by hand")

    def _started_by_the_boot(self, number: Number) -> bool:
        since = self.before.since_seconds
        at_boot = {n for p in self.policy.profiles for n in p.numbers[: p.min_instances]}
        rounds = math.ceil((len(at_boot) + 1) / self.policy.pace.booting_max)
        if since is None or self.now - since >= BOOT_SECONDS + BOOT_ROUND_SECONDS * rounds:
            return False
        return number == "scheduler" or number in at_boot

    def _went_down(self, key: str) -> None:
        """Not by our stop, so by a person's; what systemd restarts by itself never comes by here."""
        if not self._stopped_by_us(key):
            self.drains.pop(key, None)
            self._pin(key, "stopped", "was stopped by hand")

    def _stopped_by_us(self, key: str) -> bool:
        drain = self.drains.get(key)
        return drain is not None and drain.stop_sent_seconds is not None

    def _quiet_by_hand(self, number: Number, unit: UnitFacts | None, *, adopted: bool) -> None:
        key = str(number)
        if self.seen[key] not in _UP or key in self.drains:
            return
        process = present_heartbeat(self.beats.get(number, []), unit)
        if process is None:
            return
        pin = self.pins.get(key)
        kept_quiet = pin is not None and pin.wants == "quiet"
        if not process.quiet:
            if kept_quiet:  # quiet can't be undone, so this is a new process
                del self.pins[key]
        elif adopted or (pin is not None and kept_quiet and self.now >= pin.until_seconds):
            # A quiet that nobody remembers, or was kept long enough, can't be undone: the drain goes on.
            self.drains[key] = Drain(
                since_seconds=self.now, quiet_sent_seconds=self.now, why="found quiet; quiet can't be undone"
            )
        elif not kept_quiet:
            self._pin(key, "quiet", "was quieted by hand")

    def _pin(self, key: str, wants: Literal["run", "stopped", "quiet"], what: str) -> None:
        until = self.now + self.policy.pace.pin_seconds
        self.pins[key] = Pin(wants=wants, since_seconds=self.now, until_seconds=until)
        self.said.append(f"{unit_name(key)} {what}: kept so for {self.policy.pace.pin_seconds / 3600:.1f} h")

    def _is_kept(self, key: str, pin: Pin) -> bool:
        """An expired pin on a quiet process stays until a heartbeat lets its drain go on."""
        if key in self.drains:
            return pin.wants == "stopped" and self.now < pin.until_seconds
        return self.now < pin.until_seconds or (pin.wants == "quiet" and self.seen.get(key) in _UP)

    def _stands_in(self, key: str, stopped: tuple[int, ...]) -> bool:
        kept = any((pin := self.pins.get(str(n))) is not None and pin.wants == "stopped" for n in stopped)
        return kept and (key in self.starts or self.seen.get(key) in _UP)

    def result(self, keys: Mapping[str, Number]) -> HostMemory:
        return msgspec.structs.replace(
            self.before,
            drains=_only(self.drains, keys),
            starts=_only(self.starts, keys),
            pins={k: v for k, v in self.pins.items() if k in keys and self._is_kept(k, v)},
            stands_in={k: v for k, v in self.before.stands_in.items() if self._stands_in(k, v)},
            seen=_only(self.seen, keys),
            failures=_only(self.failures, keys),
            replaced=_only(self.before.replaced, keys),
        )


def _only(found: dict[str, _T], keys: Mapping[str, Number]) -> dict[str, _T]:
    """Without what is not ours, or not any more."""
    return found if found.keys() <= keys.keys() else {k: v for k, v in found.items() if k in keys}


def _why_failed(unit: UnitFacts | None) -> str:
    """systemd's word for it (systemd.exec(5), $SERVICE_RESULT), for people."""
    result = unit.result if unit is not None else ""
    return {
        "start-limit-hit": "died at once, too often (start-limit-hit)",
        "oom-kill": "the kernel killed it for memory (oom-kill)",
        "resources": "its settings or directories are missing (resources)",
        "timeout": "did not get ready in time (timeout)",
        "assert": "its settings are not rendered (assert)",
        "exit-code": "its process exited with an error (exit-code)",
        "protocol": "its process ended before it was ready (protocol)",
        "signal": "its process was killed by a signal",
    }.get(result, f"systemd says {result or 'nothing'}")
