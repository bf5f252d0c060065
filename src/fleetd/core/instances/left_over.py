"""Instances that are left over: fleetd rendered their settings, and the configuration names them no more.

Law 6: they are ours, because fleetd-render wrote what they run with, and keeps it until they are gone. An instance that
a person started with a number that was never ours is left alone. What is left over counts as its profile's capacity,
and is replaced as outdated ones are: by another number where the profile still exists (rollout.py), else by nothing.
None is ever started. Law 2: those of a removed profile are the first to go when claims exceed the budget, even in a
pause, because no `min` needs them.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.facts import SystemdFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey

_GONE = frozenset({"inactive", "failed"})


def remember_left_over(tick: HostTick, memory: HostMemory) -> HostMemory:
    """Fold in which rendered numbers the configuration does not name. While that can't be read, the last known stay."""
    known = dict(memory.left_over)
    if tick.machine is not None:
        known = {k: s for k, s in known.items() if tick.systemd is not None and is_up(tick.systemd, k)}
        known |= tick.machine.rendered
    left = {k: s for k, s in sorted(known.items()) if k != SCHEDULER and tick.policy.profile_of(k) is None}
    return memory if left == memory.left_over else structs.replace(memory, left_over=left)


def is_up(systemd: SystemdFacts, key: InstanceKey) -> bool:
    """Whether it has a process, or is about to."""
    unit = systemd.units.get(key)
    return unit is not None and unit.active_state not in _GONE


def orphans(tick: HostTick) -> list[InstanceView]:
    """Instances left over of a profile that was removed, without those that people keep running."""
    return [
        v
        for v in tick.active
        if v.left_over and v.is_capacity and v.pinned != reasons.PinKind.RUN
        if tick.policy.profile(v.profile or "") is None
    ]
