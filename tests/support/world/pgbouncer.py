"""PgBouncer in the simulated world: workers and web are its clients, and share one pool of server connections."""

from __future__ import annotations

import math

from fleetd.core.model.facts import PgBouncerFacts, PoolFacts
from fleetd.errors import SourceUnavailableError
from tests.support.world.world import World

#: Share of a busy thread's time that it spends within a transaction.
WITHIN_TRANSACTION = 0.5


def pgbouncer_facts(world: World) -> PgBouncerFacts:
    opened = sum(process.opened for process in world.processes())
    busy = sum(len(process.jobs) for process in world.processes())
    size = world.pool_size or 0
    asked = math.ceil(busy * WITHIN_TRANSACTION) + world.web_servers
    clients = world.other_clients + opened + 1
    pool = PoolFacts(
        database="mastodon_production",
        user="mastodon",
        client_connections=clients - 1,
        waiting_clients=max(0, asked - size),
        longest_wait_seconds=float(max(0, asked - size)),
        active_servers=min(size, asked),
        server_connections=min(size, asked),
        size_connections=size,
    )
    return PgBouncerFacts(
        client_limit_connections=world.max_connections,
        client_connections=clients,
        own_connections=1,
        pools=(pool,),
        mastodon=("mastodon_production", "mastodon"),
        refused=world.postgres_refuses,
    )


class FakePgBouncer:
    def __init__(self, world: World) -> None:
        self.world = world

    async def read(self) -> PgBouncerFacts:
        if not self.world.postgres_up:
            raise SourceUnavailableError("PgBouncer at 127.0.0.1:6432 refuses connections")
        return pgbouncer_facts(self.world)

    async def close(self) -> None: ...
