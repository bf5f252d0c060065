"""PostgresConnections, PgBouncerConsole and their fakes keep the contracts of DatabaseSource and PgBouncerSource."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.support.contracts.connections import (
    DatabaseCheck,
    PgBouncerCheck,
    database_source_contract,
    pgbouncer_source_contract,
)
from tests.support.rig.connection_stages import MAX_CLIENTS, POOL_SIZE, RealPgBouncer, RealPostgres
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import Cluster
from tests.support.world.pgbouncer import MASTODON, FakePgBouncer
from tests.support.world.ports import FakeDatabase, policy
from tests.support.world.world import World


@pytest.mark.parametrize("check", database_source_contract, ids=lambda check: check.__name__)
def test_real_database(cluster: Cluster, check: DatabaseCheck) -> None:
    with contextlib.ExitStack() as stack:
        asyncio.run(check(RealPostgres(cluster, stack)))


@pytest.mark.parametrize("check", pgbouncer_source_contract, ids=lambda check: check.__name__)
def test_real_pgbouncer(cluster: Cluster, check: PgBouncerCheck) -> None:
    bouncer = PgBouncer(
        cluster,
        options={"max_client_conn": MAX_CLIENTS, "default_pool_size": POOL_SIZE},
        databases={"mastodon": "user=mastodon", "shop": "user=other"},
    )
    bouncer.start()
    try:
        with contextlib.ExitStack() as stack:
            asyncio.run(check(RealPgBouncer(bouncer, stack)))
    finally:
        bouncer.stop()


class _Faked:
    """Shared by both fakes: an empty world, and how it refuses or breaks."""

    def __init__(self) -> None:
        self.world = World(policy())
        self.world.other_clients = 0

    def turn_away(self) -> None:
        self.world.postgres_refuses = True

    def break_connection(self) -> None:
        self.world.postgres_up = False

    def heal_connection(self) -> None:
        self.world.postgres_refuses, self.world.postgres_up = False, True


class FakedDatabase(_Faked):
    def __init__(self) -> None:
        super().__init__()
        self.source = FakeDatabase(self.world)
        self.max_connections = self.world.max_connections

    def connect(self, count: int, application_name: str = "puma") -> None:
        if application_name == "puma":
            self.world.other_clients += count
            return
        worker = self.world.appear("w1", "default")
        worker.name, worker.opened = application_name, count


class FakedPgBouncer(_Faked):
    mastodon = MASTODON

    def __init__(self) -> None:
        super().__init__()
        self.world.pool_size = POOL_SIZE
        self.source = FakePgBouncer(self.world)
        self.max_clients = self.world.max_connections

    def connect(self, count: int, pool: tuple[str, str] | None = None) -> None:
        if pool is None:
            self.world.other_clients += count
        else:
            self.source.foreign[pool] = count

    def crowd(self) -> None:
        self.world.other_clients = self.world.web_servers = 3


@pytest.mark.parametrize("check", database_source_contract, ids=lambda check: check.__name__)
def test_fake_database(check: DatabaseCheck) -> None:
    asyncio.run(check(FakedDatabase()))


@pytest.mark.parametrize("check", pgbouncer_source_contract, ids=lambda check: check.__name__)
def test_fake_pgbouncer(check: PgBouncerCheck) -> None:
    asyncio.run(check(FakedPgBouncer()))
