"""The smallest rights that docs/operations.md gives to a Redis user of fleetd's own, on a real Redis 7."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.adapters.sidekiq.rights import rights
from fleetd.core.model.facts import SidekiqFacts
from fleetd.errors import SourceUnavailableError
from tests.support.contracts.sidekiq import SECRET
from tests.support.project import PROJECT
from tests.support.rig.redis_server import RedisServer, admin, command, redis_server
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact
from tests.support.rig.sidekiq_source import source_at

ME = "worker1:4711:5f0c"
OTHER = "worker1:4712:6a0d"


def documented_rights() -> list[str]:
    """The words of the command in docs/operations.md, from the user's name on, without the probe's."""
    text = (PROJECT / "docs/operations.md").read_text()
    found = re.search(r"ACL SETUSER fleetd on >PASSWORD ((?:.|\n)+?)\n\n", text)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


READING = [word for word in documented_rights() if word not in ("+set", "%RW~fleetd:probe")]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Keys that need every command: large sets, a large hash, schedules, and a process of either kind of work key."""
    with redis_server() as server, admin(server) as client:
        keys = SidekiqKeys(client)
        keys.enqueue("default", 3, age_seconds=42)
        client.sadd("queues", *[f"q{n}" for n in range(300)])
        client.sadd("processes", *[f"killed:{n}:a" for n in range(2000)])
        for identity in (ME, OTHER):
            keys.beat(identity)
        keys.work(ME, "default", "push")
        large = {"class": "A", "args": ["x" * 400_000], "jid": "b4", "created_at": 1.0}
        keys.running(OTHER, *[compact({"queue": "pull", "payload": compact(large), "run_at": 5})] * 3)
        client.hset("sidekiq-scheduler:last_times", "a", "2025-10-09 08:53:17 +0000")
        keys.put_aside(retry=3, dead=2, schedule=1)
        keys.count_classes({"LinkCrawlWorker|p": 12, "LinkCrawlWorker|f": 5}, version="8.1.6")
        small = SidekiqKeys(client, "social:")
        small.enqueue("mailers", 1, age_seconds=1)
        small.beat(ME)
        yield server


def read_as(server: RedisServer, *rights: str, **settings: Any) -> SidekiqFacts:
    """The second of two readings: of the first, some is remembered."""
    with admin(server) as client:
        command(client, "ACL", "SETUSER", "fleetd", "reset", "on", f">{SECRET}", *rights)
    return second_reading(source_at(server, username="fleetd", password=SECRET, **settings))


def second_reading(source: SidekiqRedis) -> SidekiqFacts:
    async def twice() -> SidekiqFacts:
        try:
            await source.read()
            return await source.read()
        finally:
            await source.close()

    return asyncio.run(twice())


def what_is_known(facts: SidekiqFacts) -> tuple[object, ...]:
    default = facts.queues.get("default")
    return (
        len(facts.queues),
        default and (default.length_jobs, default.latency_seconds is not None),
        [(process.identity, process.busy_by_queue, len(process.jobs)) for process in facts.processes],
        facts.processes_complete,
        facts.processed_jobs_total,
        facts.failed_jobs_total,
        facts.scheduled_age_seconds is not None,
        (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs),
        facts.failing_classes,
        bool(facts.redis_run_id),
    )


def test_the_page_and_the_program_say_the_same() -> None:
    assert tuple(documented_rights()) == rights("")
    assert rights("social:")[-1] == "%RW~social:fleetd:probe"


def test_the_documented_rights_read_everything(server: RedisServer) -> None:
    facts = read_as(server, *documented_rights())
    assert what_is_known(facts) == what_is_known(second_reading(source_at(server)))
    assert [process.busy_by_queue for process in facts.processes] == [{"default": 1, "push": 1}, {"pull": 3}]
    assert facts.writable is True
    assert "fleetd:probe" not in {fault.key for fault in facts.faults}


def test_without_the_probe_the_advice_is_about_rights(server: RedisServer) -> None:
    facts = read_as(server, *READING)
    assert what_is_known(facts) == what_is_known(second_reading(source_at(server)))
    assert facts.writable is None
    (why,) = (fault.why for fault in facts.faults if fault.key == "fleetd:probe")
    assert "this user has no right to write it" in why
    assert "+set %RW~fleetd:probe" in why


def test_the_rights_with_the_probe_write_nothing_else(server: RedisServer) -> None:
    read_as(server, *documented_rights())
    with redis.Redis(unix_socket_path=server.socket, username="fleetd", password=SECRET) as client:
        for words in (("SET", "queue:default", "x"), ("DEL", "fleetd:probe"), ("SREM", "processes", ME), ("KEYS", "*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                command(client, *words)


@pytest.mark.parametrize("right", [word for word in READING if word.startswith("+") and word != "+memory|usage"])
def test_no_right_is_more_than_needed(server: RedisServer, right: str) -> None:
    """Without any of them something is unknown, with the large sets or with the small ones of a namespace."""
    rights = [word for word in READING if word != right]
    places: tuple[dict[str, Any], ...] = ({}, {"namespace": "social"}, {"db": 1})
    refused: list[str] = []
    for place in places:
        whole = what_is_known(second_reading(source_at(server, **place)))
        with admin(server) as client:
            client.script_flush()  # else EVAL is not needed
        try:
            if what_is_known(read_as(server, *rights, **place)) != whole:
                refused.append("unknown")
        except SourceUnavailableError as error:
            refused.append(str(error))
    assert refused
    assert all("rights listed in docs/operations.md" in why for why in refused if why != "unknown")


def test_without_the_size_of_a_hash_everything_is_read_all_the_same(server: RedisServer) -> None:
    """MEMORY USAGE only makes it cheaper; Redis users made for an older fleetd lack it."""
    facts = read_as(server, *[word for word in READING if word != "+memory|usage"])
    assert what_is_known(facts) == what_is_known(second_reading(source_at(server)))
