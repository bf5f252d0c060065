"""What every DatabaseSource and PgBouncerSource promises, checked on the real adapters and on the fakes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from fleetd.errors import SourceUnavailableError
from fleetd.ports import DatabaseSource, PgBouncerSource
from tests.support.contracts.sidekiq import SECRET


class Stage(Protocol):
    """The world behind a source. What was arranged may be gone after `turn_away` or `break_connection`."""

    def turn_away(self) -> None:
        """From now on the server has no room for another client, not even for fleetd."""
        ...

    def break_connection(self) -> None:
        """From now on every reading fails."""
        ...

    def heal_connection(self) -> None:
        """Readings work again, and enough time has passed for another try."""
        ...


class DatabaseStage(Stage, Protocol):
    """A Postgres with the database `mastodon` and the role `mastodon`, as which the source logs in."""

    @property
    def source(self) -> DatabaseSource: ...

    @property
    def max_connections(self) -> int: ...

    def connect(self, count: int, application_name: str = "puma") -> None:
        """Add this many clients, as the role `mastodon`."""
        ...


class PgBouncerStage(Stage, Protocol):
    """A PgBouncer whose database and user `mastodon` have a pool of 2. The source reads that pool."""

    @property
    def mastodon(self) -> tuple[str, str]:
        """The database and user of that pool."""
        ...

    @property
    def source(self) -> PgBouncerSource: ...

    @property
    def max_clients(self) -> int: ...

    def connect(self, count: int, pool: tuple[str, str] | None = None) -> None:
        """Add this many idle clients to Mastodon's pool, or to `("shop", "other")`."""
        ...

    def crowd(self) -> None:
        """Put two clients of Mastodon's pool into a transaction, and have a third wait for a server connection."""
        ...


DatabaseCheck = Callable[[DatabaseStage], Coroutine[Any, Any, None]]
PgBouncerCheck = Callable[[PgBouncerStage], Coroutine[Any, Any, None]]


async def nobody_else_is_known_and_none(stage: DatabaseStage) -> None:
    facts = await stage.source.read()
    assert facts.max_connections == stage.max_connections
    assert facts.worker_connections == {}
    assert facts.others_connections == 0
    assert facts.consumers == ()
    assert facts.refused is False
    await stage.source.close()


async def workers_and_others_are_told_apart(stage: DatabaseStage) -> None:
    stage.connect(3, "mastodon-sidekiq@1.w1")
    stage.connect(2)
    facts = await stage.source.read()
    assert facts.worker_connections == {"mastodon-sidekiq@1.w1": 3}
    assert facts.others_connections == 2
    assert facts.client_connections == 5 + facts.own_connections
    assert sum(consumer.connections for consumer in facts.consumers) == 2
    assert all("mastodon" in c.name and "puma" in c.name for c in facts.consumers)
    await stage.source.close()


async def a_full_server_is_refused_with_the_last_good_numbers(stage: Any) -> None:
    stage.connect(2)
    good = await stage.source.read()
    assert good.refused is False
    await stage.source.close()
    stage.turn_away()
    for _ in range(2):
        refused = await stage.source.read()
        assert refused.refused is True
        assert refused.client_connections == good.client_connections
    stage.heal_connection()
    assert (await stage.source.read()).refused is False
    await stage.source.close()


async def unavailable_raises_and_heals_by_itself(stage: Any) -> None:
    await stage.source.read()
    stage.break_connection()
    for _ in range(2):
        with pytest.raises(SourceUnavailableError) as raised:
            await stage.source.read()
        assert len(str(raised.value)) > 20
        assert SECRET not in str(raised.value)
    stage.heal_connection()
    assert (await stage.source.read()).refused is False
    await stage.source.close()


async def closing_twice_is_allowed(stage: Any) -> None:
    await stage.source.read()
    await stage.source.close()
    await stage.source.close()


async def an_unused_pool_is_none(stage: PgBouncerStage) -> None:
    facts = await stage.source.read()
    assert facts.mastodon == stage.mastodon
    assert facts.mastodon_pool is None
    assert facts.client_limit_connections == stage.max_clients
    assert facts.client_connections == facts.own_connections == 1
    assert facts.refused is False
    await stage.source.close()


async def each_pool_has_its_own_clients(stage: PgBouncerStage) -> None:
    stage.connect(3)
    stage.connect(2, ("shop", "other"))
    facts = await stage.source.read()
    assert facts.client_connections == 3 + 2 + facts.own_connections
    assert {(p.database, p.user): p.client_connections for p in facts.pools} == {
        stage.mastodon: 3,
        ("shop", "other"): 2,
    }
    pool = facts.mastodon_pool
    assert pool is not None
    assert (pool.waiting_clients, pool.active_servers, pool.size_connections) == (0, 0, 2)
    assert pool.longest_wait_seconds == 0
    await stage.source.close()


async def who_waits_is_seen(stage: PgBouncerStage) -> None:
    stage.crowd()
    pool = (await stage.source.read()).mastodon_pool
    assert pool is not None
    assert (pool.client_connections, pool.waiting_clients) == (3, 1)
    assert (pool.active_servers, pool.server_connections, pool.size_connections) == (2, 2, 2)
    assert 0 < pool.longest_wait_seconds < 60
    await stage.source.close()


database_source_contract: tuple[DatabaseCheck, ...] = (
    nobody_else_is_known_and_none,
    workers_and_others_are_told_apart,
    a_full_server_is_refused_with_the_last_good_numbers,
    unavailable_raises_and_heals_by_itself,
    closing_twice_is_allowed,
)
pgbouncer_source_contract: tuple[PgBouncerCheck, ...] = (
    an_unused_pool_is_none,
    each_pool_has_its_own_clients,
    who_waits_is_seen,
    a_full_server_is_refused_with_the_last_good_numbers,
    unavailable_raises_and_heals_by_itself,
    closing_twice_is_allowed,
)
