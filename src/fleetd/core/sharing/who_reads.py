"""Whose running jobs a host reads: the leader all, any other one its own.

Law 3: whoever is alone, leads, or does not know who leads reads all. What was not asked for is unknown, never zero. The
reading in which a host hears that it leads lacks the others' jobs, so in that tick as many threads count as before.
"""

from __future__ import annotations

from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.heartbeats import own_key


def jobs_of_others(tick: HostTick) -> frozenset[str]:
    """The processes, by identity, whose running jobs this host's next reading does not ask for.

    A process that is new by then is not among them: whose it is shows only once it was read.
    """
    host = tick.policy.host
    if tick.sidekiq is None or not tick.fleet.follows(host):
        return frozenset()
    return frozenset(p.identity for p in tick.sidekiq.processes if own_key(p, host) is None)
