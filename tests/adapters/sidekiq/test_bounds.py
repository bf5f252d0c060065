"""What there is too much of uses up nothing: dead members, huge jobs, many running jobs. On a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from fleetd.adapters.redis import rounds
from fleetd.adapters.sidekiq import members, memory, running_jobs
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.core.model.facts import KeyFault, SidekiqFacts
from tests.support.rig.redis_server import RedisServer
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact
from tests.support.rig.sidekiq_source import read, source_at

ME = "worker1:4711:5f0c"
LIVE = [f"worker1:{4711 + n}:5f0c" for n in range(8)]


def story(source: SidekiqRedis, tell: Callable[[Callable[[], Awaitable[SidekiqFacts]]], Awaitable[None]]) -> None:
    async def told() -> None:
        await tell(source.read)
        await source.close()

    asyncio.run(told())


def kill(client: redis.Redis, processes: int) -> None:
    """Processes that were killed: members without a heartbeat."""
    for start in range(0, processes, 10_000):
        client.sadd("processes", *[f"killed:{n}:a" for n in range(start, min(processes, start + 10_000))])


@pytest.mark.parametrize("killed", [501, 100_000])
def test_dead_members_hide_no_live_process(shared_redis: RedisServer, client: redis.Redis, killed: int) -> None:
    keys = SidekiqKeys(client)
    kill(client, killed)
    for identity in LIVE:
        keys.beat(identity, busy=1)
        keys.work(identity, "default")

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        for _ in range(2):
            facts = await reading()
            assert [process.identity for process in facts.processes] == LIVE
            assert all(process.busy_by_queue == {"default": 1} for process in facts.processes)
            assert facts.processes_complete
            (fault,) = facts.faults
            assert fault.key == "processes"
            assert "Sidekiq::ProcessSet.new.cleanup" in fault.why
            client.srem("processes", LIVE[-1])  # ends; its hash stays for a while
            assert [process.identity for process in (await reading()).processes] == LIVE[:-1]
            client.sadd("processes", LIVE[-1])

    story(source_at(shared_redis), tell)


def test_no_call_blocks_redis_for_long_while_dead_members_are_passed(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    """Each script looks at some thousand members, and many scripts at all of them."""
    kill(client, 50_000)
    client.config_resetstat()
    read(source_at(shared_redis))
    calls = (
        client.info("commandstats")["cmdstat_eval"]["calls"] + client.info("commandstats")["cmdstat_evalsha"]["calls"]
    )
    assert client.info("commandstats")["cmdstat_sscan"]["calls"] / calls < 6


def test_a_walk_through_dead_members_goes_on_at_the_next_reading(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow link has no time for all of them at once."""
    monkeypatch.setattr(rounds, "ROUNDS_MAX", 6)
    kill(client, 30_000)
    SidekiqKeys(client).beat(ME, busy=0)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        complete = [(await reading()).processes_complete for _ in range(6)]
        assert complete[0] is False
        assert complete[-1] is True
        assert [process.identity for process in (await reading()).processes] == [ME]

    story(source_at(shared_redis), tell)


