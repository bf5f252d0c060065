"""Redis keys that hold something other than Sidekiq writes: left out, named and bounded. On a real Redis."""

from __future__ import annotations

import pytest
import redis

from fleetd.adapters.sidekiq import reading as sidekiq_redis
from fleetd.adapters.sidekiq import running_jobs
from fleetd.core.model.facts import KeyFault
from tests.support.rig.redis_server import RedisServer
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact
from tests.support.rig.sidekiq_source import read, source_at

ME = "worker1:4711:5f0c"


@pytest.mark.parametrize("hostname", ["queue-vm", "job-vm", "stat:x", "default", "processes"])
def test_an_unreadable_heartbeat_counts_whatever_its_host_name(
    shared_redis: RedisServer, client: redis.Redis, hostname: str
) -> None:
    client.sadd("processes", f"{hostname}:1:a")
    client.set(f"{hostname}:1:a", "x")
    facts = read(source_at(shared_redis))
    assert not facts.processes_complete
    assert [fault.key for fault in facts.faults] == [f"{hostname}:1:a"]


def test_a_large_job_without_a_time_near_its_end_is_unknown(shared_redis: RedisServer, client: redis.Redis) -> None:
    client.lpush("queue:default", compact({"args": [{"enqueued_at": 5}, "x" * 99_000]}))
    client.lpush("queue:pull", compact({"args": ["x" * 99_000]}))
    facts = read(source_at(shared_redis))
    assert {q.name: (q.length_jobs, q.latency_seconds) for q in facts.queues.values()} == {
        "default": (1, None),
        "pull": (1, None),
    }
    assert [fault.key for fault in facts.faults] == ["queue:default", "queue:pull"]


def test_a_too_large_running_job_costs_only_itself(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_jobs, "JOB_BYTES_MAX", 100_000)
    keys = SidekiqKeys(client)
    keys.enqueue("default", 7, age_seconds=120)
    for identity in (ME, "worker1:4712:6a0d"):
        keys.beat(identity)
        keys.work(identity, "pull")
    huge = compact({"queue": "default", "payload": "x" * 3_000_000, "run_at": int(keys.now())})
    client.hset(f"{ME}:work", "huge", huge)
    facts = read(source_at(shared_redis))
    assert facts.queues["default"].length_jobs == 7
    assert facts.queues["default"].latency_seconds == pytest.approx(120, abs=5)
    assert facts.processes_complete
    assert [process.busy_by_queue for process in facts.processes] == [None, {"pull": 1}]
    assert len(facts.processes[0].jobs) == 1
    assert {fault.key for fault in facts.faults} == {f"{ME}:work"}


def test_wrong_types_everywhere_are_named_once_each_and_nothing_raises(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    keys = SidekiqKeys(client)
    keys.beat(ME)
    client.set("queue:default", "x")
    client.hset(f"{ME}:work", "t", b"\xff")
    client.lpush("stat:processed", 1)
    client.set("stat:failed", "many")
    client.set("queues", "x")
    client.sadd("processes", "string:1:a", "nonsense:1:a", b"\xff:1:a")
    client.set("string:1:a", "x")
    client.hset("nonsense:1:a", mapping={"info": b"\xfe{", "beat": "1", "busy": "1", "quiet": "false"})
    client.hset(b"\xff:1:a", mapping={"info": "{}"})
    facts = read(source_at(shared_redis))
    assert set(facts.queues) == {"pull"}
    assert not facts.processes_complete
    assert [process.identity for process in facts.processes] == [ME]
    assert (facts.processed_jobs_total, facts.failed_jobs_total) == (None, None)
    wanted = {"queue:default", f"{ME}:work", "stat:processed", "stat:failed", "queues"}
    wanted |= {"string:1:a", "nonsense:1:a", "\\xff:1:a"}
    assert {fault.key for fault in facts.faults} == wanted
    assert facts.faults[-1].why


def test_a_wrong_type_of_processes_is_not_taken_for_an_empty_set(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    client.set("processes", "x")
    facts = read(source_at(shared_redis))
    assert not facts.processes_complete
    assert facts.faults == (KeyFault(key="processes", why="holds another type of value than Sidekiq writes"),)


def test_too_many_queues_are_cut_off_and_reported(shared_redis: RedisServer, client: redis.Redis) -> None:
    client.sadd("queues", *[f"q{n}" for n in range(5000)])
    facts = read(source_at(shared_redis))
    assert 2 < len(facts.queues) <= sidekiq_redis.QUEUES_MAX + 2
    assert {"default", "pull"} <= set(facts.queues)
    assert facts.faults == (KeyFault(key="queues", why="has more than 200 members; the rest is not read"),)
    assert facts.queues == read(source_at(shared_redis)).queues
