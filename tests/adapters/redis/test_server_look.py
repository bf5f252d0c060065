"""What a closer look at a real Redis finds of its replication. Rights are tried in tests/app/test_doctor_rights.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.server_look import Replication, ServerSeen, Trial, look_at_server
from fleetd.config.connections import RedisSettings
from fleetd.errors import SourceUnavailableError
from tests.support.attacks.lying_redis import ANSWERS, NONSENSE, LyingRedis
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server, wait_until


def look(settings: RedisSettings, *trials: Trial, deadline_seconds: float = WAIT_SECONDS) -> ServerSeen:
    async def looked() -> ServerSeen:
        connection = RedisConnection(settings, timeout_seconds=deadline_seconds, bare=True)
        try:
            return await look_at_server(connection, settings, trials, deadline_seconds)
        finally:
            await connection.drop()

    return asyncio.run(looked())


def at(server: RedisServer, **settings: Any) -> RedisSettings:
    return RedisSettings(unix_socket=server.socket, **settings)


@pytest.fixture(scope="module")
def primary() -> Iterator[RedisServer]:
    with redis_server(port=free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: RedisServer) -> Iterator[RedisServer]:
    with redis_server("--replicaof", f"127.0.0.1 {primary.port}", port=free_port()) as server:
        with admin(server) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")
        yield server


def test_the_clock_and_the_version(shared_redis: RedisServer, client: redis.Redis) -> None:
    before = client.time()[0]
    seen = look(at(shared_redis))
    assert seen.now_ms is not None
    assert before <= seen.now_ms / 1000 <= before + WAIT_SECONDS
    assert ".".join(map(str, seen.version)) == client.info("server")["redis_version"]
    assert seen.replication == Replication(role="primary")
    assert (seen.missing, seen.unknown) == ((), ())


def test_a_primary_says_how_many_follow_it_and_whether_it_needs_one(primary: RedisServer, replica: RedisServer) -> None:
    assert look(at(primary)).replication == Replication(role="primary", replicas=1)
    with admin(primary) as client:
        client.config_set("min-replicas-to-write", "1")
        try:
            assert look(at(primary)).replication == Replication(role="primary", replicas=1, guarded=True)
        finally:
            client.config_set("min-replicas-to-write", "0")


def test_a_replica_names_its_primary(primary: RedisServer, replica: RedisServer) -> None:
    assert look(at(replica)).replication == Replication(role="replica", primary=f"127.0.0.1:{primary.port}")


def test_who_may_ask_nothing_is_told_nothing(shared_redis: RedisServer, client: redis.Redis) -> None:
    command(client, "ACL", "SETUSER", "mute", "reset", "on", ">p")
    trial = Trial(words=("GET", "a"), right="+get", key_right="%R~*")
    seen = look(at(shared_redis, username="mute", password="p"), trial)
    assert seen == ServerSeen(missing=("+get",))


def test_a_command_that_is_renamed_is_no_missing_right() -> None:
    with redis_server("--rename-command", "EVAL", "", port=0) as server:
        eval_, get = Trial(words=("EVAL", "return 1", "0"), right="+eval"), Trial(words=("GET", "a"), right="+get")
        seen = look(at(server), eval_, get)
        assert (seen.missing, seen.unknown) == ((), ("eval",))


def test_a_wrong_password_is_said_in_words(shared_redis: RedisServer, client: redis.Redis) -> None:
    with pytest.raises(SourceUnavailableError, match="refuses the login"):
        look(at(shared_redis, username="nobody", password="p"))


@pytest.mark.parametrize("what", [*ANSWERS, *NONSENSE])
def test_what_is_no_redis_is_said_or_tells_nothing(what: str) -> None:
    liar = LyingRedis(*{**ANSWERS, **NONSENSE}[what], logs_in=False)

    async def looked() -> ServerSeen | str:
        settings = RedisSettings(host="127.0.0.1", port=liar.port)
        connection = RedisConnection(settings, timeout_seconds=5.0, bare=True)
        async with liar.listening():
            try:
                return await look_at_server(connection, settings, (), 5.0)
            except SourceUnavailableError as error:
                return str(error)
            finally:
                await connection.drop()

    seen = asyncio.run(looked())
    assert isinstance(seen, str) or (seen.version, seen.now_ms, seen.replication) == ((), None, None)
