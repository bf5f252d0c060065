"""SidekiqRedis on a real redis-server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import SidekiqFacts
from tests.support.rig.redis_proxy import HoldingProxy
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact
from tests.support.rig.sidekiq_source import read, source_at

ME = "worker1:4711:5f0c"


@pytest.mark.parametrize("namespace", [None, "social"])
@pytest.mark.parametrize("version", ["6.4.1", "6.5.12", "7.0.0", "7.3.9", "8.0.9", "8.1.6"])
def test_a_whole_reading(shared_redis: RedisServer, client: redis.Redis, version: str, namespace: str | None) -> None:
    keys = SidekiqKeys(client, f"{namespace}:" if namespace else "")
    keys.enqueue("default", 3, age_seconds=42)
    keys.enqueue("mailers", age_seconds=7)
    keys.beat(ME, version=version)
    keys.work(ME, "default", "default", "push", key="workers" if version == "6.4.1" else "work")
    client.set(f"{keys.prefix}stat:processed", 123)
    client.set(f"{keys.prefix}stat:failed", 4)
    facts = read(source_at(shared_redis, namespace=namespace))
    assert facts.faults == ()
    assert facts.processes_complete
    assert {q.name: q.length_jobs for q in facts.queues.values()} == {"default": 3, "pull": 0, "mailers": 1}
    assert facts.queues["default"].latency_seconds == pytest.approx(42, abs=5)
    (process,) = facts.processes
    assert (process.identity, process.threads, process.busy_threads) == (ME, 60, 17)
    assert process.busy_by_queue == {"default": 2, "push": 1}
    assert process.oldest_run_age_seconds == pytest.approx(30, abs=5)
    assert process.beat_age_seconds == pytest.approx(4.5, abs=5)
    assert (facts.processed_jobs_total, facts.failed_jobs_total) == (123, 4)
    assert facts.redis_run_id == client.info("server")["run_id"]
    assert facts.writable is True


def test_one_round_trip_in_the_steady_state(shared_redis: RedisServer, tmp_path: Path) -> None:
    """The proxy passes a reading's commands on only once all were sent. Each is sent once."""

    commands = ["EVALSHA", "INFO", "SET"]

    async def second_reading() -> tuple[SidekiqFacts, list[str]]:
        async with HoldingProxy(shared_redis.socket, tmp_path / "proxy.sock").open() as proxy:
            source = SidekiqRedis(
                RedisSettings(unix_socket=str(proxy.path)),
                queues=("default",),
                read_timeout_seconds=WAIT_SECONDS,
            )
            await source.read()  # connects, sends the script
            proxy.commands.clear()
            proxy.group = len(commands)
            facts = await source.read()
            await source.close()
        return facts, proxy.commands

    facts, sent = asyncio.run(second_reading())
    assert sent == commands
    assert facts.writable is True


def test_the_probe_expires_by_itself(shared_redis: RedisServer, client: redis.Redis) -> None:
    read(source_at(shared_redis))
    assert client.ttl("fleetd:probe") in range(1, 61)


def test_the_probe_stays_inside_the_namespace(shared_redis: RedisServer, client: redis.Redis) -> None:
    """In a Redis shared by several Mastodons, each user may be allowed to write only below its own prefix."""
    assert read(source_at(shared_redis, namespace="social")).writable is True
    assert client.keys("*") == [b"social:fleetd:probe"]


def test_a_dead_process_is_skipped_and_not_a_fault(shared_redis: RedisServer, client: redis.Redis) -> None:
    SidekiqKeys(client).beat(ME)
    client.sadd("processes", "killed:1:a")  # its hash has expired
    facts = read(source_at(shared_redis))
    assert [process.identity for process in facts.processes] == [ME]
    assert (facts.processes_complete, facts.faults) == (True, ())


@pytest.mark.parametrize("payload_bytes", [0, 1_000, 3_000, 100_000, 5_000_000])
def test_the_age_of_a_job_of_any_size(shared_redis: RedisServer, client: redis.Redis, payload_bytes: int) -> None:
    SidekiqKeys(client).enqueue("default", age_seconds=99, payload_bytes=payload_bytes)
    facts = read(source_at(shared_redis))
    assert facts.faults == ()
    assert facts.queues["default"].latency_seconds == pytest.approx(99, abs=5)


def test_the_age_of_a_failed_job_with_a_lot_after_its_times(shared_redis: RedisServer, client: redis.Redis) -> None:
    job = {"class": "A", "args": ["x" * 99_000, {"enqueued_at": "2025-01-01"}], "created_at": 1.0}
    job |= {"enqueued_at": SidekiqKeys(client).now() - 5, "error_message": 'ü"\\' * 3_333, "retry_count": 3}
    client.lpush("queue:default", compact(job))
    facts = read(source_at(shared_redis))
    assert facts.faults == ()
    assert facts.queues["default"].latency_seconds == pytest.approx(5, abs=5)


@pytest.mark.parametrize("key", ["work", "workers"])
def test_a_running_job_with_a_large_payload_is_counted(
    shared_redis: RedisServer, client: redis.Redis, key: str
) -> None:
    keys = SidekiqKeys(client)
    keys.beat(ME)
    keys.work(ME, "default", "push", key=key, payload='{"queue":"no","run_at":1}' + "x" * 1_000_000)
    facts = read(source_at(shared_redis))
    assert facts.processes[0].busy_by_queue == {"default": 1, "push": 1}
    assert facts.faults == ()
