"""What one reading of Sidekiq costs: the Lua script against a pipeline of plain commands, as ratios.

    python -m benchmarks.redis_reading          needs redis-server; starts its own on a unix socket, 1-2 minutes

The pipeline gets every advantage: it knows all queues and processes beforehand, so it needs one round trip as well,
and it parses nothing. `server` is the CPU time of Redis with its writing to the socket (INFO cpu), `client` the CPU
time of this process (median), `received` the bytes that came over the socket.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import redis
from redis.asyncio import Redis

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from tests.support.rig.redis_server import RedisServer, admin, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact

QUEUES = ("default", "push", "ingress", "mailers", "pull", "fasp", "scheduler")
PROCESSES = 8
THREADS = 60
HASH_FIELDS = ("info", "busy", "beat", "quiet", "rss", "concurrency")


@dataclass(frozen=True)
class World:
    name: str
    queue_jobs: int
    job_bytes: int
    running_bytes: int


WORLDS = (
    World("calm: no backlog", 1, 1_000, 1_000),
    World("100,000 jobs a queue", 100_000, 300, 1_000),
    World("jobs of 100 kB", 3, 100_000, 1_000),
    World("jobs of 10 MB", 1, 10_000_000, 1_000),
    World("running jobs of 20 kB", 1, 1_000, 20_000),
    World("running jobs of 100 kB", 1, 1_000, 100_000),
)


@dataclass(frozen=True)
class Cost:
    wall_ms: float
    client_ms: float
    server_ms: float
    received_kb: float


def running_job(size_bytes: int) -> dict[str, object]:
    """A job with a remote server's activity, as Mastodon's workers get it: JSON inside the job's JSON."""
    activity = compact({"id": "https://remote.example/users/someone/statuses/1", "type": "Create"})
    return {
        "retry": 8,
        "queue": "ingress",
        "backtrace": True,
        "class": "ActivityPub::ProcessingWorker",
        "args": [1, activity * (size_bytes // len(activity)), None, "Account"],
        "jid": "88cee6de6ec5f8f3be802e28",
        "created_at": 1760000000.25,
        "enqueued_at": 1760000000.5,
    }


def arrange(client: redis.Redis, world: World) -> list[str]:
    client.flushall()
    keys = SidekiqKeys(client)
    for queue in QUEUES:
        for start in range(0, world.queue_jobs, 10_000):
            keys.enqueue(queue, min(10_000, world.queue_jobs - start), age_seconds=5, payload_bytes=world.job_bytes)
    identities = [f"worker{n}:{4711 + n}:5f0c3a9d2b1e" for n in range(PROCESSES)]
    for identity in identities:
        keys.beat(identity, version="7.3.9")
        payload = compact(running_job(world.running_bytes))
        keys.work(identity, *(QUEUES[n % 5] for n in range(THREADS)), payload=payload)
    return identities


async def plain(client: Redis, identities: list[str]) -> None:
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("TIME")
    pipeline.execute_command("SMEMBERS", "queues")
    pipeline.execute_command("SMEMBERS", "processes")
    for queue in QUEUES:
        pipeline.execute_command("LLEN", f"queue:{queue}")
        pipeline.execute_command("LINDEX", f"queue:{queue}", -1)
    for identity in identities:
        pipeline.execute_command("HMGET", identity, *HASH_FIELDS)
        pipeline.execute_command("HVALS", f"{identity}:work")
    pipeline.execute_command("MGET", "stat:processed", "stat:failed")
    pipeline.execute_command("INFO", "server")
    await pipeline.execute()


def server_cpu_seconds(admin_client: redis.Redis) -> float:
    used = admin_client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


async def measure(admin_client: redis.Redis, rounds: int, read: Callable[[], Awaitable[object]]) -> Cost:
    await read()  # connects
    walls, cpus = [], []
    cpu_before = server_cpu_seconds(admin_client)
    sent_before = admin_client.info("stats")["total_net_output_bytes"]
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        await read()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    sent = admin_client.info("stats")["total_net_output_bytes"] - sent_before
    server = server_cpu_seconds(admin_client) - cpu_before
    return Cost(
        wall_ms=statistics.median(walls) * 1e3,
        client_ms=statistics.median(cpus) * 1e3,
        server_ms=server / rounds * 1e3,
        received_kb=sent / rounds / 1e3,
    )


async def compare(server: RedisServer, admin_client: redis.Redis, world: World) -> tuple[Cost, Cost]:
    identities = arrange(admin_client, world)
    rounds = 10 if world.job_bytes > 1_000_000 or world.running_bytes > 50_000 else 100
    source = SidekiqRedis(RedisSettings(unix_socket=server.socket), queues=QUEUES, read_timeout_seconds=30)
    client = Redis(unix_socket_path=server.socket)
    try:
        script = await measure(admin_client, rounds, source.read)
        pipeline = await measure(admin_client, rounds, lambda: plain(client, identities))
    finally:
        await source.close()
        await client.aclose()
    return script, pipeline


def row(world: World, script: Cost, pipeline: Cost) -> str:
    cells = [world.name]
    for name in ("wall_ms", "client_ms", "server_ms", "received_kb"):
        ours, theirs = getattr(script, name), getattr(pipeline, name)
        cells.append(f"{ours:.2f} / {theirs:.2f} ({theirs / ours:.1f}×)")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    print(f"{len(QUEUES)} queues, {PROCESSES} processes of {THREADS} busy threads; script / pipeline (ratio)\n")
    print("| world | wall ms | client CPU ms | server CPU ms | received kB |\n|---|---|---|---|---|")
    with redis_server() as server, admin(server) as admin_client:
        for world in WORLDS:
            script, pipeline = asyncio.run(compare(server, admin_client, world))
            print(row(world, script, pipeline))
            sys.stdout.flush()
        lua = admin_client.info("memory").get("used_memory_vm_eval", admin_client.info("memory").get("used_memory_lua"))
        print(f"\nMemory of Redis's Lua afterwards: {int(lua or 0) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
