"""The metric families of connections: each source's arithmetic, claims, and what keeps growth back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from fleetd.core.model.status import ClaimStatus, ConnectionSourceStatus, Status
from fleetd.daemon.metric_table import ABSENT, Column, table

_SOURCE: Sequence[Column[ConnectionSourceStatus]] = (
    (
        "limit",
        "Connections an ordinary role can reach, or client slots of PgBouncer.",
        lambda s: s.limit_connections,
    ),
    ("others", "Set aside for everybody else.", lambda s: s.others_connections),
    ("others_seen", "Of everybody else, as seen now.", lambda s: s.others_seen_connections),
    ("others_peak", "The highest of that lately; it fades.", lambda s: s.others_peak_connections),
    (
        "others_declared",
        "Declared by configuration, with Sidekiq processes that fleetd did not render.",
        lambda s: s.others_declared_connections,
    ),
    (
        "others_bound",
        "What growth is held against: more than others where ours can't be told from theirs.",
        lambda s: s.others_bound_connections,
    ),
    ("claims", "What all that fleetd rendered may open there.", lambda s: s.claims_connections),
    ("headroom", "What may still be claimed.", lambda s: s.headroom_connections),
    ("open", "Clients now, all of them.", lambda s: s.open_connections),
    ("refused", "1: it takes no more clients.", lambda s: s.refused),
    ("pool", f"Size of PgBouncer's pool for Mastodon. {ABSENT}", lambda s: s.pool_connections),
    ("pool_active", f"Server connections of that pool at work. {ABSENT}", lambda s: s.active_servers),
    ("waiting_clients", f"Clients that wait for one of them. {ABSENT}", lambda s: s.waiting_clients),
    ("longest_wait_seconds", f"The longest such wait. {ABSENT}", lambda s: s.longest_wait_seconds),
)
_CLAIM: Sequence[Column[ClaimStatus]] = (
    ("connections", "What its instances may open.", lambda c: c.connections),
)


def of_connections(status: Status) -> Iterator[Metric]:
    """Every family of `status.connections` beside the tightest source's, which has families of its own."""
    told = status.connections
    yield from table("fleetd_connection_source_", ["source"], told.sources, lambda s: [s.name], _SOURCE)
    yield from table(
        "fleetd_claim_", ["host", "profile"], told.claims, lambda c: [c.host, c.profile or "unknown"], _CLAIM
    )
    more: Column[tuple[str, int]] = (
        "affordable_more",
        f"Instances that the connections left would carry, were they all for this profile. {ABSENT}",
        lambda row: row[1],
    )
    yield from table(
        "fleetd_instances_", ["profile"], told.more_instances.items(), lambda row: [row[0]], [more]
    )
    single: Sequence[Column[Status]] = (
        (
            "database_bottleneck",
            "1: more workers would not help, the database is what everyone waits for.",
            lambda s: bool(s.connections.bottleneck),
        ),
        (
            "others_unattributable",
            "1: others' connections can't be told from the workers'; declare them.",
            lambda s: bool(s.connections.unattributable),
        ),
    )
    yield from table("fleetd_", [], [status], lambda _: [], single)
