"""Whose running jobs a host reads: the leader all, any other one its own.

Law 3: whoever is alone, leads, or does not know who leads reads all. What was not asked for is unknown, never zero. The
reading in which a host hears that it leads lacks the others' jobs, so in that tick as many threads count as before.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import ProcessFacts, SidekiqFacts
from fleetd.core.model.heartbeats import own_key


def jobs_of_others(tick: HostTick) -> frozenset[str]:
    """The processes, by identity, whose running jobs this host's next reading does not ask for.

    A process that is new by then is not among them: whose it is shows only once it was read.
    """
    host = tick.policy.host
    if tick.sidekiq is None or not tick.fleet.follows(host):
        return frozenset()
    return frozenset(p.identity for p in tick.sidekiq.processes if own_key(p, host) is None)


def leaving_out(facts: SidekiqFacts, without_jobs_of: frozenset[str]) -> SidekiqFacts:
    """What a reading would be that does not ask for the running jobs of these; for worlds that know them all."""

    def seen(process: ProcessFacts) -> ProcessFacts:
        if process.identity not in without_jobs_of or not process.busy_threads:
            return process
        return structs.replace(process, jobs=(), busy_by_queue=None, young_by_queue={}, without_jobs=True)

    return structs.replace(facts, processes=tuple(map(seen, facts.processes)))
