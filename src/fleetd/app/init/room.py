"""What there is for workers: connections left by web, streaming and others, memory, and cores. Values in, values out.

The arithmetic of connections is that of the daemon's budget (core/capacity/budget.py), foreseen for the moment when the
Sidekiqs that run here now have stopped.
"""

from __future__ import annotations

from typing import Literal

from fleetd.app.init.found import Found, SourceFound
from fleetd.core.model.facts import ProcessFacts, Value
from fleetd.core.model.heartbeats import claim_of
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy_tables import CLAIM_MARGIN_CONNECTIONS, ConnectionPolicy, DeclaredClaim, MemoryPolicy
from fleetd.core.model.reasons.base import ConnectionSource

#: Where a server does not say its limit: Debian's max_connections less the 3 that Postgres keeps for superusers, and
#: PgBouncer's own default of max_client_conn.
ASSUMED_LIMIT_CONNECTIONS: dict[ConnectionSource, int] = {"postgres": 97, "pgbouncer": 100}
#: Mastodon's config/puma.rb and streaming/.
WEB_PROCESSES, WEB_THREADS, STREAMING_POOL = 2, 5, 10
RESERVE_CONNECTIONS = ConnectionPolicy().reserve
_MIB = 1024**2
_STEP_BYTES = 64 * _MIB
#: Below this the defaults of [memory] leave a small VM nothing; what "4 GB" are, less what the kernel keeps, is above.
SMALL_HOST_BYTES = 3584 * _MIB
#: After this an instance has grown to its size.
GROWN_SECONDS = 86_400.0
_LEAST_INSTANCE_BYTES = 512 * _MIB


class Claim(Value, frozen=True, kw_only=True):
    """What somebody else may open. `here`: it runs on this host. `parts`: the numbers that it is the product of."""

    declared: DeclaredClaim
    parts: tuple[int, ...] = ()
    here: bool = True


class SourceRoom(Value, frozen=True, kw_only=True):
    """One limit with its arithmetic. `left` = limit − reserve − others − elsewhere, and may be below 0."""

    source: ConnectionSource
    limit_connections: int
    others_connections: int
    elsewhere_connections: int = 0  # that workers which fleetd rendered on other hosts may open
    known: bool = True
    pool_connections: int | None = None

    @property
    def left_connections(self) -> int:
        kept = RESERVE_CONNECTIONS + self.others_connections + self.elsewhere_connections
        return self.limit_connections - kept


class MemoryRoom(Value, frozen=True, kw_only=True):
    """`instances`: how many fit besides the scheduler, once the Sidekiqs that run here now have stopped; at least 1."""

    instance_bytes: int
    reserve_bytes: int
    free_bytes: int
    instances: int
    size_from: Literal["default", "measured", "small"] = "default"
    short: bool = False  # not even one fits


class Room(Value, frozen=True, kw_only=True):
    """`core_instances`: how many Ruby processes these cores keep busy, web's not among them."""

    sources: tuple[SourceRoom, ...]
    claims: tuple[Claim, ...]
    memory: MemoryRoom | None  # None: unknown
    core_instances: int
    web_here: bool

    @property
    def tightest(self) -> SourceRoom:
        return min(self.sources, key=lambda source: source.left_connections)


