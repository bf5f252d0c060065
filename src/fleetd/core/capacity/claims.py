"""Claims: how many connections Sidekiq processes may open, by what each was started with (law 2).

Rails opens connections lazily, so a fleet counted by open connections looks fine at first and overruns the database an
hour later. Law 3: while heartbeats can't be read, the last claims read from them count. While one of them can't be
understood, the greater of the old and the new claim counts.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.weigh import Evidence
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Known, SidekiqFacts, Value
from fleetd.core.model.heartbeats import claim_of
from fleetd.core.model.identity import SCHEDULER, application_name, parse_tag

#: Worker names remembered from heartbeats: those of as many processes as one reading has.
TAGGED_NAMES_MAX = 2000


class ProcessClaims(Value, frozen=True, kw_only=True):
    """The claims in Sidekiq's heartbeats, when they could last be read."""

    foreign_connections: int = 0  # of processes that fleetd did not render
    foreign_hosts: tuple[str, ...] = ()  # host names of those, three at most
    tagged_connections: dict[str, int] = {}  # by application_name: of processes it rendered, on every host


class Claims(Value, frozen=True, kw_only=True):
    """Connections that the processes fleetd rendered may open, by application_name, on every host."""

    connections: dict[str, int]
    nameless: frozenset[str] = frozenset()  # whose connections may not bear their name (naming.py)

    @property
    def nameless_connections(self) -> int:
        return sum(self.connections.get(name, 0) for name in self.nameless)

    @property
    def total_connections(self) -> int:
        return sum(self.connections.values())

    def staying_connections(self, tick: HostTick) -> int:
        """The total without this host's instances that are leaving or gone."""
        staying = {v.key for v in tick.active if v.is_capacity or v.state == InstanceState.STALLED}
        numbers = {n for profile in tick.policy.profiles for n in profile.numbers}
        numbers |= {v.key for v in tick.active if v.left_over}
        leaving = {application_name(n, tick.policy.host) for n in numbers if n not in staying}
        return sum(n for name, n in self.connections.items() if name not in leaving)


#: How long a ghost (core/evidence) keeps its claim.
GHOST_CLAIM_SECONDS = 300.0
#: Host names kept, to be named in a sentence.
_HOSTS_MAX = 3


def remember_processes(memory: ProcessClaims, sidekiq: SidekiqFacts, host: str, evidence: Evidence) -> ProcessClaims:
    """Fold in what every process may open, by its heartbeat.

    A ghost's process has ended, but Postgres may not have noticed yet, so its claim counts for GHOST_CLAIM_SECONDS.
    """
    ages = evidence.ghost_ages_seconds
    ghosts = tuple(g for g in evidence.ghosts if ages[g.identity] < GHOST_CLAIM_SECONDS)
    tagged: dict[str, int] = {}
    foreign, hosts = 0, set[str]()
    for process in (*sidekiq.processes, *ghosts):
        tag = parse_tag(process.tag)
        if tag is not None:
            name = application_name(tag.key, tag.host)
        elif process.own_key is not None:
            name = application_name(process.own_key, host)
        else:
            foreign += claim_of(process)
            hosts.add(process.hostname)
            continue
        # Law 7: names beyond the bound share one entry.
        if name in tagged or len(tagged) < TAGGED_NAMES_MAX:
            tagged[name] = max(tagged.get(name, 0), claim_of(process))
        else:
            tagged["(more)"] = tagged.get("(more)", 0) + claim_of(process)
    found = ProcessClaims(
        foreign_connections=foreign, foreign_hosts=tuple(sorted(hosts)[:_HOSTS_MAX]), tagged_connections=tagged
    )
    return found if sidekiq.processes_complete else _most(memory, found)


def _most(old: ProcessClaims, new: ProcessClaims) -> ProcessClaims:
    names = [*new.tagged_connections, *(n for n in old.tagged_connections if n not in new.tagged_connections)]
    tagged = {
        name: max(old.tagged_connections.get(name, 0), new.tagged_connections.get(name, 0))
        for name in names[: TAGGED_NAMES_MAX + 1]
    }
    more = old if old.foreign_connections > new.foreign_connections else new
    return structs.replace(more, tagged_connections=tagged)


def running_names(tick: HostTick, processes: ProcessClaims) -> frozenset[str]:
    """The application_names of all workers that run or start, on every host."""
    return frozenset({*(application_name(v.key, tick.policy.host) for v in tick.active), *processes.tagged_connections})


def count_claims(tick: HostTick, processes: ProcessClaims) -> Claims:
    """What the processes fleetd rendered may open now, on every host, including those that start, drain or are stray.

    For each name the greatest of three counts: the claim of a unit that runs or starts on this host, the claim in its
    heartbeat (`processes` must already include this reading), and the connections that Postgres or a replica sees open,
    even after the unit is gone. A host that may have to start the scheduler always includes the scheduler's claim,
    unless it is known to be another host's.
    """
    policy, snapshot = tick.policy, tick.snapshot
    by_name = {application_name(v.key, policy.host): v.claim_connections for v in tick.active}
    scheduler = application_name(SCHEDULER, policy.host)
    slot = tick.fleet.slot
    # If another host holds it, the ledger sets one aside for all hosts.
    held_elsewhere = slot is not None and slot.holder not in ("", policy.host)
    if policy.scheduler.place != "elsewhere" and not held_elsewhere:
        by_name[scheduler] = max(by_name.get(scheduler, 0), policy.scheduler.claim_connections)
    observed = [
        reading.value.worker_connections
        for reading in (snapshot.database, snapshot.replica)
        if isinstance(reading, Known)
    ]
    for seen in (processes.tagged_connections, *observed):
        for name, connections in seen.items():
            by_name[name] = max(by_name.get(name, 0), connections)
    return Claims(connections=by_name)
