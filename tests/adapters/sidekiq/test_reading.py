"""SidekiqRedis on a real redis-server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

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


def str_of_keys(job: dict[str, object]) -> str:
    return " ".join(job)


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


@pytest.mark.parametrize("beaten", [0, 4])
def test_one_round_trip_in_the_steady_state(
    shared_redis: RedisServer, client: redis.Redis, tmp_path: Path, beaten: int
) -> None:
    """The proxy passes a reading's commands on only once all were sent. Each is sent once."""
    fleet = [f"worker1:{4711 + n}:5f0c" for n in range(8)]
    keys = SidekiqKeys(client)
    for identity in fleet:
        keys.beat(identity)
        keys.work(identity, *["default"] * 4, payload="x" * 500)
    commands = ["EVALSHA", "INFO", "SET"]

    async def second_reading() -> tuple[SidekiqFacts, list[str]]:
        async with HoldingProxy(shared_redis.socket, tmp_path / "proxy.sock").open() as proxy:
            source = SidekiqRedis(
                RedisSettings(unix_socket=str(proxy.path)),
                queues=("default",),
                read_timeout_seconds=WAIT_SECONDS,
            )
            await source.read()  # connects, sends the script
            for identity in fleet[:beaten]:
                keys.beat(identity)
            proxy.commands.clear()
            proxy.group = len(commands)
            facts = await source.read()
            await source.close()
        return facts, proxy.commands

    facts, sent = asyncio.run(second_reading())
    assert sent == commands
    assert facts.writable is True
    assert [process.busy_by_queue for process in facts.processes] == [{"default": 4}] * 8


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


TIME = 1_700_000_000.5
FAR = "x" * 99_000


@pytest.mark.parametrize(
    "job",
    [
        {"args": [], "enqueued_at": "1700000000.5"},
        {"args": [FAR], "enqueued_at": "1700000000.5"},
        {"args": [FAR], "enqueued_at": TIME, "error_message": 'ü"\\' * 3_000},
        {"args": [FAR], "enqueued_at": TIME, "more": ["x" * 3_000, {"enqueued_at": 5}, {"created_at": 5}]},
        {"args": [FAR, *[{"enqueued_at": 5}] * 200], "enqueued_at": TIME},
        {"args": [FAR], "enqueued_at": TIME, "created_at": 5, "more": "x" * 3_000},
        {"enqueued_at": TIME, "args": [FAR]},
        {"enqueued_at": "1700000000.5", "args": [FAR, {"enqueued_at": 5}]},
        {"class": "A", "created_at": TIME, "args": [FAR]},
    ],
    ids=str_of_keys,
)
def test_the_age_of_a_job_wherever_its_time_stands(
    shared_redis: RedisServer, client: redis.Redis, job: dict[str, object]
) -> None:
    client.lpush("queue:default", compact(job))
    facts = read(source_at(shared_redis))
    assert facts.faults == ()
    age = facts.queues["default"].latency_seconds
    assert age == pytest.approx(facts.now_seconds - TIME)


def test_when_the_scheduler_pushed_last(shared_redis: RedisServer, client: redis.Redis) -> None:
    """sidekiq-scheduler's own record: the time of the last push of each schedule."""
    source = source_at(shared_redis)
    assert read(source).scheduled_age_seconds is None
    pushed: dict[Any, Any] = {"fasp": "2025-10-09 08:53:17 +0000", "vacuum": "2025-10-09 10:53:27 +0200", "broken": "x"}
    client.hset("sidekiq-scheduler:last_times", mapping=pushed)
    facts = read(source)
    assert facts.scheduled_age_seconds == pytest.approx(facts.now_seconds - 1_760_000_007)


@pytest.mark.parametrize("content", ["wrong type", "too many", "too large", "not times"])
def test_a_record_of_pushes_that_is_none_is_unknown(
    shared_redis: RedisServer, client: redis.Redis, content: str
) -> None:
    key, time = "sidekiq-scheduler:last_times", "2025-10-09 08:53:17 +0000"
    if content == "wrong type":
        client.set(key, time)
    elif content == "too many":
        client.hset(key, mapping={f"schedule{n}": time for n in range(1000)})
    elif content == "too large":
        client.hset(key, mapping={"a": time, "b": "x" * 1_000_000})
    else:
        client.hset(key, mapping={"a": "soon", "b": "1760000000"})
    facts = read(source_at(shared_redis))
    assert facts.scheduled_age_seconds is None
    assert facts.processes_complete


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