def test_dead_members_are_not_looked_at_again_until_the_set_changes(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    keys = SidekiqKeys(client)
    kill(client, 5_000)
    keys.beat(LIVE[0], busy=0)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        client.set("string:1:a", "x")
        client.sadd("processes", "string:1:a")
        for _ in range(2):  # what can't be read is said each time
            assert not (await reading()).processes_complete
        client.delete("string:1:a")
        first = await reading()
        client.config_resetstat()
        second = await reading()
        assert "cmdstat_sscan" not in client.info("commandstats")
        assert second.processes_complete
        assert second.faults == first.faults
        client.srem("processes", LIVE[0])  # one leaves and one joins: the size of the set stays
        keys.beat(LIVE[1], busy=0)
        assert [process.identity for process in (await reading()).processes] == [LIVE[1]]

    story(source_at(shared_redis), tell)


def test_more_members_than_any_fleet_has_are_said(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MEMBERS_MAX", 10_000)
    kill(client, 30_000)
    facts = read(source_at(shared_redis))
    assert not facts.processes_complete
    why = "has more than 10000 members; the rest is not read"
    assert KeyFault(key="processes", why=why) in facts.faults


def test_more_heartbeats_than_any_fleet_has_are_said(shared_redis: RedisServer, client: redis.Redis) -> None:
    pipeline = client.pipeline()
    keys = SidekiqKeys(client)
    keys.beat(ME, busy=0)
    sample: dict[Any, Any] = dict(client.hgetall(ME))
    for n in range(memory.PROCESSES_MAX + 50):
        pipeline.sadd("processes", f"w:{n}:a")
        pipeline.hset(f"w:{n}:a", mapping=sample)
    pipeline.execute()
    facts = read(source_at(shared_redis))
    assert len(facts.processes) == memory.PROCESSES_MAX
    assert not facts.processes_complete
    assert [fault.key for fault in facts.faults] == ["processes"]


def test_an_unchanged_heartbeat_and_its_running_jobs_are_not_read_again(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    keys = SidekiqKeys(client)
    for identity in LIVE:
        keys.beat(identity)
        keys.work(identity, "default", "push", payload="x" * 20_000)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        first = await reading()
        client.config_resetstat()
        second = await reading()
        calls = client.info("commandstats")
        assert not {"cmdstat_hvals", "cmdstat_hmget", "cmdstat_hkeys"} & set(calls)
        assert calls["cmdstat_evalsha"]["calls"] == 1
        elapsed = second.now_seconds - first.now_seconds
        for before, after in zip(first.processes, second.processes, strict=True):
            assert after.busy_by_queue == before.busy_by_queue == {"default": 1, "push": 1}
            assert after.beat_age_seconds == pytest.approx(before.beat_age_seconds + elapsed)
            assert after.jobs[0].run_age_seconds == pytest.approx(before.jobs[0].run_age_seconds + elapsed)
        keys.beat(LIVE[0], busy=0)
        client.delete(f"{LIVE[0]}:work")
        third = await reading()
        assert [process.busy_by_queue for process in third.processes] == [{}, *[{"default": 1, "push": 1}] * 7]

    story(source_at(shared_redis), tell)


def test_what_does_not_fit_is_unknown_and_comes_first_next_time(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_jobs, "RUNNING_JOBS_MAX", 10)
    keys = SidekiqKeys(client)
    for identity in LIVE[:4]:
        keys.beat(identity)
        keys.work(identity, *["default"] * 5, payload="x" * 5_000)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        known = []
        for _ in range(2):
            facts = await reading()
            known.append({p.identity for p in facts.processes if p.busy_by_queue == {"default": 5}})
            assert facts.queues["default"].latency_seconds is not None
            for identity in LIVE[:2]:  # those that were read beat again
                keys.beat(identity)
        assert KeyFault(key="*:work", why="is not read this time: there is too much to read at once") in facts.faults
        assert facts.processes_complete
        assert known == [set(LIVE[:2]), set(LIVE[2:4])]
        assert (await reading()).faults == ()

    story(source_at(shared_redis), tell)


def test_a_fleet_with_more_running_jobs_than_fit_is_read_in_turns(
    shared_redis: RedisServer, client: redis.Redis
) -> None:
    """40 processes with 1,000 running jobs each: all are known after two readings."""
    keys = SidekiqKeys(client)
    entry = compact({"queue": "pull", "payload": compact({"class": "A", "args": [], "jid": "b4"}), "run_at": 5})
    fleet = [f"worker2:{n}:a" for n in range(40)]
    for identity in fleet:
        keys.beat(identity, busy=1000)
        keys.running(identity, *[entry] * 1000)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        first = await reading()
        second = await reading()
        assert 0 < sum(process.busy_by_queue == {"pull": 1000} for process in first.processes) < len(fleet)
        assert all(process.busy_by_queue == {"pull": 1000} for process in second.processes)

    story(source_at(shared_redis), tell)


@pytest.mark.parametrize("size_bytes", [3_000_000, 70_000_000])
def test_a_huge_oldest_job_is_read_once(shared_redis: RedisServer, client: redis.Redis, size_bytes: int) -> None:
    keys = SidekiqKeys(client)
    keys.enqueue("default", age_seconds=99, payload_bytes=size_bytes)
    keys.enqueue("default", 3)
    keys.enqueue("pull", 2, age_seconds=7)
    keys.enqueue("elsewhere", age_seconds=8)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        for attempt in range(2):
            client.config_resetstat()
            facts = await reading()
            assert facts.faults == ()
            assert {queue.name: queue.length_jobs for queue in facts.queues.values()} == {
                "default": 4,
                "pull": 2,
                "elsewhere": 1,
            }
            ages = [queue.latency_seconds for _, queue in sorted(facts.queues.items())]
            assert ages == pytest.approx([99, 8, 7], abs=30)
            assert client.info("commandstats")["cmdstat_lindex"]["calls"] == 3 - attempt
        keys.enqueue("default")  # whether the huge job is still there is not worth another look so soon
        facts = await reading()
        assert facts.queues["default"].length_jobs == 5
        if size_bytes > 10_000_000:
            assert facts.queues["default"].latency_seconds is None
            assert [fault.key for fault in facts.faults] == ["queue:default"]
        assert facts.queues["pull"].latency_seconds == pytest.approx(7, abs=30)

    story(source_at(shared_redis), tell)


def test_a_huge_job_that_is_gone_is_forgotten(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "HUGE_JOB_SECONDS", 0.0)
    keys = SidekiqKeys(client)
    keys.enqueue("default", age_seconds=99, payload_bytes=3_000_000)
    keys.enqueue("default", 2, age_seconds=5)

    async def tell(reading: Callable[[], Awaitable[SidekiqFacts]]) -> None:
        await reading()
        client.rpop("queue:default")
        facts = await reading()
        assert facts.queues["default"].latency_seconds == pytest.approx(5, abs=30)
        client.delete("queue:default")
        assert (await reading()).queues["default"].latency_seconds == 0.0

    story(source_at(shared_redis), tell)


def test_a_huge_running_job_is_not_read_but_counted_as_unknown(shared_redis: RedisServer, client: redis.Redis) -> None:
    keys = SidekiqKeys(client)
    for identity in LIVE[:2]:
        keys.beat(identity)
        keys.work(identity, "pull")
    huge = compact({"queue": "default", "payload": "x" * 20_000_000, "run_at": int(keys.now())})
    client.hset(f"{LIVE[0]}:work", "huge", huge)
    client.config_resetstat()
    facts = read(source_at(shared_redis))
    assert [process.busy_by_queue for process in facts.processes] == [None, {"pull": 1}]
    assert facts.faults == (
        KeyFault(key=f"{LIVE[0]}:work", why="has a running job of more than 4 MB, which is not read"),
    )
    assert client.info("stats")["total_net_output_bytes"] < 100_000
