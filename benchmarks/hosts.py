"""What many hosts cost their Redis, and how much a host receives: ratios on one real redis-server.

    python -m benchmarks.hosts        needs redis-server; about eight minutes

Hosts of 8 processes with 60 busy threads each: real Tickers with the real adapters of Redis; systemd and Postgres are
simulated. Before each round the half of the processes beats that is due within a tick of 5 s, with new running jobs.
Then one reader, which belongs to no fleet, reads everything; then all hosts tick, one after the other. Redis's CPU
(INFO cpu) and the bytes that it sends (INFO stats) are counted around each, so all figures of a line are of the same
keys and the same minute. The last table is of one host beside as many processes as a reading takes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import redis
from msgspec import structs

from fleetd.adapters.sidekiq.memory import PROCESSES_MAX
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.model.policy_tables import Policy
from fleetd.daemon.tick import TickResult
from tests.support.fleet.on_redis import FleetOnRedis, HostOnRedis, Workers
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, redis_server
from tests.support.world.parts import Process
from tests.support.world.ports import policy, strict

INSTANCES, THREADS = 8, 60
HOSTS = (1, 2, 10)
JOB_BYTES = (1_000, 4_000, 8_000)
ROUNDS = 16
CROWDED_TICKS = 8
CPU_RATIO_MAX, BYTES_RATIO_MAX = 2.5, 1.5
QUEUES = "default push ingress mailers pull fasp"


class Cost(NamedTuple):
    """What Redis did: CPU, and what it sent."""

    cpu_seconds: float
    sent_bytes: int


class Round(NamedTuple):
    whole: Cost  # of one reading of everything
    hosts: tuple[Cost, ...]  # of the tick of each host, the leader first


def rules(number: int) -> Policy:
    """All numbers are `min`, so nothing is started or drained."""
    found = policy(strict(numbers=f"1-{INSTANCES}", threads=THREADS, low=INSTANCES, queues=QUEUES))
    return structs.replace(found, host=f"w{number}")


class Server:
    """What Redis says of itself, less what it costs to ask."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        costs = [self._between(self._read(), self._read()) for _ in range(200)]
        self._asking = Cost(statistics.mean(c.cpu_seconds for c in costs), round(statistics.mean(c[1] for c in costs)))

    async def cost_of(self, call: Callable[[], Awaitable[object]]) -> Cost:
        before = self._read()
        await call()
        cost = self._between(before, self._read())
        return Cost(cost.cpu_seconds - self._asking.cpu_seconds, cost.sent_bytes - self._asking.sent_bytes)

    def _read(self) -> Cost:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.info("cpu")
        pipeline.info("stats")
        cpu, stats = pipeline.execute()
        return Cost(float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]), int(stats["total_net_output_bytes"]))

    @staticmethod
    def _between(before: Cost, after: Cost) -> Cost:
        return Cost(after.cpu_seconds - before.cpu_seconds, after.sent_bytes - before.sent_bytes)


@asynccontextmanager
async def reader(server: RedisServer) -> AsyncIterator[SidekiqRedis]:
    """Reads everything, as a host that is alone does."""
    source = SidekiqRedis(
        RedisSettings(unix_socket=server.socket), queues=QUEUES.split(), read_timeout_seconds=WAIT_SECONDS
    )
    try:
        yield source
    finally:
        await source.close()


async def rounds(
    server: RedisServer, client: redis.Redis, hosts: int, job_bytes: int, *, all_read: bool = False
) -> list[Round]:
    """The rounds of a fleet in which nothing moves. `all_read`: every host reads every running job, as if it led."""
    client.flushall()
    workers = Workers(client, busy_threads=THREADS, job_bytes=job_bytes)
    fleet = FleetOnRedis(client, workers, [HostOnRedis(rules(n + 1), server.socket) for n in range(hosts)])
    for host in fleet.hosts if all_read else ():
        host.ticker.part.without_jobs_of = frozenset  # type: ignore[method-assign]
    found = []
    async with reader(server) as alone:
        await fleet.settle()
        await alone.read()
        redis_says = Server(client)
        processes = sorted(fleet.processes(), key=lambda p: p.pid % 2)
        for number in range(ROUNDS):
            half = len(processes) // 2
            workers.beat(processes[half * (number % 2) :][:half])
            whole = await redis_says.cost_of(alone.read)
            ticks = tuple([await redis_says.cost_of(host.tick) for host in fleet.hosts])
            fleet.advance()
            found.append(Round(whole=whole, hosts=ticks))
        await fleet.close()
    return found


def mean(costs: list[Cost]) -> Cost:
    return Cost(statistics.mean(c.cpu_seconds for c in costs), round(statistics.mean(c.sent_bytes for c in costs)))


def row(what: str, found: list[Round], follower_of_two: float | None) -> tuple[str, float | None]:
    """A line of the table; and the bytes that one follower receives in a tick."""
    whole, leader = mean([r.whole for r in found]), mean([r.hosts[0] for r in found])
    followers = [cost for r in found for cost in r.hosts[1:]]
    follows = mean(followers) if followers else None
    together = statistics.mean(sum(c.cpu_seconds for c in r.hosts) for r in found)
    cells = [
        what,
        f"{whole.cpu_seconds * 1e3:.2f}",
        f"{leader.cpu_seconds * 1e3:.2f}",
        "–" if follows is None else f"{follows.cpu_seconds * 1e3:.2f}",
        f"{together * 1e3:.1f}",
        f"{together / whole.cpu_seconds:.2f}",
        f"{leader.sent_bytes / 1e3:.0f}",
        "–" if follows is None else f"{follows.sent_bytes / 1e3:.1f}",
        "–" if follows is None or follower_of_two is None else f"{follows.sent_bytes / follower_of_two:.2f}",
    ]
    return "| " + " | ".join(cells) + " |", None if follows is None else follows.sent_bytes


