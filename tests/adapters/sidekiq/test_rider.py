"""Commands of somebody else in a reading's first round trip: each gets its reply or is missed. On a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import exceptions

from fleetd.adapters.redis.rounds import Script
from fleetd.adapters.sidekiq import reading as sidekiq_reading
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys

COUNT = ("INCR", "rider:sent")


class Passenger:
    """A rider that notes what it hears."""

    def __init__(self, *commands: tuple[Any, ...]) -> None:
        self.to_send = commands
        self.asked = 0
        self.heard: list[Any] = []  # the replies, or "missed"

    def commands(self) -> tuple[tuple[Any, ...], ...]:
        self.asked += 1
        return self.to_send

    def take(self, replies: list[Any]) -> None:
        self.heard.append(replies)

    def missed(self) -> None:
        self.heard.append("missed")


def source_with(rider: Passenger, settings: RedisSettings) -> SidekiqRedis:
    return SidekiqRedis(settings, queues=("default",), read_timeout_seconds=WAIT_SECONDS, rider=rider)


def story(server: RedisServer, rider: Passenger, tell: Callable[[SidekiqRedis], Awaitable[None]]) -> None:
    async def told() -> None:
        source = source_with(rider, RedisSettings(unix_socket=server.socket))
        try:
            await tell(source)
        finally:
            await source.close()

    asyncio.run(told())


def script(directory: Path, text: str) -> Script:
    file = directory / "rider.lua"
    file.write_text(text)
    return Script(file)


@pytest.fixture
def counting(tmp_path: Path) -> Script:
    """Counts its runs, so that one too many is seen."""
    return script(tmp_path, "return redis.call('INCR', KEYS[1]) .. ARGV[1]")


def test_replies_come_in_order_and_an_error_is_one(shared_redis: RedisServer, client: redis.Redis) -> None:
    SidekiqKeys(client).enqueue("default", 3)
    client.set("a string", "x")
    rider = Passenger(("ECHO", "a"), ("LLEN", "a string"), COUNT)

    async def tell(source: SidekiqRedis) -> None:
        for sent in (1, 2):
            facts = await source.read()
            assert facts.queues["default"].length_jobs == 3
            assert facts.faults == ()
            first, second, third = rider.heard[-1]
            assert (first, third) == (b"a", sent)
            assert isinstance(second, exceptions.ResponseError)

    story(shared_redis, rider, tell)
    assert (rider.asked, len(rider.heard)) == (2, 2)


def test_whoever_has_nothing_to_send_hears_that_the_reading_arrived(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    rider = Passenger()

    async def tell(source: SidekiqRedis) -> None:
        await source.read()

    story(shared_redis, rider, tell)
    assert rider.heard == [[]]


def test_a_script_that_redis_does_not_know_runs_in_the_same_reading_and_once(
    shared_redis: RedisServer, client: redis.Redis, counting: Script
) -> None:
    rider = Passenger(COUNT, counting.call("!", keys=("rider:run",)))

    async def tell(source: SidekiqRedis) -> None:
        await source.read()  # Redis knows neither script
        await source.read()  # it knows both
        client.script_flush()
        client.script_load(sidekiq_reading._SCRIPT.text)
        await source.read()  # it knows the reading's only
        client.script_flush()
        client.script_load(counting.text)
        assert (await source.read()).writable is True  # it knows the rider's only

    story(shared_redis, rider, tell)
    assert rider.heard == [[1, b"1!"], [2, b"2!"], [3, b"3!"], [4, b"4!"]]


def test_a_script_that_can_t_be_sent_again_is_missed_and_the_reading_goes_on(
    shared_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    """It answers with more than one round trip may send, and so ends the connection."""
    SidekiqKeys(client).enqueue("default", 3)
    rider = Passenger(script(tmp_path, "return string.rep('x', 20000000)").call())

    async def tell(source: SidekiqRedis) -> None:
        facts = await source.read()
        assert facts.queues["default"].length_jobs == 3

    story(shared_redis, rider, tell)
    assert rider.heard == ["missed"]


def test_a_reading_that_fails_before_or_in_the_round_trip_is_missed() -> None:
    async def missed(settings: RedisSettings) -> list[Any]:
        rider = Passenger(COUNT)
        source = source_with(rider, settings)
        with pytest.raises(SourceUnavailableError):
            await source.read()
        await source.close()
        return rider.heard

    with redis_server("--requirepass", "right-horse") as server:
        refused = RedisSettings(unix_socket=server.socket, password="wrong-horse")
        for settings in (RedisSettings(host="127.0.0.1", port=free_port()), refused):
            assert asyncio.run(missed(settings)) == ["missed"]


def test_a_silent_redis_and_a_cancelled_reading_are_missed() -> None:
    rider = Passenger(COUNT)

    async def tell(source: SidekiqRedis) -> None:
        await source.read()
        server.signal(signal.SIGSTOP)
        source._deadline_seconds = 0.3
        with pytest.raises(SourceUnavailableError):
            await source.read()
        reading = asyncio.create_task(source.read())
        await asyncio.sleep(0.05)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        server.signal(signal.SIGCONT)
        source._deadline_seconds = WAIT_SECONDS
        await source.read()

    with redis_server() as server:
        story(server, rider, tell)
    first, *between, last = rider.heard
    assert first == [1]
    assert between == ["missed", "missed"]
    assert isinstance(last, list)


def test_what_a_reading_makes_of_its_own_replies_does_not_matter() -> None:
    """Redis did what the rider asked for, so the rider hears of it."""
    rider = Passenger(("PING",))

    async def tell(source: SidekiqRedis) -> None:
        with pytest.raises(SourceUnavailableError, match="is a Redis Cluster"):
            await source.read()

    with redis_server("--cluster-enabled", "yes") as server, admin(server) as client:
        command(client, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        story(server, rider, tell)
    assert rider.heard == [[True]]


def test_a_reading_that_fails_later_is_not_missed(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rider = Passenger(COUNT)

    async def fail(*_: object) -> None:
        raise ConnectionResetError

    async def tell(source: SidekiqRedis) -> None:
        monkeypatch.setattr(source._members, "read", fail)
        with pytest.raises(SourceUnavailableError):
            await source.read()

    story(shared_redis, rider, tell)
    assert rider.heard == [[1]]
