"""When a rollout that was given up is over: once what failed in it has changed or works again.

Until then it is shown, and no other begins by itself.
"""

from __future__ import annotations

import hashlib

import msgspec

from fleetd.core.instances.host_memory import HostMemory, Rollout
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.reasons.units import RolloutGivenUp

#: How long the end of a rollout is shown; and after how long one that was given up may be tried again unchanged.
SHOWN_SECONDS = 3600.0
_DIGEST_LETTERS = 16


def tried_with(tick: HostTick, key: InstanceKey) -> str:
    """The digest of all that a start of this instance depends on, as far as fleetd can see it; "": unknown.

    That is: its settings, its unit file with the drop-ins, Mastodon's code, and the whole configuration.
    """
    machine = tick.machine
    if machine is None:
        return ""
    unit = SCHEDULER_UNIT if key == SCHEDULER else TEMPLATE_UNIT
    policy = msgspec.structs.replace(tick.policy, mode="act")  # observing changes nothing of what failed
    parts = (policy, machine.rendered.get(key), machine.unit_digests.get(unit, ""), machine.code)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:_DIGEST_LETTERS]


def is_over(tick: HostTick, memory: HostMemory, rollout: Rollout) -> bool:
    """Whether a rollout that was given up neither is shown nor keeps another from beginning any more."""
    if tick.now_seconds - rollout.ended_seconds > SHOWN_SECONDS:
        return True
    if not isinstance(rollout.waits, RolloutGivenUp):
        return False
    key = rollout.waits.key
    if key not in memory.units.failures:  # released, reset, or forgotten after it had run for a while
        return True
    view, now_with = tick.view(key), tried_with(tick, key)
    serves_again = view is not None and view.serves
    return serves_again or (bool(rollout.tried_with and now_with) and rollout.tried_with != now_with)
