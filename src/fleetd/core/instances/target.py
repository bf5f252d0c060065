"""Whether people have stopped all workers of this host: mastodon-sidekiq.target.

Law 6: while it is stopped, fleetd starts nothing. That is a fact of systemd's and no order to fleetd, so it does not
expire: starting the target ends it. A target that never ran in this boot says nothing. fleetd may be enabled before it.

systemd forgets a unit that it has unloaded, and what can't be read is unknown. In both cases what was last seen holds.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory, TargetMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import TargetFacts

_UP = frozenset({"active", "activating", "reloading"})
#: The jobs of a target that will be up. While a restart stops the workers, the target itself may be down for a moment.
_STARTS = frozenset({"start", "restart", "try-restart"})
#: By how much two readings of one stop may differ.
SAME_SECONDS = 5.0


def remember_target(tick: HostTick, memory: HostMemory) -> HostMemory:
    """Fold in what systemd says of the target now."""
    if tick.systemd is None:
        return memory
    target = _seen(tick.systemd.target, memory.target, tick.now_seconds)
    return memory if target == memory.target else structs.replace(memory, target=target)


def _seen(facts: TargetFacts | None, before: TargetMemory, now_seconds: float) -> TargetMemory:
    if facts is not None and (facts.active_state in _UP or facts.job in _STARTS):
        started = now_seconds if before.up is False else before.started_seconds
        return TargetMemory(up=True, started_seconds=started)
    stopped = before.stopped_seconds
    if facts is not None and facts.stopped_age_seconds is not None:
        read = now_seconds - facts.stopped_age_seconds
        if stopped is None or abs(stopped - read) > SAME_SECONDS:
            stopped = read
    elif before.up:
        stopped = now_seconds
    return structs.replace(before, up=False, stopped_seconds=stopped)
