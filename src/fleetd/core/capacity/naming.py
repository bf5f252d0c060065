"""Whether the workers' connections really bear their names (law 2).

fleetd-render gives each worker a name for its connections, but more than that decides what Postgres sees: a
DATABASE_URL with `application_name` or `options`, a pooler in between, a unit's own environment. A worker without a
name that is counted by name is counted twice, as its claim and among others, and a fleet that does so drains itself.

Rails opens connections lazily, so an idle worker without one proves nothing, and neither does one that has just begun.
Evidence is a worker that is at work while no connection bears its name: from then on what it may have open can be
others' or its own, until its name is seen. Certainly others' is what is seen beyond the claims of such workers, and
growth is checked against all of it. While no name was ever seen, one such worker makes all of them doubtful, and so
does a rise of others that is younger than DOUBT_SECONDS: heartbeats are up to 10 s old, so a worker that has just
opened unnamed connections may still look idle.

Of another host's worker whose running jobs are left to the leader (core/sharing/who_reads.py) only the heartbeat is
known. At work it counts as if a job had begun lately, because its connections must not be counted twice. But only
whoever reads its jobs tells a person of it.
"""

from __future__ import annotations

from collections.abc import Set

from fleetd.core.model.facts import DatabaseFacts, Known, ProcessFacts, SidekiqFacts, Snapshot, Value
from fleetd.core.model.heartbeats import heartbeats_by_key, own_key, present_heartbeat
from fleetd.core.model.identity import application_name, parse_tag
from fleetd.core.model.reasons.evidence import NamesMissing

#: A worker that was busy and nameless at two beats at least, and not only while Postgres restarted.
SAID_SECONDS = 20.0
#: Long enough for a heartbeat of a worker that has just opened connections.
DOUBT_SECONDS = 15.0
#: Rails closes a connection that was idle for 300 s, so a job that has run for longer may have none left.
LONG_JOB_SECONDS = 240.0
#: Names in one reason.
_NAMES_MAX = 3


class NamingMemory(Value, frozen=True, kw_only=True):
    """What was seen of the names."""

    seen: bool = False  # some connection bore a worker's name, and none has been missed since without another seen
    missing_seconds: dict[str, float] = {}  # by application_name: since when a busy worker's is missed
    others_tell: frozenset[str] = frozenset()  # those of them whose running jobs this host does not read
    #: Those missed that were at work at a later beat, too. A worker whose host lost its power beats no more.
    beaten: frozenset[str] = frozenset()
    others_connections: int = 0  # those that bear no name of a worker, at the last reading
    rose_seconds: float | None = None  # when they last became more
    doubted: bool = False  # that happened less than DOUBT_SECONDS ago


def remember_naming(memory: NamingMemory, snapshot: Snapshot, sidekiq: SidekiqFacts | None, host: str) -> NamingMemory:
    """Fold in one reading of Postgres and of the heartbeats. `sidekiq`: the weighed ones; None: Redis is unknown."""
    names, now = _named(snapshot), snapshot.now_seconds
    if names is None or not isinstance(snapshot.database, Known):
        return memory
    missing = {name: since for name, since in memory.missing_seconds.items() if name not in names}
    others_tell, beaten = memory.others_tell, set(memory.beaten)
    if sidekiq is not None:
        busy, alive, others_tell = _at_work(_living(sidekiq, snapshot, host), host, now)
        if sidekiq.processes_complete:
            missing = {name: since for name, since in missing.items() if name in alive}
        missing |= dict.fromkeys(sorted(busy.keys() - names - missing.keys()), now)
        beaten |= {name for name, beat in busy.items() if beat > missing.get(name, now)}
    others = snapshot.database.value.others_connections
    rose = now if others > memory.others_connections else memory.rose_seconds
    return NamingMemory(
        seen=bool(names) or (memory.seen and not missing),
        missing_seconds=missing,
        others_tell=others_tell & missing.keys(),
        beaten=frozenset(beaten & missing.keys()),
        others_connections=others,
        rose_seconds=rose,
        doubted=rose is not None and 0.0 <= now - rose < DOUBT_SECONDS,
    )


def nameless(memory: NamingMemory, running: Set[str]) -> frozenset[str]:
    """Those of the running workers, by application_name, whose connections may be without their name."""
    if not memory.seen and (memory.missing_seconds or memory.doubted):
        return frozenset(running)
    return frozenset(name for name in running if name in memory.missing_seconds)


def names_missing(memory: NamingMemory, now_seconds: float) -> NamesMissing | None:
    """What to tell a person; None: all names that can be expected are there, or it is too early to say."""
    late = {
        n: now_seconds - since
        for n, since in memory.missing_seconds.items()
        if now_seconds - since >= SAID_SECONDS and n in memory.beaten and n not in memory.others_tell
    }
    if not late:
        return None
    return NamesMissing(
        names=tuple(sorted(late)[:_NAMES_MAX]),
        count=len(late),
        seconds=max(late.values()),
        none_seen=not memory.seen,
        none_open=memory.others_connections == 0,
    )


def _named(snapshot: Snapshot) -> frozenset[str] | None:
    """The names in Postgres and its replica; None: they can't be read now, or a pooler hides them."""
    if not isinstance(snapshot.database, Known) or snapshot.database.value.refused or snapshot.database.value.pooled:
        return None
    found = _open(snapshot.database.value)
    if isinstance(snapshot.replica, Known):
        found |= _open(snapshot.replica.value)
    return frozenset(found)


def _open(facts: DatabaseFacts) -> set[str]:
    return {name for name, connections in facts.worker_connections.items() if connections}


def _living(sidekiq: SidekiqFacts, snapshot: Snapshot, host: str) -> list[ProcessFacts]:
    """All processes, without those of this host's units of which systemd knows that they have ended.

    The heartbeat of one that was killed says for up to a minute that it is at work, and its connections are closed.
    """
    if not isinstance(snapshot.systemd, Known):
        return list(sidekiq.processes)
    units = snapshot.systemd.value.units
    ended: set[str] = set()
    for key, own in heartbeats_by_key(sidekiq.processes, host).items():
        unit = units.get(key)
        if unit is not None:
            present = present_heartbeat(own, unit)
            ended |= {p.identity for p in own if p is not present}
    return [p for p in sidekiq.processes if p.identity not in ended]


def _at_work(
    processes: list[ProcessFacts], host: str, now_seconds: float
) -> tuple[dict[str, float], frozenset[str], frozenset[str]]:
    """By application_name: workers with a job begun lately and their last beat, all alive, those with jobs unread."""
    busy, alive, unread = dict[str, float](), set[str](), set[str]()
    for process in processes:
        tag = parse_tag(process.tag)
        key = own_key(process, host)
        if tag is not None:
            name = application_name(tag.key, tag.host)
        elif key is not None:
            name = application_name(key, host)
        else:
            continue
        alive.add(name)
        recent = any(job.run_age_seconds <= LONG_JOB_SECONDS for job in process.jobs) or not process.jobs
        if process.busy_threads and recent:
            busy[name] = max(now_seconds - process.beat_age_seconds, busy.get(name, 0.0))
        if process.without_jobs:
            unread.add(name)
    return busy, frozenset(alive), frozenset(unread)
