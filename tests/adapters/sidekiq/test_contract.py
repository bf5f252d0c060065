"""SidekiqRedis and its fake keep the contract of SidekiqSource."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator

import pytest

from fleetd.core.model.facts import FailingClass
from tests.support.contracts.sidekiq import SECRET, SidekiqCheck, sidekiq_source_contract
from tests.support.rig.redis_server import RedisServer, admin, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys
from tests.support.rig.sidekiq_source import source_at
from tests.support.world.parts import Job
from tests.support.world.ports import FakeSidekiq, policy, strict
from tests.support.world.world import World


class RealSidekiq:
    """The source, with a private redis-server behind it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.source = source_at(server, password=SECRET)

    @contextlib.contextmanager
    def _keys(self) -> Iterator[SidekiqKeys]:
        with admin(self._server, SECRET) as client:
            yield SidekiqKeys(client)

    def enqueue(self, queue: str, jobs: int, latency_seconds: float) -> None:
        with self._keys() as keys:
            keys.enqueue(queue, jobs, age_seconds=latency_seconds)

    def beat(self, identity: str) -> None:
        with self._keys() as keys:
            keys.beat(identity)

    def put_aside(self, *, retry_jobs: int, dead_jobs: int, scheduled_jobs: int) -> None:
        with self._keys() as keys:
            keys.put_aside(retry=retry_jobs, dead=dead_jobs, schedule=scheduled_jobs)

    def fail(self, job_class: str, failed_jobs: int, processed_jobs: int) -> None:
        with self._keys() as keys:
            keys.count_classes({f"{job_class}|f": failed_jobs, f"{job_class}|p": processed_jobs}, version="8.1.6")

    def refuse_writes(self) -> None:
        with admin(self._server, SECRET) as client:
            client.config_set("maxmemory", "1")

    def break_connection(self) -> None:
        self._server.stop()

    def heal_connection(self) -> None:
        self._server.start()


class FakedSidekiq:
    """FakeSidekiq on a simulated world."""

    def __init__(self) -> None:
        self._world = World(policy(strict(queues="default pull")))
        self.source = FakeSidekiq(self._world)

    def enqueue(self, queue: str, jobs: int, latency_seconds: float) -> None:
        waiting = self._world.queues.setdefault(queue, deque())
        waiting.extend(Job(queue, self._world.now - latency_seconds) for _ in range(jobs))

    def beat(self, identity: str) -> None:
        process = self._world.appear("worker1", "default push ingress mailers pull", threads=60)
        process.identity = identity
        process.jobs = [Job("default", self._world.now, finish_at=math.inf) for _ in range(17)]
        self._world.advance(10.0)

    def put_aside(self, *, retry_jobs: int, dead_jobs: int, scheduled_jobs: int) -> None:
        self._world.retry_jobs, self._world.dead_jobs = retry_jobs, dead_jobs
        self._world.scheduled_jobs = scheduled_jobs

    def fail(self, job_class: str, failed_jobs: int, processed_jobs: int) -> None:
        found = FailingClass(name=job_class, failed_jobs=failed_jobs, processed_jobs=processed_jobs)
        failing = (*(self._world.failing_classes or ()), found)
        self._world.failing_classes = tuple(sorted(failing, key=lambda one: -one.failed_jobs))

    def refuse_writes(self) -> None:
        self._world.redis_writable = False

    def break_connection(self) -> None:
        self._world.redis_up = False

    def heal_connection(self) -> None:
        self._world.redis_up = True


@pytest.mark.parametrize("check", sidekiq_source_contract, ids=lambda check: check.__name__)
def test_real(check: SidekiqCheck) -> None:
    with redis_server("--requirepass", SECRET) as server:
        asyncio.run(check(RealSidekiq(server)))


@pytest.mark.parametrize("check", sidekiq_source_contract, ids=lambda check: check.__name__)
def test_fake(check: SidekiqCheck) -> None:
    asyncio.run(check(FakedSidekiq()))
