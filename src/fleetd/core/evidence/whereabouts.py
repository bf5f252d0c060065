"""Whether our workers beat in the Redis that is read, and whether this host's name is its own."""

from __future__ import annotations

from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, SystemdFacts, Value
from fleetd.core.model.heartbeats import heartbeats_by_key, own_key, present_heartbeat
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.evidence import HostNamedTwice, WorkersBeatElsewhere

#: The first heartbeat comes within 10 s after READY. A unit that has been READY for this long has sent several.
READY_SECONDS = 60.0
#: How long readings must prove that heartbeats could have been written.
UNHEARD_SECONDS = 30.0
#: A process whose heartbeat is younger beats now. Sidekiq beats every 5 or 10 s.
BEATS_NOW_SECONDS = 15.0
#: Longer than BEATS_NOW_SECONDS and a restart by systemd together.
TWIN_SECONDS = 60.0
_READY = frozenset({"active", "reloading"})


class WhereaboutsMemory(Value, frozen=True, kw_only=True):
    """Whether our workers were ever heard in the Redis that is read."""

    heard_in: str = ""  # run_id of the Redis in which a heartbeat of ours was last seen
    unheard_seconds: float = 0.0  # how long none was, although our units run and others could write


def remember_whereabouts(
    memory: WhereaboutsMemory, facts: SidekiqFacts, systemd: SystemdFacts | None, host: str, proved_seconds: float
) -> WhereaboutsMemory:
    """Fold in one reading. Workers that were heard in this Redis before do not beat elsewhere: they are silent."""
    if any(own_key(process, host) is not None for process in facts.processes):
        return WhereaboutsMemory(heard_in=facts.redis_run_id)
    if memory.heard_in == facts.redis_run_id:
        return memory
    if systemd is None or not facts.processes_complete:
        return memory
    unheard = memory.unheard_seconds + proved_seconds if _long_ready(systemd) else 0.0
    return WhereaboutsMemory(heard_in=memory.heard_in, unheard_seconds=unheard)


def beat_elsewhere(
    memory: WhereaboutsMemory, facts: SidekiqFacts, systemd: SystemdFacts | None
) -> WorkersBeatElsewhere | None:
    """That our workers beat in another Redis than this one; None: they may well beat here."""
    if systemd is None or memory.unheard_seconds < UNHEARD_SECONDS:
        return None
    return WorkersBeatElsewhere(keys=_long_ready(systemd), reads=facts.endpoint, workers=facts.workers_endpoint)


def _long_ready(systemd: SystemdFacts) -> tuple[InstanceKey, ...]:
    ready = (k for k, u in systemd.units.items() if u.active_state in _READY and u.state_age_seconds >= READY_SECONDS)
    return tuple(sorted(ready))


def remember_twins(
    before: dict[InstanceKey, float],
    processes: tuple[ProcessFacts, ...],
    systemd: SystemdFacts | None,
    host: str,
    elapsed_seconds: float | None,
) -> tuple[tuple[HostNamedTwice, ...], dict[InstanceKey, float]]:
    """Units with this host's name that beat but were not started here, and for how long each has been seen.

    A process that has just ended has beaten lately, so one counts as a twin only after TWIN_SECONDS.
    """
    if systemd is None:
        return (), before
    found, seen = [], {}
    for key, own in sorted(heartbeats_by_key(processes, host).items()):
        mine = present_heartbeat(own, systemd.units.get(key))
        others = [p for p in own if p is not mine and p.beat_age_seconds < BEATS_NOW_SECONDS]
        if not others:
            continue
        seen[key] = before[key] + elapsed_seconds if key in before and elapsed_seconds is not None else 0.0
        if seen[key] >= TWIN_SECONDS:
            found.append(HostNamedTwice(name=host, hostname=others[0].hostname, key=key))
    return tuple(found), seen