def room(found: Found, *, scheduler: bool) -> Room:
    """`scheduler`: one runs here, and takes memory."""
    claims = _claims(found)
    web_here = bool(found.running("web"))
    sources = [_source(found, source, claims) for source in found.servers.sources if _binds(found, source)]
    if not any(source.source != "replica" for source in sources):
        sources.append(_assumed(found, claims))
    return Room(
        sources=tuple(sources),
        claims=claims,
        memory=_memory(found, scheduler),
        core_instances=1 if found.cores < 2 else max(2, found.cores // 2 if web_here else found.cores),
        web_here=web_here,
    )


def _binds(found: Found, source: SourceFound) -> bool:
    """Workers reach Postgres behind PgBouncer through its pools, whatever they claim."""
    through = "pgbouncer" in found.servers.watched
    return source.source != "postgres" or not through


def _claims(found: Found) -> tuple[Claim, ...]:
    web, streaming = found.running("web"), found.running("streaming")
    said = found.mastodon.sizes
    each = [{**said, **unit.sizes} for unit in web] or [said]
    processes = sum(max(1, own.get("WEB_CONCURRENCY", WEB_PROCESSES)) for own in each)  # 0: one process without workers
    threads = max(max(1, own.get("MAX_THREADS", WEB_THREADS)) for own in each)
    claims = [_claim("web", (processes, threads), here=bool(web))]
    if "replica" in found.servers.watched:
        claims.append(_claim("web", (processes, threads), here=bool(web), on="replica"))
    own = {**said, **(streaming[0].sizes if streaming else {})}
    clusters = max(1, own.get("STREAMING_CLUSTER_NUM", 1))  # Mastodon before 4.2
    pool = max(1, own.get("DB_POOL", STREAMING_POOL))
    claims.append(_claim("streaming", (max(1, len(streaming)) * clusters, pool), here=bool(streaming)))
    more = max((s.other_roles_connections for s in found.servers.sources if s.source == "postgres"), default=0)
    if more and not any(s.source == "pgbouncer" for s in found.servers.sources):
        claims.append(Claim(declared=DeclaredClaim(name="other programs", connections=more)))
    return tuple(claims)


def _claim(name: str, parts: tuple[int, int], *, here: bool, on: Literal["database", "replica"] = "database") -> Claim:
    connections = min(100_000, parts[0] * parts[1])
    return Claim(declared=DeclaredClaim(name=name, connections=connections, on=on), parts=parts, here=here)


def _declared(claims: tuple[Claim, ...], on: Literal["database", "replica"]) -> int:
    return ConnectionPolicy(declared=tuple(claim.declared for claim in claims)).declared_connections(on)


def _source(found: Found, source: SourceFound, claims: tuple[Claim, ...]) -> SourceRoom:
    declared = _declared(claims, "replica" if source.source == "replica" else "database")
    foreign, ours = _elsewhere(found)
    seen = max(0, source.seen_connections - leaving_connections(found))
    return SourceRoom(
        source=source.source,
        limit_connections=source.limit_connections,
        others_connections=max(declared + foreign, seen),
        elsewhere_connections=ours,
        pool_connections=source.pool_connections,
    )


def _assumed(found: Found, claims: tuple[Claim, ...]) -> SourceRoom:
    source: ConnectionSource = "pgbouncer" if "pgbouncer" in found.servers.watched else "postgres"
    foreign, ours = _elsewhere(found)
    return SourceRoom(
        source=source,
        limit_connections=ASSUMED_LIMIT_CONNECTIONS[source],
        others_connections=_declared(claims, "database") + foreign,
        elsewhere_connections=ours,
        known=False,
    )


def _elsewhere(found: Found) -> tuple[int, int]:
    """What Sidekiqs of other hosts may open: those that fleetd did not render, and those that it did."""
    foreign = ours = 0
    for process in found.servers.processes or ():
        tag = parse_tag(process.tag)
        if tag is None and process.hostname != found.host:
            foreign += claim_of(process)
        elif tag is not None and tag.host != found.host:
            ours += claim_of(process)
    return foreign, ours


def leaving_connections(found: Found) -> int:
    """What the Sidekiqs of this host may have open that fleetd's workers replace."""
    if found.servers.processes is not None:
        return sum(claim_of(p) for p in replaced(found))
    units = [s.sidekiq for s in found.running("sidekiq") if s.active and s.sidekiq is not None]
    return sum(command.threads + CLAIM_MARGIN_CONNECTIONS for command in units)


def replaced(found: Found) -> tuple[ProcessFacts, ...]:
    """Sidekiqs of this host that fleetd did not render."""
    processes = found.servers.processes or ()
    return tuple(p for p in processes if p.hostname == found.host and parse_tag(p.tag) is None)


def _memory(found: Found, scheduler: bool) -> MemoryRoom | None:
    memory = found.memory
    if memory is None:
        return None
    instance, reserve, size_from = _sizes(found, memory.total_bytes)
    free = memory.available_bytes + memory.held_bytes - reserve - (instance // 2 if scheduler else 0)
    # What is available can't be more than there is, whatever the kernel and the processes say.
    free = min(free, memory.total_bytes - reserve)
    return MemoryRoom(
        instance_bytes=instance,
        reserve_bytes=reserve,
        free_bytes=max(0, free),
        instances=max(1, free // instance),
        size_from=size_from,
        short=free < instance,
    )


def _sizes(found: Found, total_bytes: int) -> tuple[int, int, Literal["default", "measured", "small"]]:
    """(instance, reserve) in bytes. A Sidekiq that has run for a day shows what one grows to here."""
    usual = MemoryPolicy()
    instance, reserve = usual.instance_bytes, usual.reserve_bytes
    size_from: Literal["default", "measured", "small"] = "default"
    if total_bytes < SMALL_HOST_BYTES:
        size_from = "small"
        instance = max(_STEP_BYTES, total_bytes // 4 // _STEP_BYTES * _STEP_BYTES)
        reserve = total_bytes // 8 // _STEP_BYTES * _STEP_BYTES
    grown = [p.resident_bytes for p in replaced(found) if p.resident_bytes and p.started_age_seconds >= GROWN_SECONDS]
    if grown:
        measured = max(_LEAST_INSTANCE_BYTES, -(-max(grown) // _STEP_BYTES) * _STEP_BYTES)
        if measured != instance and measured < total_bytes // 2:
            instance, size_from = measured, "measured"
    return instance, reserve, size_from
