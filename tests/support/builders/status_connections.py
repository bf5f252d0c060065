"""Realistic statuses of what limits connections: Postgres, PgBouncer and a replica, in good times and bad."""

from __future__ import annotations

from msgspec.structs import replace

from fleetd.core.model.facts import Consumer
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import ClientsRefused, ConnectionsOverdrawn, LimitSet
from fleetd.core.model.status import (
    ClaimStatus,
    ClampStatus,
    ConnectionSourceStatus,
    ConsumerStatus,
    SourceStatus,
    Status,
)
from fleetd.words.reasons import sentence as sentence_of
from tests.support.builders.status_healthy import connections_of, healthy, instance, queue

CLAIMS = (
    ClaimStatus(host="worker1", profile="default-first", instances=4, connections=248),
    ClaimStatus(host="worker1", profile="pull-first", instances=2, connections=54),
    ClaimStatus(host="worker1", profile="scheduler", instances=1, connections=12),
    ClaimStatus(host="worker2", profile="", instances=2, connections=58),
)
OF_700 = LimitSet(by="server", to_connections=700, reserved_connections=3)
REFUSED = sentence_of(ClientsRefused(source="postgres"))
OVERDRAWN = sentence_of(
    ConnectionsOverdrawn(
        source="postgres",
        over_connections=37,
        limit_connections=697,
        limit_set=OF_700,
        reserve_connections=10,
        others_connections=352,
        others_by="rise",
        seen_connections=330,
        claimed_connections=372,
        min_connections=200,
        holders=(Consumer(name="mastodon from 10.0.0.4 (puma)", connections=296),),
        told_apart=True,
        gives_back="drains",
        going_instances=1,
    )
)
POSTGRES = ConnectionSourceStatus(
    name="postgres",
    limit_connections=697,
    limit_set=OF_700,
    reserve_connections=10,
    others_connections=160,
    others_seen_connections=138,
    others_peak_connections=151,
    others_declared_connections=160,
    others_bound_connections=160,
    claims_connections=372,
    headroom_connections=155,
    open_connections=431,
    consumers=(
        ConsumerStatus(name="mastodon from 10.0.0.4 (puma)", observed_connections=104, declared_connections=None),
        ConsumerStatus(name="mastodon from 10.0.0.4", observed_connections=31, declared_connections=None),
        ConsumerStatus(
            name="postgres from the local socket (pg_dump)", observed_connections=3, declared_connections=None
        ),
        ConsumerStatus(name="web", observed_connections=None, declared_connections=120),
        ConsumerStatus(name="streaming", observed_connections=None, declared_connections=40),
    ),
    binds=True,
)
PGBOUNCER = ConnectionSourceStatus(
    name="pgbouncer",
    limit_connections=600,
    reserve_connections=10,
    others_connections=71,
    others_seen_connections=58,
    others_peak_connections=71,
    others_declared_connections=0,
    others_bound_connections=290,
    claims_connections=372,
    headroom_connections=0,
    open_connections=291,
    consumers=(
        ConsumerStatus(name="mastodon in mastodon_production", observed_connections=286, declared_connections=None),
        ConsumerStatus(name="grafana in mastodon_production", observed_connections=4, declared_connections=None),
    ),
    binds=True,
    pool_connections=80,
    active_servers=31,
    waiting_clients=0,
    longest_wait_seconds=0.0,
)
BEHIND = ConnectionSourceStatus(
    name="postgres",
    limit_connections=197,
    reserve_connections=10,
    others_connections=12,
    others_seen_connections=9,
    others_peak_connections=12,
    others_declared_connections=0,
    others_bound_connections=12,
    claims_connections=85,
    headroom_connections=90,
    open_connections=71,
    consumers=(
        ConsumerStatus(name="postgres from 10.0.0.9 (psql)", observed_connections=9, declared_connections=None),
    ),
    pool_connections=85,
)
REPLICA = ConnectionSourceStatus(
    name="replica",
    limit_connections=497,
    reserve_connections=10,
    others_connections=40,
    others_seen_connections=33,
    others_peak_connections=40,
    others_declared_connections=0,
    others_bound_connections=40,
    claims_connections=372,
    headroom_connections=75,
    open_connections=120,
    exact=False,
)


def connected(base: Status, *sources: ConnectionSourceStatus, **more: object) -> Status:
    """A status with these sources. The one that binds, if any, is in the first fields."""
    connections = replace(
        connections_of(*sources, claims=372),
        claims=CLAIMS,
        more_instances={"default-first": 2, "pull-first": 0} if any(s.binds for s in sources) else {},
        claim_per_instance={"default-first": 62, "pull-first": 27},
    )
    known = {source.name for source in base.sources}
    watched = tuple(
        SourceStatus(name=source.name, ok=True, age_seconds=1.8) for source in sources if source.name not in known
    )
    return replace(base, connections=replace(connections, **more), sources=(*base.sources, *watched))


