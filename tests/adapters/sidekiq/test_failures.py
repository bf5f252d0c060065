"""A Redis that refuses, hangs, dies or fails over: it gives a sentence, and later readings work again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path

import pytest
import redis

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import KeyFault, SidekiqFacts
from fleetd.errors import SourceUnavailableError
from tests.support.contracts.sidekiq import SECRET
from tests.support.rig.certificate import certificate_in
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server, wait_until
from tests.support.rig.sentinels import sentinel_conf, sentinels
from tests.support.rig.sidekiq_keys import SidekiqKeys
from tests.support.rig.sidekiq_source import read, source_at

TWO_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"))


def unavailable(source: SidekiqRedis) -> str:
    with pytest.raises(SourceUnavailableError) as raised:
        read(source)
    assert raised.value.__cause__ is None
    return str(raised.value)


@pytest.mark.parametrize("password", [None, "wr0ng-s3cret"])
def test_a_refused_login_gives_a_sentence_without_the_password(password: str | None) -> None:
    with redis_server("--requirepass", SECRET) as server:
        sentence = unavailable(source_at(server, password=password))
    assert "password" in sentence or "login" in sentence
    assert "wr0ng" not in sentence


def test_a_redis_that_does_not_listen(tmp_path: Path) -> None:
    port = free_port()
    source = SidekiqRedis(RedisSettings(host="127.0.0.1", port=port), queues=("default",))
    assert f"127.0.0.1:{port} can't be reached: Connection refused" in unavailable(source)
    source = SidekiqRedis(RedisSettings(unix_socket=str(tmp_path / "no.sock")), queues=("default",))
    assert "No such file or directory" in unavailable(source)
    source = SidekiqRedis(RedisSettings(host="no-such-host.invalid"), queues=("default",))
    assert "name can't be resolved" in unavailable(source)


def test_a_name_with_two_addresses_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As localhost on every Debian: asyncio then raises one error without a number."""
    port = free_port()
    found = [(family, socket.SOCK_STREAM, 6, "", (at, port)) for family, at in TWO_ADDRESSES]
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", lambda *_, **__: asyncio.sleep(0, found))
    source = SidekiqRedis(RedisSettings(host="localhost", port=port), queues=("default",))
    assert f"localhost:{port} can't be reached: Connection refused" in unavailable(source)


def test_a_database_that_does_not_exist(shared_redis: RedisServer) -> None:
    assert "Redis at" in unavailable(source_at(shared_redis, db=4000))


def test_a_user_without_rights_is_told_so() -> None:
    with redis_server() as server:
        with admin(server) as client:
            command(
                client,
                "ACL",
                "SETUSER",
                "narrow",
                "on",
                f">{SECRET}",
                "~*",
                "+@read",
                "+client",
                "+info",
                "+time",
            )
        sentence = unavailable(source_at(server, username="narrow", password=SECRET))
        assert "does not let this user read" in sentence
        with admin(server) as client:
            command(client, "ACL", "SETUSER", "narrow", "+@scripting", "resetkeys", "~queue*", "~stat:*", "~j|*")
        facts = read(source_at(server, username="narrow", password=SECRET))
        assert not facts.processes_complete
        assert KeyFault(key="processes", why="may not be read by this Redis user") in facts.faults
        assert facts.writable is None, "which says nothing of Redis"


def test_a_failed_reading_leaves_no_connection_behind() -> None:
    """What a failure left half read must not reach the next reading."""

    async def story(server: RedisServer, client: redis.Redis) -> None:
        source = source_at(server, username="narrow", password=SECRET)
        with pytest.raises(SourceUnavailableError):
            await source.read()
        wait_until(lambda: not [c for c in client.client_list() if c["name"] == "fleetd"], "the connection to end")
        await source.close()

    with redis_server() as server, admin(server) as client:
        command(client, "ACL", "SETUSER", "narrow", "on", f">{SECRET}", "~*", "+@read", "+client", "+info")
        asyncio.run(story(server, client))


def test_a_stopped_redis_times_out_and_no_stale_reply_is_read() -> None:
    """SIGSTOP: the connection stays open but silent. The late reply must not be taken for the next reading's."""

    async def story(server: RedisServer, client: redis.Redis) -> None:
        source = source_at(server)
        await source.read()
        server.signal(signal.SIGSTOP)
        source._deadline_seconds = 0.3
        with pytest.raises(SourceUnavailableError, match=r"did not answer within 0\.3 s"):
            await source.read()
        source._deadline_seconds = WAIT_SECONDS
        server.signal(signal.SIGCONT)
        SidekiqKeys(client).enqueue("default", 5)
        facts = await source.read()
        assert facts.queues["default"].length_jobs == 5
        assert facts.writable is True
        await source.close()

    with redis_server() as server, admin(server) as client:
        asyncio.run(story(server, client))


