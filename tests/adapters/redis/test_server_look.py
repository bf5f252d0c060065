"""What a closer look at a real Redis finds of its replication. Rights are tried in tests/app/doctor/test_rights.py."""

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


#: How a command and a key are refused.
REFUSALS = {
    "6.2.14": (
        "this user has no permissions to run the 'hset' command or its subcommand",
        "this user has no permissions to access one of the keys used as arguments",
    ),
    "7.0.15": (
        "this user has no permissions to run the 'hset' command",
        "this user has no permissions to access one of the keys used as arguments",
    ),
    "7.2.4": ("User fleetd has no permissions to run the 'hset' command", "No permissions to access a key"),
}


@pytest.mark.parametrize("version", REFUSALS)
def test_what_is_refused_is_understood_in_every_version(version: str) -> None:
    hset = Trial(words=("HSET", "a", "b", "c", "d"), right="+hset", key_right="%RW~a")
    of_command, of_key = REFUSALS[version]
    info = f"redis_version:{version}\r\n"
    replies = {"HSET": f"-NOPERM {of_command}", "TIME": "*2\r\n$1\r\n7\r\n$1\r\n9", "INFO": f"${len(info)}\r\n{info}"}
    seen = answered(replies, hset)
    assert seen.missing == ("+hset",)
    assert (seen.version, seen.now_ms) == (tuple(map(int, version.split("."))), 7000)
    assert answered(replies | {"HSET": f"-NOPERM {of_key}"}, hset).missing == ("%RW~a",)
    for done in ("-ERR wrong number of arguments for 'hset' command", "-READONLY You can't write", ":0"):
        assert answered(replies | {"HSET": done}, hset).missing == ()


def answered(replies: dict[str, str], *trials: Trial) -> ServerSeen:
    """By a server that gives these replies, by command."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2].decode())
            writer.write(f"{replies.get(words[0], '+OK')}\r\n".encode())
        writer.close()

    async def looked() -> ServerSeen:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        settings = RedisSettings(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        connection = RedisConnection(settings, timeout_seconds=WAIT_SECONDS, bare=True)
        try:
            return await look_at_server(connection, settings, trials, WAIT_SECONDS)
        finally:
            await connection.drop()
            server.close()

    return asyncio.run(looked())


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
