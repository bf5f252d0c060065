"""The real adapters are opened as the configuration says, and replaced on a reload."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import PostgresConnections
from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.sources import close_sources, exchange, open_sources
from fleetd.config import Settings, parse
from fleetd.errors import SourceUnavailableError

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
NOBODY = "/none"  # no socket there: each adapter's error shows which one it is


def configured(env: str, more: str = "") -> tuple[Settings, Endpoints]:
    settings = parse(PROFILE + more)
    return settings, find_endpoints(settings, EnvFile(text=f"DB_HOST={NOBODY}\n{env}"))


def test_direct_then_pgbouncer_then_a_replica_as_well() -> None:
    async def go() -> None:
        settings, endpoints = configured("")
        sources, _ = open_sources(settings, endpoints, BoottimeClock())
        assert isinstance(sources.database, PostgresConnections)
        assert (sources.pgbouncer, sources.replica) == (None, None)
        assert sources.ledger is not None
        old = sources.sidekiq, sources.database, sources.ledger

        closes = exchange(sources, *configured("DB_PORT=6432\n"))
        assert isinstance(sources.pgbouncer, PgBouncerConsole)
        assert not sources.database, "Postgres behind it is not named"
        assert sources.sidekiq is not old[0]
        assert closes == [source.close for source in old]

        closes = exchange(sources, *configured("REPLICA_DB_NAME=m\n"))
        assert len(closes) == 3
        assert sources.pgbouncer is None
        assert sources.replica is not None
        await close_sources(sources)

    asyncio.run(go())


def test_a_replica_is_read_as_a_replica() -> None:
    async def go() -> None:
        sources, _ = open_sources(*configured("REPLICA_DB_NAME=m\n"), BoottimeClock())
        for source, name in ((sources.replica, "replica"), (sources.database, "Postgres in")):
            assert source is not None
            with pytest.raises(SourceUnavailableError, match=name):
                await source.read()

    asyncio.run(go())


def test_a_host_that_is_alone_has_no_ledger() -> None:
    async def go() -> None:
        settings, endpoints = configured("")
        sources, _ = open_sources(structs.replace(settings, ledger="local"), endpoints, BoottimeClock())
        assert sources.ledger is None
        await close_sources(sources)

    asyncio.run(go())