def direct() -> Status:
    """Workers reach Postgres directly; web and streaming are declared."""
    base = healthy()
    first = replace(
        base.profiles[0], running_instances=4, serving_instances=4, admitted_instances=4, needed_instances=4
    )
    instances = (*base.instances[:3], instance(4, "default-first", 33, megabytes=802), *base.instances[4:])
    return connected(replace(base, profiles=(first, base.profiles[1]), instances=instances), POSTGRES)


def behind_pgbouncer() -> Status:
    """PgBouncer, Postgres behind it, and a replica. Ours can't be told from others', which nobody declared."""
    sentence = (
        "others can't be told from our workers on PgBouncer, where they have no names: up to 290 are taken to be"
        " others', at least 71 are. Declare what web and streaming may take under"
        " [[connections.claims]] in fleetd.toml (docs/operations.md has the lines)"
    )
    clamp = ClampStatus(
        code=ClampCode.OTHERS_UNATTRIBUTABLE,
        profile="default-first",
        before_instances=6,
        after_instances=4,
        sentence=sentence,
    )
    base = direct()
    first = replace(base.profiles[0], needed_instances=6, clamps=(clamp,))
    status = replace(base, profiles=(first, base.profiles[1]), clamps=(clamp,))
    nothing = {"default-first": 0, "pull-first": 0}
    return connected(status, PGBOUNCER, BEHIND, REPLICA, unattributable=sentence, more_instances=nothing)


def saturation() -> Status:
    """PgBouncer's pool is full and clients wait for it. More workers would make it worse."""
    sentence = (
        "more workers would not help: 14 clients wait for one of the 80 connections of PgBouncer's pool, the longest"
        " for 2.3 s"
    )
    yielded = ClampStatus(
        code=ClampCode.YIELD,
        profile="pull-first",
        before_instances=2,
        after_instances=1,
        sentence="default-first is more important and late: one of pull-first gives way to it",
    )
    held = ClampStatus(
        code=ClampCode.DATABASE_SATURATED,
        profile="default-first",
        before_instances=6,
        after_instances=4,
        sentence=sentence,
    )
    base = direct()
    status = replace(
        base,
        queues=(queue("default", 41.0, 15, 9_120, 212, 330.0), *base.queues[1:]),
        profiles=(
            replace(base.profiles[0], needed_instances=6, clamps=(held,)),
            replace(base.profiles[1], needed_instances=2, admitted_instances=1, clamps=(yielded,)),
        ),
        clamps=(held, yielded),
        next_sentence="default-first: more workers would not help",
    )
    full = replace(
        PGBOUNCER,
        others_bound_connections=71,
        headroom_connections=147,
        active_servers=80,
        waiting_clients=14,
        longest_wait_seconds=2.3,
    )
    return connected(status, full, BEHIND, saturation=sentence)


def refused() -> Status:
    """Postgres turns clients away: "sorry, too many clients already"."""
    full = replace(POSTGRES, headroom_connections=0, refused=True, open_connections=688)
    clamp = ClampStatus(
        code=ClampCode.CONNECTIONS,
        profile="default-first",
        before_instances=6,
        after_instances=4,
        sentence=REFUSED,
    )
    base = direct()
    first = replace(base.profiles[0], needed_instances=6, clamps=(clamp,))
    nothing = {"default-first": 0, "pull-first": 0}
    told = ClampStatus(code=ClampCode.CONNECTIONS, sentence=REFUSED)
    status = replace(base, profiles=(first, base.profiles[1]), clamps=(clamp, told))
    return connected(status, full, more_instances=nothing)


def overrun() -> Status:
    """Others have taken connections that our claims count on, and their number still rises."""
    grown = replace(
        POSTGRES,
        others_connections=352,
        others_seen_connections=330,
        others_peak_connections=330,
        others_bound_connections=352,
        headroom_connections=0,
        open_connections=641,
    )
    status = replace(direct(), clamps=(ClampStatus(code=ClampCode.CONNECTIONS, sentence=OVERDRAWN),))
    return connected(status, grown, more_instances={"default-first": 0, "pull-first": 0})


def replica_lost() -> Status:
    """One of three sources can't be read. Then none is known to be the tightest, and nothing grows above min."""
    lost = SourceStatus(
        name="replica",
        ok=False,
        age_seconds=94.0,
        why="10.0.0.7:5432 refused the connection",
        errors_total=19,
    )
    status = connected(direct(), replace(PGBOUNCER, binds=False), BEHIND)
    clamp = ClampStatus(
        code=ClampCode.HEADROOM_UNKNOWN,
        profile="default-first",
        before_instances=6,
        after_instances=4,
        sentence="connection headroom is unknown: nothing grows above min (the replica can't be read: 10.0.0.7:5432"
        " refused the connection)",
    )
    first = replace(status.profiles[0], needed_instances=6, clamps=(clamp,))
    return replace(status, sources=(*status.sources, lost), profiles=(first, status.profiles[1]), clamps=(clamp,))


ALL = {
    "direct": direct,
    "behind_pgbouncer": behind_pgbouncer,
    "saturation": saturation,
    "refused": refused,
    "overrun": overrun,
    "replica_lost": replica_lost,
}
