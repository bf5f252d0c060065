"""One reading folded into everything that demand remembers: of one host, and of a fleet as one (core/sharing)."""

from __future__ import annotations

from fleetd.core.demand.needed import DemandMemory, Needed, needed_instances, remember
from fleetd.core.demand.unserved import UnservedMemory, remember_unserved
from fleetd.core.instances.host_tick import HostTick


def fold(
    tick: HostTick, demand: DemandMemory, unserved: UnservedMemory
) -> tuple[Needed | None, DemandMemory, UnservedMemory]:
    """What is needed now, and both memories with this reading. While Redis is unknown: None, and nothing new."""
    if tick.sidekiq is None:
        return None, demand, unserved
    silent = {v.profile for v in tick.active if v.lacks_heartbeat}
    queues = frozenset(q for p in tick.policy.profiles if p.name in silent for q, _ in p.queues)
    demand = remember(tick.policy, demand, tick.sidekiq, tick.now_seconds, queues)
    unserved = remember_unserved(tick.policy, unserved, tick.sidekiq, tick.now_seconds)
    return needed_instances(tick, tick.sidekiq, demand), demand, unserved
