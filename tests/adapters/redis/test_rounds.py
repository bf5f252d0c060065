"""Round trips on a real Redis: scripts that it does not know, errors, and an end to what may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis
from redis import exceptions

from fleetd.adapters.redis import rounds as rounds_module
from fleetd.adapters.redis.bounded import NotRedisError
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.config.connections import RedisSettings
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer


@pytest.fixture
def script(tmp_path: Path) -> Script:
    file = tmp_path / "twice.lua"
    file.write_text("return {ARGV[1], ARGV[1]}")
    return Script(file)


def story(server: RedisServer, tell: Callable[[Rounds], Awaitable[None]], *, seconds: float = WAIT_SECONDS) -> None:
    async def told() -> None:
        connection = RedisConnection(RedisSettings(unix_socket=server.socket), timeout_seconds=WAIT_SECONDS)
        until = asyncio.get_running_loop().time() + seconds
        try:
            await tell(Rounds(connection.client(), connection.allowance, until_seconds=until))
        finally:
            await connection.drop()

    asyncio.run(told())


def test_a_script_that_redis_does_not_know_is_sent_whole(
    shared_redis: RedisServer, client: redis.Redis, script: Script
) -> None:
    async def tell(rounds: Rounds) -> None:
        for _ in range(2):
            assert await rounds.run(script, "a", beside=(("ECHO", "b"),)) == [[b"a", b"a"], b"b"]
        client.script_flush()
        assert await rounds.run(script, "c") == [[b"c", b"c"]]

    story(shared_redis, tell)


def test_a_script_s_error_is_raised_and_that_of_another_command_is_its_reply(
    shared_redis: RedisServer, client: redis.Redis, script: Script, tmp_path: Path
) -> None:
    failing, odd = tmp_path / "failing.lua", tmp_path / "odd.lua"
    failing.write_text("return redis.call('HGETALL', 'a string')")
    odd.write_text("return 1")
    client.set("a string", "x")

    async def tell(rounds: Rounds) -> None:
        _, reply = await rounds.run(script, "a", beside=(("HGETALL", "a string"),))
        assert isinstance(reply, exceptions.ResponseError)
        with pytest.raises(exceptions.ResponseError):
            await rounds.run(Script(failing))
        with pytest.raises(NotRedisError):
            await rounds.run(Script(odd))

    story(shared_redis, tell)


def test_round_trips_end_by_their_number_and_by_the_clock(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "ROUNDS_MAX", 2)

    async def two(rounds: Rounds) -> None:
        for left in (True, False):
            await rounds.ask(("PING",))
            assert rounds.any_left() is left

    async def none(rounds: Rounds) -> None:
        assert not rounds.any_left()

    story(shared_redis, two)
    story(shared_redis, none, seconds=0)
