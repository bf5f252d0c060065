"""What a tick of a fleet costs on the wire, by the role of a host: round trips and bytes. On a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import redis
from msgspec import structs

from fleetd.core.model.policy_tables import Policy
from tests.support.fleet.on_redis import FleetOnRedis, HostOnRedis, Workers
from tests.support.rig.redis_proxy import CountingProxy
from tests.support.rig.redis_server import RedisServer
from tests.support.world.ports import policy, strict


def host(number: int, *, instances: int, threads: int) -> Policy:
    rules = policy(strict(numbers=f"1-{instances + 1}", threads=threads, low=instances))
    return structs.replace(rules, host=f"w{number}")


class Wire:
    """The fleet, and what passes between each host and Redis."""

    def __init__(self, fleet: FleetOnRedis, proxies: list[CountingProxy]) -> None:
        self.fleet, self.proxies = fleet, proxies

    async def tick(self) -> list[tuple[int, int]]:
        """Round trips and received bytes of each host in one tick."""
        for proxy in self.proxies:
            proxy.counted()
        await self.fleet.tick()
        return [proxy.counted() for proxy in self.proxies]


def story(
    server: RedisServer,
    client: redis.Redis,
    path: Path,
    rules: list[Policy],
    workers: Workers,
    tell: Callable[[Wire], Awaitable[None]],
) -> None:
    @contextlib.asynccontextmanager
    async def wire() -> AsyncIterator[Wire]:
        async with contextlib.AsyncExitStack() as stack:
            proxies = [CountingProxy(server.socket, path / f"{one.host}.sock") for one in rules]
            for proxy in proxies:
                await stack.enter_async_context(proxy.open())
            hosts = [HostOnRedis(one, str(proxy.path)) for one, proxy in zip(rules, proxies, strict=True)]
            fleet = FleetOnRedis(client, workers, hosts)
            try:
                await fleet.settle()
                yield Wire(fleet, proxies)
            finally:
                await fleet.close()

    async def told() -> None:
        async with wire() as found:
            await tell(found)

    asyncio.run(told())


def trips(counted: list[tuple[int, int]]) -> list[int]:
    return [round_trips for round_trips, _ in counted]


def started(fleet: FleetOnRedis) -> list[int]:
    return [sum(1 for _, step in host.units.orders if step.verb == "start") for host in fleet.hosts]


def test_alone_or_following_one_round_trip_leading_two_and_one_more_when_starting(
    shared_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    async def three(wire: Wire) -> None:
        for _ in range(3):
            wire.fleet.workers.beat(wire.fleet.processes())
            assert trips(await wire.tick()) == [2, 1, 1]
        client.lpush("queue:default", *['{"class":"A","created_at":1760000000}'] * 5000)
        client.sadd("queues", "default")
        for member in wire.fleet.hosts:
            await member.ledger.read()  # connects, which a host does once
        for _ in range(8):
            wire.fleet.workers.beat(wire.fleet.processes())
            before = started(wire.fleet)
            counted = trips(await wire.tick())
            starts = [after - so_far for after, so_far in zip(started(wire.fleet), before, strict=True)]
            assert counted == [2 + starts[0], 1 + starts[1], 1 + starts[2]]
        assert started(wire.fleet) == [1, 1, 1]

    async def one(wire: Wire) -> None:
        for _ in range(3):
            wire.fleet.workers.beat(wire.fleet.processes())
            assert trips(await wire.tick()) == [1]

    small = Workers(client, busy_threads=4, job_bytes=400)
    rules = [host(n, instances=1, threads=5) for n in (1, 2, 3)]
    story(shared_redis, client, tmp_path, rules, small, three)
    client.flushall()
    story(shared_redis, client, tmp_path, rules[:1], small, one)


def test_what_a_follower_receives_hardly_depends_on_how_many_hosts_there_are(
    shared_redis: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    received: dict[int, list[int]] = {}

    async def tell(wire: Wire) -> None:
        bytes_of_last = []
        for _ in range(2):
            wire.fleet.workers.beat(wire.fleet.processes())
            bytes_of_last.append((await wire.tick())[-1][1])
        received[len(wire.proxies)] = bytes_of_last

    busy = Workers(client, busy_threads=60, job_bytes=1000)
    for hosts in (2, 10):
        client.flushall()
        rules = [host(n, instances=8, threads=60) for n in range(1, hosts + 1)]
        story(shared_redis, client, tmp_path, rules, busy, tell)
    assert min(received[2]) > 8 * 60 * 900, "its own running jobs"
    assert max(received[10]) <= 1.5 * min(received[2])