def table(server: RedisServer, client: redis.Redis, job_bytes: int) -> None:
    print(f"\nRunning jobs of {job_bytes:,} bytes; a tick or reading each, Redis's CPU in ms, received in kB:\n")
    print("| hosts | one whole reading | leader | a follower | all | all / whole | leader kB | follower kB | / of 2 |")
    print("|---|---|---|---|---|---|---|---|---|")
    of_two: float | None = None
    for hosts in HOSTS:
        line, received = row(str(hosts), asyncio.run(rounds(server, client, hosts, job_bytes)), of_two)
        of_two = received if hosts == 2 else of_two
        print(line, flush=True)
    everything = asyncio.run(rounds(server, client, HOSTS[-1], job_bytes, all_read=True))
    print(row(f"{HOSTS[-1]}, if each read all", everything, of_two)[0], flush=True)


class Crowded(NamedTuple):
    """One tick beside many processes. `unread`: of how many the running jobs did not fit into this reading."""

    seconds: float  # of fleetd's CPU
    cost: Cost
    read: int
    unread: int


def crowd(number: int) -> list[Process]:
    """Processes of hosts with 20 instances each, none of which has a fleetd."""
    return [
        Process(
            identity=f"w{100 + n // 20}:{1000 + n}:5f0c3a9d2b1e",
            hostname=f"w{100 + n // 20}",
            pid=1000 + n,
            tag=f"fleetd:w{100 + n // 20}:{n % 20 + 1}:p27:0a1b2c3d",
            threads=25,
            db_pool=27,
            queues=tuple((queue, 1) for queue in QUEUES.split()),
            weighted=False,
            started_at=0.0,
            ready_at=0.0,
        )
        for n in range(number)
    ]


async def crowded(server: RedisServer, client: redis.Redis, processes: int, busy: int) -> list[Crowded]:
    """The ticks of one host beside so many processes of others, with so many busy threads of 25 each."""
    client.flushall()
    workers, others = Workers(client, busy_threads=busy, job_bytes=1000), crowd(processes)
    fleet = FleetOnRedis(client, workers, [HostOnRedis(rules(1), server.socket)])
    await fleet.settle()
    redis_says, [host] = Server(client), fleet.hosts
    workers.beat(others)
    found = []
    for number in range(CROWDED_TICKS):
        workers.beat([*fleet.processes(), *others][number % 2 :: 2])
        results: list[TickResult] = []
        seconds: list[float] = []
        cost = await redis_says.cost_of(partial(timed, host, results, seconds))
        fleet.advance()
        facts = results[0].tick.sidekiq
        if facts is None or not facts.processes_complete:
            raise RuntimeError("not all processes were read")
        unread = sum(1 for process in facts.processes if process.busy_by_queue is None)
        found.append(Crowded(seconds=seconds[0], cost=cost, read=len(facts.processes), unread=unread))
    await fleet.close()
    return found


async def timed(host: HostOnRedis, results: list[TickResult], seconds: list[float]) -> None:
    begun = time.process_time()
    results.append(await host.tick())
    seconds.append(time.process_time() - begun)


def crowded_row(server: RedisServer, client: redis.Redis, processes: int, busy: int) -> str:
    ticks = asyncio.run(crowded(server, client, processes, busy))[CROWDED_TICKS // 2 :]
    tracemalloc.start()  # in a run of its own, because it takes far more time than what it watches
    asyncio.run(crowded(server, client, processes, busy))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    cost = mean([tick.cost for tick in ticks])
    cells = (
        f"{ticks[-1].read:,}",
        str(busy),
        f"{statistics.mean(tick.seconds for tick in ticks) * 1e3:,.0f}",
        f"{cost.cpu_seconds * 1e3:.1f}",
        f"{cost.sent_bytes / 1e6:.1f}",
        f"{ticks[-1].unread:,}",
        f"{peak_bytes / 1e6:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def crowds(server: RedisServer, client: redis.Redis) -> None:
    print("\n| processes | busy threads each | fleetd's CPU, ms | Redis's CPU, ms | MB sent | unread | MB of memory |")
    print("|---|---|---|---|---|---|---|")
    for processes, busy in ((PROCESSES_MAX // 10, 5), (PROCESSES_MAX - INSTANCES, 5), (PROCESSES_MAX - INSTANCES, 25)):
        print(crowded_row(server, client, processes, busy), flush=True)


def main() -> None:
    print(f"Load of the machine: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
    with redis_server() as server, admin(server) as client:
        for job_bytes in JOB_BYTES:
            table(server, client, job_bytes)
        print(f"\nThe targets are {CPU_RATIO_MAX} and {BYTES_RATIO_MAX} with ten hosts.")
        crowds(server, client)
        print(f"\nRedis {client.info('server')['redis_version']}")


if __name__ == "__main__":
    main()
