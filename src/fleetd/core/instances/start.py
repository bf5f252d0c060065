"""Which numbers may be started, and why the others may not.

Law 6: an instance that a person stopped is not started. A number that failed is tried again after growing pauses, and
given up after a bounded number of tries. If all instances of a profile fail, only one of them is tried at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import structs

from fleetd.core.instances.host_memory import Failure, HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import HostFacts, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Profile
from fleetd.core.model.worker_settings import instance_digest

_IDLE = frozenset({InstanceState.STOPPED, InstanceState.FAILED, InstanceState.PINNED})


class FreeNumbers(Value, frozen=True, kw_only=True):
    """Numbers of a profile that may be started now, lowest first, and those that may not."""

    free: tuple[InstanceKey, ...]
    stopped_by_hand: tuple[InstanceKey, ...] = ()
    masked: tuple[InstanceKey, ...] = ()
    masking_units: tuple[str, ...] = ()
    not_rendered: tuple[InstanceKey, ...] = ()
    failed: tuple[InstanceKey, ...] = ()

    def blocked(self, memory: HostMemory, now_seconds: float) -> Iterator[tuple[reasons.ClampReason, int]]:
        """Why the other numbers may not be started, and how many each reason concerns."""
        if self.stopped_by_hand:
            yield reasons.StoppedByHand(keys=self.stopped_by_hand), len(self.stopped_by_hand)
        if self.masked:
            yield reasons.UnitsMasked(keys=self.masked, units=self.masking_units), len(self.masked)
        if self.not_rendered:
            yield reasons.NotRendered(keys=self.not_rendered), len(self.not_rendered)
        if self.failed:
            yield start_failed(self.failed, memory, now_seconds), len(self.failed)


def start_up_to(
    tick: HostTick,
    profile: Profile,
    own: list[InstanceView],
    running: int,
    admitted: int,
    starts_left: int,
    decision: HostDecision,
) -> int:
    """Start the lowest free numbers; returns how many. `own`: the profile's instances without a step in this tick."""
    numbers, now = free_numbers(tick, profile, own, decision.memory), tick.now_seconds
    free = len(numbers.free)
    if running + free < admitted:
        _add_blocked(profile, numbers, admitted, running + free, decision, now)
    count = min(admitted - running, starts_left, free)
    if count < min(admitted - running, free):
        pace = tick.policy.pace
        reason = reasons.StartsPaced(starts_per_tick=pace.starts_per_tick, booting_max=pace.booting_max)
        before = min(admitted, running + free)
        decision.clamps.add(reason, profile.name, before=before, after=running + count)
    stands_in = numbers.stopped_by_hand if admitted <= profile.min_instances else ()
    why = reasons.FewerThanAdmitted(
        profile=profile.name,
        running_instances=running,
        admitted_instances=admitted,
        instead_of=stands_in,
        min_instances=profile.min_instances,
    )
    for view in own:
        if view.key not in numbers.free[:count]:
            continue
        if stands_in:
            people = decision.memory.people
            people = structs.replace(people, stands_in={**people.stands_in, view.key: stands_in})
            decision.memory = structs.replace(decision.memory, people=people)
        decision.order("start", view, why)
        decision.memory = decision.memory.with_start(view.key, now)
    return count


def free_numbers(tick: HostTick, profile: Profile, own: list[InstanceView], memory: HostMemory) -> FreeNumbers:
    """Which of `own` may be started now, and why the others may not."""
    found: dict[str, list[InstanceKey]] = {"free": [], "by_hand": [], "masked": [], "not_rendered": [], "failed": []}
    for view in own:
        if view.state not in _IDLE or view.is_present:
            continue  # a start ordered a moment ago counts as starting, so it isn't given twice
        if view.pinned == reasons.PinKind.STOPPED:
            found["by_hand"].append(view.key)
        elif tick.machine is not None and tick.machine.masks(view.key) is not None:
            found["masked"].append(view.key)
        elif not is_rendered(tick.machine, profile, view.key):
            found["not_rendered"].append(view.key)
        elif not memory.units.may_retry(view.key, tick.now_seconds):
            found["failed"].append(view.key)
        else:
            found["free"].append(view.key)
    if _all_fail(own, memory, tick.now_seconds):
        one_is_tried = any(v.state == InstanceState.STARTING for v in own)
        tried = [n for n in found["free"] if n in memory.units.failures and not one_is_tried][:1]
        found["failed"] += [n for n in found["free"] if n not in tried]
        found["free"] = tried
    return FreeNumbers(
        free=tuple(found["free"]),
        stopped_by_hand=tuple(found["by_hand"]),
        masked=tuple(found["masked"]),
        masking_units=masking_units(tick.machine, found["masked"]),
        not_rendered=tuple(found["not_rendered"]),
        failed=tuple(found["failed"]),
    )


def masking_units(machine: HostFacts | None, keys: Iterable[InstanceKey]) -> tuple[str, ...]:
    """The units to unmask for these to start."""
    found = (machine.masks(key) for key in keys) if machine is not None else ()
    return tuple(dict.fromkeys(unit for unit in found if unit is not None))


def is_rendered(machine: HostFacts | None, profile: Profile, key: InstanceKey) -> bool:
    """Whether a start would use the configured settings; otherwise it would use old ones, or fail."""
    if machine is None:
        return True  # unknown; a start without settings fails, because the unit asserts that they exist
    settings = machine.rendered.get(key)
    return settings is not None and settings.profile == profile.name and settings.digest == instance_digest(profile)


def _all_fail(own: list[InstanceView], memory: HostMemory, now_seconds: float) -> bool:
    """Whether two numbers failed and none has come up since: then the next one would fail as well."""
    failures = memory.units.failures
    failed = [failures[v.key].last_seconds for v in own if v.key in failures]
    if len(failed) < 2:
        return False
    return not any(v.serves and v.state_age_seconds < now_seconds - max(failed) for v in own)


def _add_blocked(
    profile: Profile, numbers: FreeNumbers, admitted: int, reachable: int, decision: HostDecision, now_seconds: float
) -> None:
    left = admitted
    for reason, count in numbers.blocked(decision.memory, now_seconds):
        after = max(reachable, left - count)
        decision.clamps.add(reason, profile.name, before=left, after=after)
        left = after
    if left > reachable:
        decision.clamps.add(reasons.NoNumberFree(), profile.name, before=left, after=reachable)


def start_failed(keys: tuple[InstanceKey, ...], memory: HostMemory, now_seconds: float) -> reasons.StartFailed:
    """Why these are not started now, and what comes next."""
    failures = {k: f for k in keys if (f := memory.units.failures.get(k)) is not None}
    given_up = [k for k in keys if memory.units.given_up(k)]
    if given_up:
        return reasons.StartFailed(keys=keys, tried_key=given_up[0], given_up=True)
    if not failures:
        return reasons.StartFailed(keys=keys)

    def retry_at(item: tuple[InstanceKey, Failure]) -> float:
        return item[1].retry_at_seconds

    key, failure = min(failures.items(), key=retry_at)
    return reasons.StartFailed(
        keys=keys,
        tried_key=key,
        failures=failure.count,
        cause=failure.cause,
        retry_seconds=max(0.0, failure.retry_at_seconds - now_seconds),
    )
