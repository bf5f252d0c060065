"""Each of several real Sentinels by itself: whom it names, its quorum, how many others it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from msgspec import structs

from fleetd.adapters.redis import sentinels as sentinels_module
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.sentinel_look import SentinelSeen
from fleetd.config.connections import RedisSettings
from tests.support.attacks.lying_redis import ANSWERS, NONSENSE, LyingRedis
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server, wait_until
from tests.support.rig.sentinels import MASTER, sentinel_conf, sentinels

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need longer than a second."""
    monkeypatch.setattr(sentinels_module, "SENTINEL_SECONDS", WAIT_SECONDS)


@pytest.fixture(scope="module")
def primary() -> Iterator[RedisServer]:
    with redis_server(port=free_port()) as server:
        yield server


def seen(settings: RedisSettings, *, connects: bool = True) -> tuple[SentinelSeen, ...]:
    async def looked() -> tuple[SentinelSeen, ...]:
        connection = RedisConnection(settings, timeout_seconds=WAIT_SECONDS, bare=True)
        try:
            if connects:
                await connection.client().ping()
            return await connection.look_at_sentinels()
        finally:
            await connection.drop()

    return asyncio.run(looked())


def settings_of(*ports: int, password: str | None = None) -> RedisSettings:
    addresses = tuple((HOST, port) for port in ports)
    return RedisSettings(sentinel_master=MASTER, sentinels=addresses, sentinel_password=password)


def told(server: RedisServer, primary: RedisServer, *, others: int, quorum: int = 2, ours: bool = True) -> SentinelSeen:
    place = f"{HOST}:{server.port}"
    return SentinelSeen(
        place=place,
        address=place,
        primary=f"{HOST}:{primary.port}",
        names_ours=ours,
        quorum=quorum,
        others=others,
    )


def test_without_sentinels_there_are_none(shared_redis: RedisServer) -> None:
    assert seen(RedisSettings(unix_socket=shared_redis.socket)) == ()


def test_two_that_know_each_other_one_that_is_down_and_one_of_another_name(primary: RedisServer) -> None:
    conf = sentinel_conf(primary.port, quorum=2)
    with sentinels(conf, conf, conf.replace(MASTER, "cache")) as found:
        first, second, cache = found
        down = free_port()
        settings = settings_of(first.port, second.port, cache.port, down)
        wait_until(lambda: [s.others for s in seen(settings)][:2] == [1, 1], "both to know each other")
        place = f"{HOST}:{cache.port}"
        assert seen(settings) == (
            told(first, primary, others=1),
            told(second, primary, others=1),
            SentinelSeen(place=place, address=place),
            SentinelSeen(place=f"{HOST}:{down}", why="does not answer"),
        )
        assert [one.names_ours for one in seen(settings, connects=False)] == [False] * 4, "connected to none yet"


def test_one_of_another_primary_names_it(primary: RedisServer) -> None:
    with (
        redis_server(port=free_port()) as other,
        sentinels(sentinel_conf(primary.port), sentinel_conf(other.port)) as (ours, theirs),
    ):
        assert seen(settings_of(ours.port, theirs.port)) == (
            told(ours, primary, others=0, quorum=1),
            told(theirs, other, others=0, quorum=1, ours=False),
        )


def test_a_login_that_is_refused_and_one_that_may_not_ask_for_more(primary: RedisServer) -> None:
    with sentinels(sentinel_conf(primary.port, "requirepass s3cret"), sentinel_conf(primary.port)) as (closed, narrow):
        closed_says, narrow_says = seen(settings_of(closed.port, narrow.port), connects=False)
        assert closed_says == SentinelSeen(place=f"{HOST}:{closed.port}", why="refuses the login")
        assert narrow_says.quorum == 1
        with admin(narrow) as client:
            command(client, "ACL", "SETUSER", "default", "-sentinel|master")
        [narrow_says] = seen(settings_of(narrow.port))
        assert narrow_says == structs.replace(told(narrow, primary, others=0), quorum=None, others=None)


@pytest.mark.parametrize("what", [*ANSWERS, *NONSENSE])
def test_what_is_no_sentinel_has_not_answered(primary: RedisServer, what: str) -> None:
    liar = LyingRedis(*{**ANSWERS, **NONSENSE}[what], logs_in=False)

    async def looked() -> tuple[SentinelSeen, ...]:
        connection = RedisConnection(settings_of(liar.port), timeout_seconds=WAIT_SECONDS)
        async with liar.listening():
            return await connection.look_at_sentinels()

    [found] = asyncio.run(looked())
    assert found.why in ("does not answer", "does not answer as a Sentinel does")
