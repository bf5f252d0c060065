"""A fleet of real Tickers on one real Redis, by the adapters: its ledger, and Sidekiq's keys as its workers write them.

systemd, Postgres and the hosts are simulated. Their time is the world's; Redis's goes its own way, so nothing expires.
"""

from __future__ import annotations

import asyncio

import redis

from fleetd.adapters.ledger.ledger import LEDGER_KEY, RedisLedger
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.asking import Self
from fleetd.core.model.policy_tables import Policy
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from tests.support.rig.redis_server import WAIT_SECONDS
from tests.support.rig.sidekiq_keys import compact
from tests.support.world.parts import Process
from tests.support.world.ports import FakeClock, FakeDatabase, FakeHost, FakeStore, FakeUnits
from tests.support.world.world import World

TICK_SECONDS = 5.0


class HostOnRedis:
    """One host. `socket`: by which its fleetd reaches Redis."""

    def __init__(self, policy: Policy, socket: str) -> None:
        self.world = World(policy)
        self.world.boot_id = f"boot of {policy.host}"
        settings = RedisSettings(unix_socket=socket)
        connection = RedisConnection(settings, timeout_seconds=WAIT_SECONDS)
        self.ledger = RedisLedger(settings, connection, deadline_seconds=WAIT_SECONDS)
        self.sidekiq = SidekiqRedis(
            settings,
            queues=[queue for profile in policy.profiles for queue, _ in profile.queues],
            read_timeout_seconds=WAIT_SECONDS,
            rider=self.ledger,
        )
        self.units = FakeUnits(self.world)
        sources = Sources(
            self.sidekiq,
            FakeDatabase(self.world),
            self.units,
            FakeHost(self.world),
            FakeClock(self.world),
            deadline_seconds=WAIT_SECONDS,
            ledger=self.ledger,
        )
        who = Self(fleet="m.example", boot_id=self.world.boot_id, nonce=f"nonce of {policy.host}", fleetd="9")
        self.ticker = Ticker(policy, sources, FakeStore(), who)

    async def tick(self) -> TickResult:
        return await self.ticker.tick()

    async def close(self) -> None:
        await self.sidekiq.close()
        await self.ledger.close()


class Workers:
    """Writes what the hosts' Sidekiq processes write."""

    def __init__(self, client: redis.Redis, *, busy_threads: int, job_bytes: int) -> None:
        """`busy_threads` of each process; `job_bytes` of each running job."""
        self._client = client
        self._busy, self._job_bytes = busy_threads, job_bytes
        self._jobs = 0

    def beat(self, processes: list[Process]) -> None:
        """Each beats, with other running jobs than before."""
        seconds, microseconds = self._client.time()
        now = float(seconds) + float(microseconds) / 1e6
        for process in processes:
            pipeline = self._client.pipeline(transaction=False)
            info = {
                "hostname": process.hostname,
                "started_at": now - 3600.0,
                "pid": process.pid,
                "tag": process.tag,
                "concurrency": process.threads,
                "queues": [queue for queue, _ in process.queues],
                "weights": [{queue: 0 for queue, _ in process.queues}],
                "identity": process.identity,
                "labels": [],
                "version": "7.3.9",
                "embedded": False,
            }
            fields = {"info": compact(info), "busy": self._busy, "beat": repr(now), "quiet": "false", "rss": 612_340}
            pipeline.sadd("processes", process.identity)
            pipeline.hset(process.identity, mapping=fields)  # type: ignore[arg-type]
            pipeline.unlink(f"{process.identity}:work")
            if self._busy:
                pipeline.hset(f"{process.identity}:work", mapping=self._work(process, int(now)))  # type: ignore[arg-type]
            pipeline.execute()

    def _work(self, process: Process, now: int) -> dict[str, str]:
        queues = [queue for queue, _ in process.queues]
        return {
            f"t{n}": compact({"queue": queues[n % len(queues)], "payload": self._job(), "run_at": now})
            for n in range(self._busy)
        }

    def _job(self) -> str:
        """With JSON inside its JSON, as Mastodon's workers get other servers' activities."""
        self._jobs += 1
        activity = compact({"id": f"https://remote.example/users/someone/statuses/{self._jobs}", "type": "Create"})
        size = max(0, self._job_bytes - 300)
        job = {
            "retry": 8,
            "queue": "ingress",
            "class": "ActivityPub::ProcessingWorker",
            "args": [1, (activity * (size // len(activity) + 1))[:size]],
            "jid": f"{self._jobs:024x}",
            "created_at": 1_760_000_000.25,
        }
        return compact(job)


class FleetOnRedis:
    """The hosts, of which the first leads, with the instances of each `min` running."""

    def __init__(self, client: redis.Redis, workers: Workers, hosts: list[HostOnRedis]) -> None:
        self.client, self.workers, self.hosts = client, workers, hosts

    def processes(self) -> list[Process]:
        return [process for host in self.hosts for process in host.world.processes()]

    async def settle(self) -> None:
        """Until a plan of the leader has reached everybody, and nothing is gathered."""
        for host in self.hosts:
            for profile in host.world.policy.profiles:
                for number in profile.numbers[: profile.min_instances]:
                    host.world.start(number)
            host.world.advance(60.0)
        self.workers.beat(self.processes())
        for _ in range(2):
            await self.tick()
        self.client.hset(LEDGER_KEY, "gathering_ms", "")  # as after 20 s
        for _ in range(4):
            await self.tick()

    async def tick(self) -> list[TickResult]:
        """One tick of each host, one after the other, then time passes."""
        results = [await host.tick() for host in self.hosts]
        self.advance()
        return results

    def advance(self) -> None:
        for host in self.hosts:
            host.world.advance(TICK_SECONDS)

    async def close(self) -> None:
        await asyncio.gather(*(host.close() for host in self.hosts))
