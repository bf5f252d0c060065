"""Which changes of our units were made by hand and which by systemd, folded into the host's memory (law 6).

A start, stop or quiet that we did not order was a person's, and is kept for a while as a pin. A restart is none,
whoever ordered it and however many units it concerns (needrestart, `systemctl restart 'mastodon-sidekiq@*'`, the
target, RuntimeMaxSec=): it ends with what ran before, so nobody wanted another number. What tells it from a stop is the
job that systemd has for the unit while it stops: "restart", or none when systemd itself ends it. A scheduler whose own
unit refused to start, because another host's runs, is none of these. A unit that is not ours (model/unit_rules.py) is
only watched.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

from msgspec import structs

from fleetd.core.instances.host_memory import Failure, HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.left_over import remember_left_over
from fleetd.core.instances.lifecycle import Drain, DrainPhase, Pin
from fleetd.core.instances.target import SAME_SECONDS, remember_target
from fleetd.core.model import reasons
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.heartbeats import heartbeats_by_key, present_heartbeat
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Profile

#: A stop and a start by hand within this time are a restart, not an order to keep the unit stopped or running.
RESTART_SECONDS = 180.0
#: After a boot of the host systemd itself starts each profile's `min` and the scheduler, before or after fleetd's first
#: tick. It starts `pace.booting_max` at a time, and a boot that hangs delays the next ones by the second figure.
HOST_BOOT_SECONDS = 300.0
HOST_BOOT_ROUND_SECONDS = 120.0
#: The earlier failures of a unit that has been active for this long are forgotten.
FORGIVEN_SECONDS = 600.0
#: An order that systemd does not show within this time had no effect.
ORDER_SECONDS = 30.0
#: If the unit comes up within this time after such an order, the order took effect late; it was not a person.
LATE_SECONDS = 300.0

#: Times of systemd's are compared with ours only this closely.
SKIP_SLACK_SECONDS = 1.0

#: The jobs of a unit that is down, or stops, and will be started.
_STARTS = frozenset({"start", "restart", "try-restart"})

_T = TypeVar("_T")
_UP = frozenset({"active", "activating", "reloading"})
_DOWN = frozenset({"inactive", "failed"})


def remember_units(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[reasons.Reason]]:
    """Fold this tick's units into the memory. Returns the memory, and a reason for each thing noticed."""
    noticed: list[reasons.Reason] = []
    snapshot, systemd = tick.snapshot, tick.systemd
    if memory.boot_id != snapshot.boot_id:
        people = memory.people
        if memory.boot_id:
            forgotten = bool(people.pins or people.pause or people.sets)
            noticed.append(reasons.Rebooted(orders_forgotten=forgotten))
        memory = HostMemory(
            boot_id=snapshot.boot_id,
            boot_seconds=memory.boot_seconds,
            instance_bytes=memory.instance_bytes,
            evidence=memory.evidence,
            fleet=memory.fleet,
        )
    if tick.machine is not None:
        memory = structs.replace(memory, unfit_units=tick.machine.unfit_units)
    if systemd is None:
        return memory, noticed
    if memory.since_seconds is None:
        memory = structs.replace(memory, since_seconds=tick.now_seconds)
    target_started_seconds = memory.target.started_seconds
    memory = remember_left_over(tick, remember_target(tick, memory))
    keys = {**_ours(tick.policy.profiles), **dict.fromkeys(memory.left_over)}
    changes = _UnitChanges(tick, memory)
    if memory.target.started_seconds != target_started_seconds:
        changes.booted.clear()
    at_rest = changes.at_rest()
    for key in keys:
        unit = systemd.units.get(key)
        if unit is not None or key not in at_rest:
            changes.see(key, unit)
    if changes.restarted:
        noticed.append(reasons.RestartedByOthers(keys=tuple(changes.restarted)))
    return changes.result(keys), noticed + changes.noticed


@lru_cache(maxsize=8)
def _ours(profiles: tuple[Profile, ...]) -> dict[InstanceKey, None]:
    """Every unit that the configuration names, as an ordered set."""
    return dict.fromkeys([*(key for p in profiles for key in p.numbers), SCHEDULER])


