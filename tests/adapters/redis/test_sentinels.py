"""Whether the Sentinels name the server that we are connected to. On real Sentinels."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis

from fleetd.adapters.redis import sentinels as sentinels_module
from fleetd.adapters.redis.clients import Peers, address_of
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.sentinels import SentinelView
from fleetd.config.connections import RedisSettings
from tests.support.attacks.lying_redis import ANSWERS, NONSENSE, LyingRedis
from tests.support.rig.certificate import certificate_in
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


@pytest.fixture
def three(primary: RedisServer) -> Iterator[list[RedisServer]]:
    with sentinels(*[sentinel_conf(primary.port)] * 3) as found:
        yield found


def settings_of(*found: RedisServer, host: str = HOST) -> RedisSettings:
    return RedisSettings(sentinel_master=MASTER, sentinels=tuple((host, sentinel.port) for sentinel in found))


def view(configured: int, answered: int, naming_ours: int) -> SentinelView:
    return SentinelView(configured=configured, answered=answered, naming_ours=naming_ours)


def story(settings: RedisSettings, tell: Callable[[RedisConnection], Awaitable[None]]) -> None:
    async def told() -> None:
        connection = RedisConnection(settings, timeout_seconds=WAIT_SECONDS)
        try:
            await tell(connection)
        finally:
            await connection.drop()

    asyncio.run(told())


def said(settings: RedisSettings) -> SentinelView | None:
    """What they say of whom we connect to now."""
    found: list[SentinelView | None] = []

    async def tell(connection: RedisConnection) -> None:
        await connection.client().ping()
        found.append(await connection.sentinels_agree())

    story(settings, tell)
    return found[0]


@pytest.mark.parametrize(
    ("configured", "naming_ours", "majority"),
    [
        (3, 2, True),
        (3, 1, False),
        (2, 2, True),
        (2, 1, False),
        (1, 1, True),
        (5, 3, True),
        (4, 2, False),
        (0, 0, False),
    ],
)
def test_a_majority_is_one_of_all_that_are_configured(configured: int, naming_ours: int, *, majority: bool) -> None:
    assert view(configured, naming_ours, naming_ours).majority is majority


def test_without_sentinels_there_is_nothing_to_agree_on(shared_redis: RedisServer) -> None:
    assert said(RedisSettings(unix_socket=shared_redis.socket)) is None


def test_sentinels_that_are_down_count_as_configured(three: list[RedisServer]) -> None:
    """Those that are left may be with us on the wrong side of a broken network."""

    async def tell(connection: RedisConnection) -> None:
        assert await connection.sentinels_agree() == view(3, 3, 0), "not connected to any Redis yet"
        await connection.client().ping()
        assert await connection.sentinels_agree() == view(3, 3, 3)
        three[0].stop()
        one_down = await connection.sentinels_agree()
        assert one_down == view(3, 2, 2)
        assert one_down.majority
        three[1].stop()
        two_down = await connection.sentinels_agree()
        assert two_down == view(3, 1, 1)
        assert not two_down.majority
        await connection.drop()
        assert await connection.sentinels_agree() == view(3, 1, 0)

    story(settings_of(*three), tell)


def test_a_silent_sentinel_is_not_waited_for_longer(three: list[RedisServer], monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(connection: RedisConnection) -> None:
        await connection.client().ping()
        three[1].signal(signal.SIGSTOP)
        monkeypatch.setattr(sentinels_module, "SENTINEL_SECONDS", 3.0)
        async with asyncio.timeout(WAIT_SECONDS / 2):
            assert await connection.sentinels_agree() == view(3, 2, 2)

    story(settings_of(*three), tell)


def test_sentinels_of_another_primary_do_not_name_ours(primary: RedisServer) -> None:
    with redis_server(port=free_port()) as other:
        ours, theirs = sentinel_conf(primary.port), sentinel_conf(other.port)
        with sentinels(ours, ours, theirs) as found:
            assert said(settings_of(*found)) == view(3, 3, 2)
        with sentinels(ours, theirs, theirs) as found:
            assert said(settings_of(*found)) == view(3, 3, 1)


def test_one_that_knows_no_primary_of_that_name_has_answered(primary: RedisServer) -> None:
    conf = sentinel_conf(primary.port)
    with sentinels(conf, conf.replace(MASTER, "cache")) as found:
        assert said(settings_of(*found)) == view(2, 2, 1)


def test_a_sentinel_with_two_names_counts_once(three: list[RedisServer]) -> None:
    twice = tuple((host, three[0].port) for host in (HOST, "localhost"))
    assert said(RedisSettings(sentinel_master=MASTER, sentinels=twice)) == view(2, 1, 1)
    same = ((HOST, three[0].port),) * 2
    assert said(RedisSettings(sentinel_master=MASTER, sentinels=same)) == view(1, 1, 1)


def test_a_name_and_an_address_of_one_server_are_the_same(primary: RedisServer) -> None:
    by_name = sentinel_conf(
        primary.port, "sentinel resolve-hostnames yes", "sentinel announce-hostnames yes", host="localhost"
    )
    with sentinels(by_name, sentinel_conf(primary.port)) as found:
        with admin(found[0]) as asker:
            assert command(asker, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER) == [
                b"localhost",
                str(primary.port).encode(),
            ]
        assert said(settings_of(*found)) == view(2, 2, 2)
        assert said(settings_of(*reversed(found), host="localhost")) == view(2, 2, 2)


def test_sentinels_have_a_login_of_their_own(primary: RedisServer) -> None:
    with sentinels(*[sentinel_conf(primary.port, "requirepass s3cret")] * 2, sentinel_conf(primary.port)) as found:
        addresses = tuple((HOST, sentinel.port) for sentinel in found)
        settings = RedisSettings(sentinel_master=MASTER, sentinels=addresses, sentinel_password="s3cret")
        assert said(settings) == view(3, 2, 2), "the third has no password, and so refuses any"
        story(RedisSettings(sentinel_master=MASTER, sentinels=addresses[:2]), refused)


async def refused(connection: RedisConnection) -> None:
    assert await connection.sentinels_agree() == view(2, 0, 0)


def test_sentinels_are_asked_over_tls(tmp_path: Path) -> None:
    certificate, tls = certificate_in(tmp_path)
    ports = free_port(), free_port()
    named = "sentinel resolve-hostnames yes", "sentinel announce-hostnames yes"
    conf = sentinel_conf(ports[0], *named, "tls-replication yes", host="localhost")
    options = ("--tls-port", str(ports[1]), *tls)
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis_server("--tls-port", str(ports[0]), *tls))
        sentinel = RedisServer(*options, port=free_port(), sentinel_config=conf)
        stack.callback(sentinel.close)
        sentinel.start()
        addresses = (("localhost", ports[1]),)
        settings = RedisSettings(sentinel_master=MASTER, sentinels=addresses, tls=True, tls_ca_file=certificate)
        assert said(settings) == view(1, 1, 1)


def test_after_a_failover_a_connection_to_the_old_primary_has_no_majority() -> None:
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(redis_server(port=free_port()))
        new = stack.enter_context(redis_server("--replicaof", f"{HOST} {old.port}", port=free_port()))
        client = stack.enter_context(admin(new))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")
        found = stack.enter_context(sentinels(*[sentinel_conf(old.port, quorum=2)] * 3))
        askers = [stack.enter_context(admin(sentinel)) for sentinel in found]
        wait_until(lambda: all(sees_all(asker) for asker in askers), "all to see each other")

        def over() -> bool:
            asked = [command(asker, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER) for asker in askers]
            return asked == [[HOST.encode(), str(new.port).encode()]] * 3

        async def tell(connection: RedisConnection) -> None:
            await connection.client().ping()
            assert await connection.sentinels_agree() == view(3, 3, 3)
            command(askers[0], "SENTINEL", "FAILOVER", MASTER)
            await asyncio.to_thread(wait_until, over, "the failover")
            assert await connection.sentinels_agree() == view(3, 3, 0)
            await connection.drop()
            await connection.client().ping()
            assert await connection.sentinels_agree() == view(3, 3, 3)

        story(settings_of(*found), tell)


def sees_all(asker: redis.Redis) -> bool:
    state = str(asker.info("sentinel"))
    return "'slaves': 1" in state and "'sentinels': 3" in state


@pytest.mark.parametrize("what", [*ANSWERS, *NONSENSE])
def test_what_is_no_sentinel_has_not_answered(three: list[RedisServer], what: str) -> None:
    liar = LyingRedis(*{**ANSWERS, **NONSENSE}[what], logs_in=False)

    async def tell(connection: RedisConnection) -> None:
        async with liar.listening():
            await connection.client().ping()
            assert await connection.sentinels_agree() == view(2, 1, 1)

    story(
        RedisSettings(sentinel_master=MASTER, sentinels=((HOST, three[0].port), (HOST, liar.port))),
        tell,
    )


def test_an_address_is_the_same_in_each_way_of_writing_it() -> None:
    assert address_of(("10.0.0.5", 6379)) == address_of(("::ffff:10.0.0.5", 6379, 0, 0))
    assert address_of(("fe80::1%eth0", 6379, 0, 2)) == (ip_address("fe80::1"), 6379)
    assert address_of("/run/redis.sock") is None


def test_whoever_is_connected_to_two_servers_is_with_none() -> None:
    class Connection:
        pass

    peers, first, second = Peers(), Connection(), Connection()
    peers.begin(first, address_of((HOST, 1)))
    assert peers.the_one() == (ip_address(HOST), 1)
    peers.begin(second, address_of((HOST, 2)))
    assert peers.the_one() is None
    peers.end(second)
    peers.end(second)
    assert peers.the_one() == (ip_address(HOST), 1)
