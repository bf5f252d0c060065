"""Failing classes of jobs, and jobs put aside: read from what Sidekiq 7 and 8 write, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.sidekiq import reading as sidekiq_reading
from fleetd.adapters.sidekiq.formats import minute_keys
from fleetd.adapters.sidekiq.job_classes import FAILING_MAX, JobClasses, last_whole_minute
from fleetd.core.model.bounds import BOUNDS
from fleetd.core.model.facts import FailingClass, SidekiqFacts
from tests.support.hostile.records import class_names
from tests.support.rig.redis_server import RedisServer, command
from tests.support.rig.sidekiq_keys import SidekiqKeys, fixture
from tests.support.rig.sidekiq_source import source_at

SEVENS, EIGHTS = ["7.0.0", "7.3.9"], ["8.0.9", "8.1.6"]
#: Those that failed in the fixtures, which the releases' own code wrote at 2025-10-09 08:05:31 UTC.
FAILED = (
    FailingClass(name="LinkCrawlWorker", failed_jobs=3, processed_jobs=7),
    FailingClass(name="ActionMailer::MailDeliveryJob", failed_jobs=2, processed_jobs=2),
    FailingClass(name="ActivityPub::DeliveryWorker", failed_jobs=1, processed_jobs=4),
)
MINUTE = int(datetime(2025, 10, 9, 8, 5, tzinfo=UTC).timestamp()) // 60


def recorded(version: str) -> dict[str, str]:
    """The fields of the hash of one minute."""
    keys = fixture(f"classes-{version}.json")
    (key,) = set(minute_keys(MINUTE)) & set(keys)
    fields: dict[str, str] = keys[key]
    return fields


def readings(server: RedisServer, number: int = 2, **settings: Any) -> list[SidekiqFacts]:
    async def read() -> list[SidekiqFacts]:
        source = source_at(server, **settings)
        try:
            return [await source.read() for _ in range(number)]
        finally:
            await source.close()

    return asyncio.run(read())


@pytest.mark.parametrize("namespace", [None, "social"])
@pytest.mark.parametrize("version", SEVENS + EIGHTS)
def test_what_each_version_writes_is_read(
    shared_redis: RedisServer, client: redis.Redis, version: str, namespace: str | None
) -> None:
    keys = SidekiqKeys(client, f"{namespace}:" if namespace else "")
    keys.count_classes(recorded(version), version=version)
    keys.put_aside(retry=3, dead=2, schedule=5)
    facts = readings(shared_redis, namespace=namespace)[-1]
    assert facts.failing_classes == FAILED
    assert (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs) == (3, 2, 5)
    elsewhere = readings(shared_redis, namespace="another")[-1]
    assert (elsewhere.failing_classes, elsewhere.retry_jobs) == (None, 0)


@pytest.mark.parametrize("version", EIGHTS)
def test_only_minutes_are_read_and_no_ten_minutes(version: str) -> None:
    """Sidekiq 8 counts in `j|251009|8:0` as well, which a key of Sidekiq 7 must not look like."""
    (ten_minutes,) = set(fixture(f"classes-{version}.json")) - set(minute_keys(MINUTE))
    for minute in range(MINUTE - 1000, MINUTE + 1000):
        assert ten_minutes not in minute_keys(minute)


def test_both_versions_of_an_upgrade_are_added_up(shared_redis: RedisServer, client: redis.Redis) -> None:
    keys = SidekiqKeys(client)
    keys.count_classes(recorded("7.3.9"), version="7.3.9")
    keys.count_classes({"LinkCrawlWorker|f": 10, "LinkCrawlWorker|p": 30, "MoveWorker|f": 1}, version="8.0.9")
    assert readings(shared_redis)[-1].failing_classes == (
        FailingClass(name="LinkCrawlWorker", failed_jobs=13, processed_jobs=37),
        *FAILED[1:],
        FailingClass(name="MoveWorker", failed_jobs=1, processed_jobs=None),
    )


def test_nothing_failed_is_not_the_same_as_unknown(shared_redis: RedisServer, client: redis.Redis) -> None:
    assert readings(shared_redis)[-1].failing_classes is None
    SidekiqKeys(client).count_classes({"PushUpdateWorker|p": 2, "PushUpdateWorker|ms": 9}, version="8.1.6")
    assert readings(shared_redis)[-1].failing_classes == ()


def test_classes_are_read_once_a_minute(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = last_whole_minute(SidekiqKeys(client).now())
    monkeypatch.setattr(sidekiq_reading, "last_whole_minute", lambda _: minute)
    keys = SidekiqKeys(client)
    keys.count_classes(recorded("8.1.6"), version="8.1.6")

    async def tell() -> None:
        source = source_at(shared_redis)
        reading: Callable[[], Awaitable[SidekiqFacts]] = source.read
        await reading()
        assert (await reading()).failing_classes == FAILED
        client.config_resetstat()
        keys.count_classes({"MoveWorker|f": 99}, version="8.1.6")
        assert (await reading()).failing_classes == FAILED
        assert "cmdstat_hkeys" not in client.info("commandstats")
        monkeypatch.setattr(sidekiq_reading, "last_whole_minute", lambda _: minute and minute + 1)
        failing = (await reading()).failing_classes
        assert failing is not None
        assert failing[0].name == "MoveWorker"
        monkeypatch.setattr(sidekiq_reading, "last_whole_minute", lambda _: minute and minute + 100)
        assert (await reading()).failing_classes is None
        await source.close()

    asyncio.run(tell())


HOSTILE: dict[str, dict[Any, Any]] = {
    "many": {f"C{n}|f": 1 for n in range(2001)},
    "large": {f"{n}|ms": "9" * 100_000 for n in range(4)},
    "long name": {"x" * 300 + "|f": 1},
    "number": {"A|f": "many"},
    "negative": {"A|f": "-1"},
    "digits": {"A|f": "9" * 400},
    "beyond": {"A|f": 2**63 - 1},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_what_sidekiq_does_not_write_is_unknown_and_named_in_each_reading(
    shared_redis: RedisServer, client: redis.Redis, fields: dict[Any, Any], sized: bool
) -> None:
    """`unsized`: the user may not ask for the size of a hash."""
    SidekiqKeys(client).count_classes(fields, version="8.1.6")
    SidekiqKeys(client).enqueue("default", 3)
    command(client, "ACL", "SETUSER", "h", "reset", "on", ">pw", "~*", "+@all", *([] if sized else ["-memory|usage"]))
    for facts in readings(shared_redis, 3, username="h", password="pw")[1:]:
        large_but_right = fields is HOSTILE["large"] and not sized
        assert facts.failing_classes == (() if large_but_right else None)
        assert bool([fault for fault in facts.faults if fault.key.startswith("j|")]) is not large_but_right
        assert (facts.queues["default"].length_jobs, facts.processes_complete) == (3, True)
    command(client, "ACL", "DELUSER", "h")


def test_wrong_types_are_faults_of_their_keys_only(shared_redis: RedisServer, client: redis.Redis) -> None:
    keys = SidekiqKeys(client)
    for minute in range(-3, 3):
        for key in minute_keys(int(keys.now() // 60) + minute):
            client.set(key, "x")
    client.set("retry", "x")
    client.lpush("dead", "x")
    keys.put_aside(schedule=7)
    facts = readings(shared_redis)[-1]
    assert (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs, facts.failing_classes) == (None, None, 7, None)
    assert [fault.key[:1] for fault in facts.faults if fault.key != "processes"] == ["d", "j", "j", "r"]
    assert set(facts.queues) == {"default", "pull"}


def test_a_user_made_for_an_older_fleetd_reads_all_the_rest(shared_redis: RedisServer, client: redis.Redis) -> None:
    """Without ZCARD, and in the second row without the keys of job classes."""
    keys = SidekiqKeys(client)
    keys.enqueue("default", 3)
    keys.put_aside(retry=3)
    keys.beat()
    keys.count_classes(recorded("8.1.6"), version="8.1.6")
    sidekiqs = ("~queue*", "~processes", "~worker1*", "~stat:*", "~fleetd:probe")
    for patterns, failing in ((("~*",), FAILED), (sidekiqs, None)):
        command(client, "ACL", "SETUSER", "old", "reset", "on", ">pw", *patterns, "+@all", "-zcard")
        facts = readings(shared_redis, username="old", password="pw")[-1]
        assert (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs) == (None, None, None)
        assert facts.failing_classes == failing
        assert (facts.queues["default"].length_jobs, len(facts.processes)) == (3, 1)
        assert (facts.processes_complete, facts.processed_jobs_total, facts.writable) == (True, 0, True)
        assert {fault.key for fault in facts.faults} >= {"retry", "dead", "schedule"}
    command(client, "ACL", "DELUSER", "old")


def test_another_redis_is_not_given_the_classes_of_the_one_before(
    shared_redis: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    SidekiqKeys(client).count_classes(recorded("8.1.6"), version="8.1.6")
    minute = last_whole_minute(SidekiqKeys(client).now())
    monkeypatch.setattr(sidekiq_reading, "last_whole_minute", lambda _: minute)

    async def tell() -> None:
        source = source_at(shared_redis)
        await source.read()
        assert (await source.read()).failing_classes == FAILED
        source._memory.redis_run_id = "another"
        assert (await source.read()).failing_classes is None
        assert (await source.read()).failing_classes == FAILED, "read again"
        await source.close()

    asyncio.run(tell())


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 64.9, 1e15, float("inf"), float("nan"), 2.0**62])
def test_a_clock_that_is_not_set_has_no_minute(seconds: float) -> None:
    assert last_whole_minute(seconds) is None


def test_a_minute_is_read_once_the_workers_clocks_had_time_to_end_it() -> None:
    assert last_whole_minute(MINUTE * 60 + 64.9) == MINUTE - 1
    assert last_whole_minute(MINUTE * 60 + 65.1) == MINUTE


def test_the_classes_with_the_most_failures_are_kept() -> None:
    classes = JobClasses(MINUTE)
    classes.take("j", [part for n in range(500) for part in (b"C%d" % n, b"%d" % n, b"1000")])
    failing = classes.failing()
    assert failing is not None
    assert [one.failed_jobs for one in failing] == list(range(499, 499 - FAILING_MAX, -1))


counts = st.none() | st.binary(max_size=4) | st.integers(-2, 2**33).map(lambda number: b"%d" % number)


@given(st.lists(st.tuples(class_names | st.binary(max_size=9), counts, counts), max_size=6))
def test_counts_are_possible_or_unknown_whatever_is_there(
    found: list[tuple[bytes, bytes | None, bytes | None]],
) -> None:
    classes = JobClasses(MINUTE)
    classes.take("j", [part for fields in found for part in fields])
    failing = classes.failing()
    assert (failing is None) is bool(classes.faults)
    for one in failing or ():
        assert 0 < one.failed_jobs <= len(found) * BOUNDS["jobs"].high
        assert one.processed_jobs is None or one.processed_jobs >= one.failed_jobs
        assert one.name == "" or (one.name.isascii() and one.name.isprintable() and len(one.name) <= 128)