def test_a_cancelled_reading_leaves_no_reply_behind(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def story() -> None:
        source = source_at(shared_redis)
        await source.read()
        for _ in range(20):
            task = asyncio.create_task(source.read())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert (await source.read()).writable is True
        await source.close()

    asyncio.run(story())
    wait_until(lambda: [c for c in client.client_list() if c["name"] == "fleetd"] == [], "no connection to be left")


def test_a_restart_changes_the_run_id_and_costs_one_reading_at_most() -> None:
    async def story(server: RedisServer) -> tuple[str, str]:
        source = source_at(server)
        before = (await source.read()).redis_run_id
        server.stop()
        server.start()
        try:
            facts = await source.read()
        except SourceUnavailableError:
            facts = await source.read()
        await source.close()
        return before, facts.redis_run_id

    with redis_server() as server:
        before, after = asyncio.run(story(server))
    assert before
    assert after
    assert before != after


def test_a_replica_and_a_full_redis_refuse_writes() -> None:
    with redis_server() as server, admin(server) as client:
        SidekiqKeys(client).enqueue("default", 2)
        command(client, "REPLICAOF", "127.0.0.1", str(free_port()))
        replica = read(source_at(server))
        command(client, "REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", "1")
        full = read(source_at(server))
        client.config_set("maxmemory", "0")
        free = read(source_at(server))
    assert (replica.writable, full.writable, free.writable) == (False, False, True)
    assert replica.queues["default"].length_jobs == full.queues["default"].length_jobs == 2
    (why_replica,) = (fault.why for fault in replica.faults if fault.key == "fleetd:probe")
    (why_full,) = (fault.why for fault in full.faults if fault.key == "fleetd:probe")
    assert "can't be written: this Redis is a replica" in why_replica
    assert "maxmemory" in why_full
    assert free.faults == ()


def test_a_failover_is_followed() -> None:
    """Two real servers and a real Sentinel. The primary dies, and the next readings come from the other server."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(redis_server(port=ports[0]))
        second = stack.enter_context(redis_server("--replicaof", f"127.0.0.1 {ports[0]}", port=ports[1]))
        client = stack.enter_context(admin(second))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")
        (sentinel,) = stack.enter_context(sentinels(sentinel_conf(ports[0])))
        asker = stack.enter_context(admin(sentinel))
        wait_until(lambda: "'slaves': 1" in str(asker.info("sentinel")), "the Sentinel to see the replica")
        settings = RedisSettings(sentinel_master="mastodon", sentinels=(("127.0.0.1", sentinel.port),))
        asyncio.run(failover_story(first, client, settings))


async def failover_story(first: RedisServer, second: redis.Redis, settings: RedisSettings) -> None:
    source = SidekiqRedis(settings, queues=("default",))
    before = await source.read()
    assert before.writable is True
    agreed = await source.sentinels_agree()
    assert agreed is not None
    assert agreed.configured == 1
    first.stop()
    with pytest.raises(SourceUnavailableError):
        await source.read()

    def promoted() -> bool:
        try:
            return bool(second.info("replication")["role"] == "master")
        except redis.ConnectionError:  # Sentinel disconnects the clients of the server that it promotes
            return False

    await asyncio.to_thread(wait_until, promoted, "the failover")
    facts: list[SidekiqFacts] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while not facts:
            with contextlib.suppress(SourceUnavailableError):
                facts.append(await source.read())
            await asyncio.sleep(0.1)
    assert facts[0].writable is True
    assert facts[0].redis_run_id == second.info("server")["run_id"] != before.redis_run_id
    await source.close()


def test_without_a_sentinel_there_is_a_sentence() -> None:
    settings = RedisSettings(
        sentinel_master="mastodon", sentinels=(("127.0.0.1", free_port()),), sentinel_password=SECRET
    )
    sentence = unavailable(SidekiqRedis(settings, queues=("default",)))
    assert sentence.startswith("No Sentinel names a primary for 'mastodon' that is up: start Redis")
    assert SECRET not in sentence


def test_a_flushed_script_is_sent_again(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def ticks() -> bool | None:
        source = source_at(shared_redis)
        await source.read()
        client.script_flush()
        facts = await source.read()
        await source.close()
        return facts.writable

    assert asyncio.run(ticks()) is True


def test_tls_is_verified(tmp_path: Path) -> None:
    """rediss://: with the right authority the reading works. With the system's, the sentence says what was rejected."""
    certificate, tls = certificate_in(tmp_path)
    port = free_port()
    with redis_server("--tls-port", str(port), *tls) as server:
        with admin(server) as client:
            SidekiqKeys(client).enqueue("default", 2)
        trusting = RedisSettings(host="localhost", port=port, tls=True, tls_ca_file=certificate)
        assert read(SidekiqRedis(trusting, queues=())).queues["default"].length_jobs == 2
        strict = RedisSettings(host="localhost", port=port, tls=True)
        assert "TLS certificate is not accepted" in unavailable(SidekiqRedis(strict, queues=()))
        other_name = RedisSettings(host="127.0.0.1", port=port, tls=True, tls_ca_file=certificate)
        assert "TLS certificate is not accepted" in unavailable(SidekiqRedis(other_name, queues=()))