class _UnitChanges:
    """Folds one tick's units into the memory."""

    def __init__(self, tick: HostTick, memory: HostMemory) -> None:
        self.policy = tick.policy
        self.now = tick.now_seconds
        self.before = memory
        self.drains = dict(memory.drains)
        self.starts = dict(memory.starts)
        self.pins = dict(memory.people.pins)
        self.seen = dict(memory.units.seen)
        self.failures = dict(memory.units.failures)
        self.restarting = set(memory.units.restarting)
        self.booted = set(memory.units.booted)
        self.returning = set(memory.people.returning)
        self.restarted: list[InstanceKey] = []
        self.noticed: list[reasons.Reason] = []
        self.polkit_runs = tick.systemd is None or tick.systemd.polkit_runs
        self.polkit_absent = memory.units.polkit_absent_seconds if self.polkit_runs else self.now
        sidekiq = tick.sidekiq
        self.beats = heartbeats_by_key(sidekiq.processes, tick.policy.host) if sidekiq is not None else {}

    def at_rest(self) -> set[InstanceKey]:
        """Inactive units without an order of ours: as long as systemd does not list them, nothing has changed."""
        inactive = {key for key, state in self.seen.items() if state == "inactive"}
        return inactive - self.starts.keys() - self.drains.keys()

    def see(self, key: InstanceKey, unit: UnitFacts | None) -> None:
        state = unit.active_state if unit is not None else "inactive"
        before = self.seen.get(key)
        self.seen[key] = state
        if self.before.unfit(key) is not None:
            # What people did to ours before, and how it failed, says nothing of the one that they put in its place.
            self.starts.pop(key, None)
            self.failures.pop(key, None)
            if self._pinned_by_hand(key):
                del self.pins[key]
            return
        if self._was_skipped(key, before, unit):
            self._skipped(key)
        else:
            self._changed(key, state, before, unit)
            self._count_failures(key, state, before, unit)
        if state in _UP:
            self.starts.pop(key, None)
            self.booted.add(key)
        if state == "failed" or (state == "inactive" and key not in self.starts):
            self.drains.pop(key, None)  # but a drain ordered before our start is shown must be kept
        self._quiet_by_hand(key, unit, adopted=before is None)

    def _was_skipped(self, key: InstanceKey, before: str | None, unit: UnitFacts | None) -> bool:
        """Whether the scheduler's own unit has refused to start since we last looked, because another one runs."""
        age = unit.skipped_age_seconds if unit is not None and key == SCHEDULER else None
        if age is None:
            return False
        at, ordered, looked = self.now - age, self.starts.get(key), self.before.ticked_seconds
        if ordered is not None:  # one that is older than our order says nothing of it
            return at >= ordered - SKIP_SLACK_SECONDS
        return before in _UP or key in self.restarting or (looked is not None and at >= looked)

    def _skipped(self, key: InstanceKey) -> None:
        """No failure and nobody's stop. Whoever started it wanted it to run, and knows now that it can't."""
        self.starts.pop(key, None)
        self.restarting.discard(key)
        if self._pinned_by_hand(key):
            del self.pins[key]
        self.noticed.append(reasons.SchedulerSkipped())

    def _changed(self, key: InstanceKey, state: str, before: str | None, unit: UnitFacts | None) -> None:
        """Tell a restart that others ordered, from its first sign until the unit is up, from a start and a stop."""
        restarts = key in self.restarting
        self.restarting.discard(key)
        begins = before in _UP or (before is None and state == "deactivating")
        if (restarts or begins) and self._comes_back(key, state, unit):
            self.restarting.add(key)
            if not restarts and unit is not None and unit.job:  # what ends by itself is told as a death (deaths.py)
                self.restarted.append(key)
        elif state in _UP:
            if before is not None and before not in _UP and not restarts:
                self._came_up(key)
        elif (restarts or before in _UP) and state != "failed":
            self._went_down(key)

    def _comes_back(self, key: InstanceKey, state: str, unit: UnitFacts | None) -> bool:
        """Whether systemd is about to start a unit that stops or is down, and not by our order."""
        if unit is None or key in self.starts or state not in {"deactivating", "inactive"}:
            return False
        by_itself = state == "deactivating" and unit.job == "" and not self._stopped_by_us(key)
        return by_itself or unit.job in _STARTS

    def _count_failures(self, key: InstanceKey, state: str, before: str | None, unit: UnitFacts | None) -> None:
        ordered = self.starts.get(key)
        lost = ordered is not None and state == "inactive" and self.now - ordered >= ORDER_SECONDS
        died = state == "failed" and (before is None or before in _UP or ordered is not None)
        called_off = ordered is not None and state in _DOWN and self._is_called_off(ordered)
        refused = ordered is not None and state in _DOWN and self._was_refused(ordered)
        if called_off or refused or (lost and self._stopped_by_us(key)):  # it says nothing of the unit
            if lost or called_off or self.polkit_runs:
                self.starts.pop(key, None)
        elif lost or (died and not self._stopped_by_us(key)):
            result = unit.result if unit is not None else ""
            self.failures[key] = Failure(
                count=self.failures[key].count + 1 if key in self.failures else 1,
                last_seconds=self.now,
                cause=reasons.SystemdResult(result=result) if died else reasons.StartHadNoEffect(),
                ordered=ordered is not None,
            )
            self.starts.pop(key, None)
        elif before == "failed" and state == "inactive" and ordered is None and key in self.failures:
            del self.failures[key]  # `systemctl reset-failed`: a person has fixed it
            self.noticed.append(reasons.ResetByHand(key=key))
        if unit is not None and state == "active" and unit.state_age_seconds > FORGIVEN_SECONDS:
            self.failures.pop(key, None)
        elif state == "active" and key in self.failures:
            self.failures[key] = structs.replace(self.failures[key], ended=False)

    def _is_called_off(self, ordered_seconds: float) -> bool:
        """Whether people have stopped all workers since a start was ordered."""
        stopped = self.before.target.stopped_seconds
        return stopped is not None and ordered_seconds <= stopped + SAME_SECONDS

    def _was_refused(self, ordered_seconds: float) -> bool:
        """Whether systemd refused a start because polkit did not run, which says nothing of the unit."""
        return self.polkit_absent is not None and ordered_seconds <= self.polkit_absent

    def _pinned_by_hand(self, key: InstanceKey) -> bool:
        pin = self.pins.get(key)
        return pin is not None and pin.by == "hand"

    def _came_up(self, key: InstanceKey) -> None:
        pin, failure = self.pins.get(key), self.failures.get(key)
        late = failure is not None and failure.ordered and self.now - failure.last_seconds < LATE_SECONDS
        if key in self.before.starts or late:
            if pin is not None and pin.by == "hand":
                del self.pins[key]
            elif pin is not None and pin.wants == reasons.PinKind.STOPPED and key not in self.drains:
                # A person ordered it stopped before our start was shown, so it is drained.
                self.drains[key] = Drain(since_seconds=self.now, cause=reasons.KeptStoppedByPeople(person=pin.person))
        elif self._pinned_by_hand(key) and self._stopped_lately(key):
            del self.pins[key]
            self.returning.add(key)
            self.noticed.append(reasons.RestartedByHand(key=key))
        elif self._started_by_the_boot(key):
            if pin is not None and pin.wants == reasons.PinKind.STOPPED:  # the start of all is the later order
                del self.pins[key]
        else:
            self._pin(key, reasons.PinKind.RUN)

    def _stopped_lately(self, key: InstanceKey) -> bool:
        """By hand, a moment ago. After `fleetctl drain` a start by hand is the later order, and no restart."""
        pin = self.pins[key]
        return pin.wants == reasons.PinKind.STOPPED and self.now - pin.since_seconds < RESTART_SECONDS

    def _started_by_the_boot(self, key: InstanceKey) -> bool:
        """Whether systemd itself starts it: after a boot of the host, or because the target was started.

        It does that once. What was up since then and is started again was started by a person.
        """
        if key in self.booted:
            return False
        begun = [at for at in (self.before.since_seconds, self.before.target.started_seconds) if at is not None]
        at_boot = {n for p in self.policy.profiles for n in p.numbers[: p.min_instances]}
        rounds = math.ceil((len(at_boot) + 1) / self.policy.pace.booting_max)
        if not begun or self.now - max(begun) >= HOST_BOOT_SECONDS + HOST_BOOT_ROUND_SECONDS * rounds:
            return False
        return key == SCHEDULER or key in at_boot

    def _went_down(self, key: InstanceKey) -> None:
        """If we did not order this stop, a person did: pin the unit. Restarts by systemd never get here.

        Not one that went with the target, which is down for as long as that is, nor one that is left over.
        """
        if self._stopped_by_us(key):
            return
        self.drains.pop(key, None)
        if key in self.before.left_over:
            self.pins.pop(key, None)  # it is gone, and nothing would start it again
        elif self.before.target.stopped_seconds is None:
            self._pin(key, reasons.PinKind.STOPPED)
        elif (pin := self.pins.get(key)) is not None and pin.wants != reasons.PinKind.STOPPED:
            del self.pins[key]

    def _stopped_by_us(self, key: InstanceKey) -> bool:
        drain = self.drains.get(key)
        return drain is not None and drain.phase == DrainPhase.STOPPING

    def _quiet_by_hand(self, key: InstanceKey, unit: UnitFacts | None, *, adopted: bool) -> None:
        if self.seen[key] not in _UP or key in self.drains:
            return
        process = present_heartbeat(self.beats.get(key, []), unit)
        if process is None:
            return
        pin = self.pins.get(key)
        kept_quiet = pin is not None and pin.wants == reasons.PinKind.QUIET
        if not process.quiet:
            if kept_quiet:  # quiet can't be undone, so this is a new process
                del self.pins[key]
        elif self._goes_on_as_drain(pin if kept_quiet else None, adopted=adopted):
            # Quiet can't be undone: one found at the first look, or whose pin has expired, goes on as a drain.
            self.drains[key] = Drain(since_seconds=self.now, quiet_sent_seconds=self.now, cause=reasons.FoundQuiet())
        elif not kept_quiet:
            self._pin(key, reasons.PinKind.QUIET)
        elif pin is not None and self.now >= pin.until_seconds:  # fleetd only observes, so it stays as it is
            self.pins[key] = structs.replace(pin, until_seconds=self.now + self.policy.pace.pin_seconds)

    def _goes_on_as_drain(self, kept: Pin | None, *, adopted: bool) -> bool:
        """Whether a quiet process is drained. `kept`: the pin that keeps it quiet, which may have expired."""
        if self.policy.observes:  # only a person's `fleetctl release` does that then
            return kept is not None and kept.released
        return adopted or (kept is not None and self.now >= kept.until_seconds)

    def _pin(self, key: InstanceKey, wants: reasons.PinKind) -> None:
        kept = self.policy.pace.pin_seconds
        self.pins[key] = Pin(wants=wants, since_seconds=self.now, until_seconds=self.now + kept)
        self.noticed.append(reasons.PinnedByHand(key=key, wants=wants, kept_seconds=kept))

    def _is_kept(self, key: InstanceKey, pin: Pin) -> bool:
        """Whether to keep a pin. An expired one on a quiet process stays until a heartbeat lets its drain begin."""
        if key in self.before.left_over and self.seen.get(key) in _DOWN:
            return False
        if key in self.drains:
            return pin.wants == reasons.PinKind.STOPPED and self.now < pin.until_seconds
        return self.now < pin.until_seconds or (pin.wants == reasons.PinKind.QUIET and self.seen.get(key) in _UP)

    def _still_stands_in(self, key: InstanceKey, stopped: tuple[InstanceKey, ...]) -> bool:
        kept = any((pin := self.pins.get(n)) is not None and pin.wants == reasons.PinKind.STOPPED for n in stopped)
        return kept and (key in self.starts or self.seen.get(key) in _UP)

    def result(self, keys: dict[InstanceKey, None]) -> HostMemory:
        people, units = self.before.people, self.before.units
        return structs.replace(
            self.before,
            drains=_only(self.drains, keys),
            starts=_only(self.starts, keys),
            people=structs.replace(
                people,
                pins={k: v for k, v in self.pins.items() if k in keys and self._is_kept(k, v)},
                returning=tuple(sorted(k for k in self.returning if self.seen.get(k) == "activating")),
                stands_in={k: v for k, v in people.stands_in.items() if self._still_stands_in(k, v)},
            ),
            units=structs.replace(
                units,
                seen=_only(self.seen, keys),
                failures=_only(self.failures, keys),
                released=tuple(k for k in units.released if self.seen.get(k) == "failed" and k not in self.failures),
                restarting=tuple(sorted(self.restarting & keys.keys())),
                booted=tuple(sorted(self.booted & keys.keys())),
                replaced=_only(units.replaced, keys),
                polkit_absent_seconds=self.polkit_absent,
            ),
        )


def _only(found: dict[InstanceKey, _T], keys: dict[InstanceKey, None]) -> dict[InstanceKey, _T]:
    """Without units that the configuration does not name (any more)."""
    return found if found.keys() <= keys.keys() else {k: v for k, v in found.items() if k in keys}
