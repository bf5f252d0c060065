"""What reading Sidekiq costs: fleetd's reading beside Sidekiq's own Ruby API, as ratios.

    python -m benchmarks.redis_reading     needs redis-server and ruby-sidekiq (Debian); about 5 minutes

Both read the same Redis in turn, as over a minute: a reading every 5 s, and before each the half of the processes beats
that is due, since each beats every 10 s. A beat brings new running jobs. Nothing waits: only the order of events is
that of a minute. `Redis` is the CPU time of the server with its writing to the socket (INFO cpu), `client` the CPU time
of the reading process without its start, `received` the bytes that came over the socket, `block` the longest time that
one command or script of fleetd's held Redis (SLOWLOG), in the calmest of the minutes: it contains the waiting for a
core. The second table is of a link so slow that running jobs are cut inside Redis.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from fleetd.adapters.sidekiq import running_jobs
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from tests.support.rig.redis_server import RedisServer, admin, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact

QUEUES = ("default", "push", "ingress", "mailers", "pull", "fasp", "scheduler")
PROCESSES = 8
WAITING_JOBS = 100_000
READINGS = 12  # of a minute
MINUTES = 5
ROWS = tuple((threads, size_bytes) for threads in (4, 60) for size_bytes in (1_000, 20_000, 100_000))


@dataclass
class Cost:
    """Of all readings of all minutes."""

    client_seconds: float = 0.0
    server_seconds: float = 0.0
    received_bytes: int = 0
    blocks_ms: list[float] = field(default_factory=list)  # the longest of each minute

    def a_reading(self) -> tuple[float, float, float]:
        """Client ms, Redis ms, received kB."""
        readings = READINGS * MINUTES
        return (
            self.client_seconds / readings * 1e3,
            self.server_seconds / readings * 1e3,
            self.received_bytes / readings / 1e3,
        )


class Fleet:
    """Sidekiq's keys of a busy fleet, as Sidekiq 6.4.1 writes them, because the Ruby API here is of that version."""

    def __init__(self, client: redis.Redis, threads: int, job_bytes: int) -> None:
        self._client = client
        self._keys = SidekiqKeys(client)
        self._threads = threads
        self._job_bytes = job_bytes
        self._jobs = 0
        self.identities = [f"worker{n}:{4711 + n}:5f0c3a9d2b1e" for n in range(PROCESSES)]
        client.flushall()
        for queue in QUEUES[1:]:
            self._keys.enqueue(queue, 2, age_seconds=5, payload_bytes=job_bytes)
        # The oldest job has the size of the row; a backlog of such jobs would need 10 GB.
        for _ in range(0, WAITING_JOBS, 10_000):
            self._keys.enqueue(QUEUES[0], 10_000, age_seconds=4, payload_bytes=200)
        client.rpush(f"queue:{QUEUES[0]}", compact(self._job()))

    def beat(self, identity: str) -> None:
        self._keys.beat(identity, version="6.4.1", busy=self._threads, beat=repr(self._keys.now()))
        began = int(self._keys.now())
        work: dict[str, str] = {
            f"tid{n}": compact({"queue": QUEUES[n % 5], "payload": compact(self._job()), "run_at": began})
            for n in range(self._threads)
        }
        pipeline = self._client.pipeline()
        pipeline.unlink(f"{identity}:workers")
        pipeline.hset(f"{identity}:workers", mapping=work)  # type: ignore[arg-type]
        pipeline.execute()

    def _job(self) -> dict[str, object]:
        """A job with a remote server's activity, as Mastodon's workers get it: JSON inside the job's JSON."""
        self._jobs += 1
        activity = compact({"id": f"https://remote.example/users/someone/statuses/{self._jobs}", "type": "Create"})
        size_bytes = self._job_bytes - 400 + self._jobs % 97  # as different from each other as real ones
        return {
            "retry": 8,
            "queue": "ingress",
            "backtrace": True,
            "class": "ActivityPub::ProcessingWorker",
            "args": [1, (activity * (size_bytes // len(activity) + 1))[:size_bytes], None, "Account"],
            "jid": f"{self._jobs:024x}",
            "created_at": 1760000000.25,
            "enqueued_at": self._keys.now(),
        }


class SidekiqApi:
    """Sidekiq's Ruby API in a process of its own."""

    def __init__(self, socket: str) -> None:
        self._process = subprocess.Popen(
            ["ruby", str(Path(__file__).with_name("sidekiq_api.rb")), socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def read(self) -> tuple[float, list[int]]:
        """The CPU seconds of one reading; what it counted: queues, processes, running jobs."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the Ruby process has no pipes")
        print(file=self._process.stdin, flush=True)
        seconds, *counted = self._process.stdout.readline().split()
        return float(seconds), [int(number) for number in counted]

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


class Server:
    """What Redis says of itself."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        client.config_set("slowlog-log-slower-than", "0")
        client.config_set("slowlog-max-len", "10000")

    @contextmanager
    def counts_into(self, cost: Cost) -> Iterator[None]:
        before, sent = self._cpu_seconds(), self._sent_bytes()
        yield
        cost.server_seconds += self._cpu_seconds() - before
        cost.received_bytes += self._sent_bytes() - sent

    def longest_ms(self) -> float:
        """Of fleetd's commands since the last `forget`."""
        entries = self._client.slowlog_get(10_000)
        return max(entry["duration"] for entry in entries if entry["client_name"] == b"fleetd") / 1e3

    def forget(self) -> None:
        self._client.slowlog_reset()

    def _cpu_seconds(self) -> float:
        used = self._client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def _sent_bytes(self) -> int:
        return int(self._client.info("stats")["total_net_output_bytes"])


def must_be(counted: object, expected: object) -> None:
    if counted != expected:
        raise RuntimeError(f"a reading found {counted} instead of {expected}")


async def compare(redis_at: RedisServer, client: redis.Redis, threads: int, job_bytes: int) -> tuple[Cost, Cost]:
    fleet, server = Fleet(client, threads, job_bytes), Server(client)
    source = SidekiqRedis(RedisSettings(unix_socket=redis_at.socket), queues=QUEUES, read_timeout_seconds=30)
    api = SidekiqApi(redis_at.socket)
    ours, theirs = Cost(), Cost()
    for identity in fleet.identities:
        fleet.beat(identity)
    api.read()  # connects
    await source.read()  # connects, sends the scripts
    await source.read()

    async def read_ours() -> None:
        with server.counts_into(ours):
            before = time.process_time()
            facts = await source.read()
            ours.client_seconds += time.process_time() - before
        jobs = [job for process in facts.processes for job in process.jobs if job.jid and job.job_class]
        must_be(len(jobs), threads * PROCESSES)

    async def read_theirs() -> None:
        with server.counts_into(theirs):
            seconds, counted = api.read()
            theirs.client_seconds += seconds
        must_be(counted, [len(QUEUES), PROCESSES, threads * PROCESSES])

    try:
        for _ in range(MINUTES):
            server.forget()
            for number in range(READINGS):
                for identity in fleet.identities[number % 2 :: 2]:
                    fleet.beat(identity)
                turns: list[Callable[[], Awaitable[None]]] = [read_ours, read_theirs]
                for read in turns if number % 4 < 2 else turns[::-1]:
                    await read()
            ours.blocks_ms.append(server.longest_ms())
    finally:
        await source.close()
        api.close()
    return ours, theirs


def row(threads: int, job_bytes: int, ours: Cost, theirs: Cost) -> str:
    cells = [f"{threads} busy threads, jobs of {job_bytes // 1000} kB"]
    for own, other in zip(ours.a_reading(), theirs.a_reading(), strict=True):
        cells.append(f"{own:.2f} / {other:.2f} ({own / other:.2f})")
    cells.append(f"{min(ours.blocks_ms):.1f}")
    return "| " + " | ".join(cells) + " |"


def table(server: RedisServer, client: redis.Redis) -> None:
    print("\n| 8 processes, 100,000 jobs waiting | client CPU ms | Redis CPU ms | received kB | longest block ms |")
    print("|---|---|---|---|---|")
    for threads, job_bytes in ROWS:
        print(row(threads, job_bytes, *asyncio.run(compare(server, client, threads, job_bytes))))
        sys.stdout.flush()


def main() -> None:
    print(f"Load of the machine: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
    with redis_server() as server, admin(server) as client:
        table(server, client)
        running_jobs.SENT_BYTES_MAX = running_jobs.SENT_BYTES_MIN  # what a slow link leads to
        table(server, client)
        memory = client.info("memory")
        lua_bytes = memory.get("used_memory_vm_eval", memory.get("used_memory_lua"))
        version = client.info("server")["redis_version"]
        print(f"\nRedis {version}; memory of its Lua afterwards: {int(lua_bytes or 0) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
