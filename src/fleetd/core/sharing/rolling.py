"""What a host tells of its rollout, so that of several hosts one at a time replaces instances (rolls.py)."""

from __future__ import annotations

from typing import Literal

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model import reasons

#: busy: an instance is being replaced. ready: the next one is to be. "": none is, or that waits for something else, so
#: that other hosts need not wait for this one.
Rolls = Literal["", "ready", "busy"]

_BLOCKED = (
    reasons.Held,
    reasons.NextNotRendered,
    reasons.NoConnectionForNext,
    reasons.NoneComesUp,
    reasons.NotWhileLate,
    reasons.SchedulerTooYoung,
    reasons.QuietsUnconfirmed,
)


def rolls_of(memory: HostMemory) -> Rolls:
    """As this host's last tick left it."""
    rollout = memory.rollout_under_way
    if rollout is None:
        return ""
    drains = any(drain.by_rollout for drain in memory.drains.values())
    if drains or rollout.spare is not None or rollout.unavailable_in is not None or memory.scheduler_handover:
        return "busy"
    return "" if isinstance(rollout.waits, _BLOCKED) else "ready"
