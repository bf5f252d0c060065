"""PgBouncer in the simulated world. Workers and web are its clients and share one pool of server connections."""

from __future__ import annotations

import math

from fleetd.core.model.facts import PgBouncerFacts, PoolFacts
from fleetd.errors import SourceUnavailableError
from tests.support.world.world import World

#: The share of its time that a busy thread spends within a transaction.
WITHIN_TRANSACTION = 0.5


MASTODON = ("mastodon_production", "mastodon")


def pgbouncer_facts(world: World, foreign: dict[tuple[str, str], int] | None = None) -> PgBouncerFacts:
    """`foreign`: clients of pools that are not Mastodon's."""
    busy = sum(len(process.jobs) for process in world.processes())
    clients = world.other_clients + sum(process.opened for process in world.processes())
    size = world.pool_size or 0
    asked = math.ceil(busy * WITHIN_TRANSACTION) + world.web_servers
    pools = [_pool(MASTODON, clients, asked, size)] if clients else []
    pools += [_pool(name, count, 0, size) for name, count in (foreign or {}).items()]
    return PgBouncerFacts(
        client_limit_connections=world.max_connections,
        client_connections=sum(pool.client_connections for pool in pools) + 1,
        own_connections=1,
        pools=tuple(pools),
        mastodon=MASTODON,
        refused=world.postgres_refuses,
    )


def _pool(name: tuple[str, str], clients: int, asked: int, size: int) -> PoolFacts:
    """`asked`: clients that are in a transaction, or wait for a server connection to begin one."""
    return PoolFacts(
        database=name[0],
        user=name[1],
        client_connections=clients,
        waiting_clients=max(0, asked - size),
        longest_wait_seconds=float(max(0, asked - size)),
        active_servers=min(size, asked),
        server_connections=min(size, asked),
        size_connections=size,
    )


class FakePgBouncer:
    def __init__(self, world: World) -> None:
        self.world = world
        self.foreign: dict[tuple[str, str], int] = {}

    async def read(self) -> PgBouncerFacts:
        if not self.world.postgres_up:
            raise SourceUnavailableError("PgBouncer at 127.0.0.1:6432 refuses connections")
        return pgbouncer_facts(self.world, self.foreign)

    async def close(self) -> None: ...
