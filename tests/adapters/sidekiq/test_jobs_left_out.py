"""Processes whose running jobs another host reads: what Redis is asked, and what they say. On a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis

from fleetd.core.model.facts import ProcessFacts, SidekiqFacts
from tests.support.rig.redis_server import RedisServer
from tests.support.rig.sidekiq_keys import SidekiqKeys
from tests.support.rig.sidekiq_source import source_at

OURS, THEIRS, NEW = "w1:1:a", "w2:1:a", "w2:2:b"
OTHERS = frozenset({THEIRS, NEW})

Read = Callable[[frozenset[str]], Awaitable[dict[str, ProcessFacts]]]


class Fleet:
    """Processes that beat with the jobs they work on, and one host that reads them."""

    def __init__(self, server: RedisServer, client: redis.Redis, job_bytes: int) -> None:
        self._keys, self._client, self._job_bytes = SidekiqKeys(client), client, job_bytes
        self._source = source_at(server)

    def beat(self, *identities: str, busy: int = 17, jobs: int = 2) -> None:
        for identity in identities:
            self._keys.beat(identity, version="7.3.9", busy=busy)
            if jobs:
                self._keys.work(identity, *["default"] * jobs, payload="x" * self._job_bytes)

    async def read(self, without: frozenset[str] = frozenset()) -> dict[str, ProcessFacts]:
        facts: SidekiqFacts = await self._source.read(without_jobs_of=without)
        assert facts.faults == ()
        assert facts.processes_complete
        return {process.identity: process for process in facts.processes}

    def counted(self) -> dict[str, int]:
        """Commands since the last time."""
        found = {name: int(one["calls"]) for name, one in self._client.info("commandstats").items()}
        self._client.config_resetstat()
        return found

    def run(self, tell: Callable[[Fleet], Awaitable[None]]) -> None:
        async def told() -> None:
            try:
                await tell(self)
            finally:
                await self._source.close()

        asyncio.run(told())


@pytest.fixture(params=[500, 20_000], ids=["sent by the script", "sent whole"])
def fleet(request: pytest.FixtureRequest, shared_redis: RedisServer, client: redis.Redis) -> Fleet:
    return Fleet(shared_redis, client, request.param)


def test_redis_is_not_even_asked_for_their_size(fleet: Fleet) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(THEIRS)
        await fleet.read()
        fleet.beat(THEIRS)
        fleet.counted()
        found = await fleet.read(OTHERS)
        assert not {"cmdstat_memory|usage", "cmdstat_hvals"} & fleet.counted().keys()
        assert found[THEIRS].without_jobs
        assert found[THEIRS].busy_threads == 17

    fleet.run(tell)


def test_what_is_known_of_the_same_beat_stays_known(fleet: Fleet) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(OURS, THEIRS)
        await fleet.read()
        found = await fleet.read(OTHERS)
        assert found[THEIRS].busy_by_queue == {"default": 2}
        assert not found[THEIRS].without_jobs

    fleet.run(tell)


def test_an_idle_process_works_on_nothing_and_that_is_known(fleet: Fleet) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(THEIRS, busy=0, jobs=0)
        await fleet.read()
        fleet.beat(THEIRS, busy=0, jobs=0)
        found = await fleet.read(OTHERS)
        assert found[THEIRS].busy_by_queue == {}
        assert not found[THEIRS].without_jobs

    fleet.run(tell)


def test_who_becomes_the_leader_reads_them_at_once_although_nobody_has_beaten_since(fleet: Fleet) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(OURS, THEIRS)
        await fleet.read()
        fleet.beat(OURS, THEIRS)
        assert (await fleet.read(OTHERS))[THEIRS].busy_by_queue is None
        fleet.counted()
        found = await fleet.read()
        assert found[THEIRS].busy_by_queue == {"default": 2}
        assert not found[THEIRS].without_jobs
        assert fleet.counted()["cmdstat_evalsha"] == 1
        await fleet.read()
        assert "cmdstat_hvals" not in fleet.counted()  # they are known now

    fleet.run(tell)


def test_a_process_that_is_new_is_read_whosever_it_is(fleet: Fleet) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(OURS)
        await fleet.read()
        fleet.beat(NEW)
        found = await fleet.read(frozenset({THEIRS}))
        assert found[NEW].busy_by_queue == {"default": 2}

    fleet.run(tell)


def test_jobs_that_one_reading_had_no_time_for_are_no_fault_of_a_host_that_follows(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(fleet: Fleet) -> None:
        fleet.beat(THEIRS)
        with monkeypatch.context() as patch:
            patch.setattr("fleetd.adapters.sidekiq.running_jobs.RUNNING_JOBS_MAX", 0)
            facts = await fleet._source.read()
        assert [process.busy_by_queue for process in facts.processes] in ([None], [{"default": 2}])
        found = await fleet.read(OTHERS)  # asserts that there is no fault
        assert found[THEIRS].without_jobs == (facts.processes[0].busy_by_queue is None)

    fleet.run(tell)
