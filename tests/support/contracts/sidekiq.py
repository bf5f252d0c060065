"""What every SidekiqSource promises, checked on the real adapter and on the fake.

As in each module here, a stage arranges the world behind a port, and the contract is a tuple of checks. Each check runs
on a new stage, once with the real adapter and once with the fake:

    @pytest.mark.parametrize("check", sidekiq_source_contract, ids=lambda check: check.__name__)
    def test_real(check: SidekiqCheck) -> None:
        with my_stage() as stage:
            asyncio.run(check(stage))
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from fleetd.core.model.facts import FailingClass
from fleetd.errors import SourceUnavailableError
from fleetd.ports import SidekiqSource

SECRET = "s3cret-of-the-stage"  # the password that a source logs in with


class SidekiqStage(Protocol):
    """The world behind a source that is configured with the queues `default` and `pull`."""

    @property
    def source(self) -> SidekiqSource: ...

    def enqueue(self, queue: str, jobs: int, latency_seconds: float) -> None: ...

    def beat(self, identity: str) -> None:
        """A live process with 60 threads, 17 of them busy, on default, push, ingress, mailers and pull."""
        ...

    def put_aside(self, *, retry_jobs: int, dead_jobs: int, scheduled_jobs: int) -> None: ...

    def fail(self, job_class: str, failed_jobs: int, processed_jobs: int) -> None:
        """Jobs of this class failed in the last whole minute."""
        ...

    def refuse_writes(self) -> None: ...

    def break_connection(self) -> None:
        """From now on every reading fails."""
        ...

    def heal_connection(self) -> None:
        """Readings work again. What was arranged before may be gone."""
        ...


SidekiqCheck = Callable[[SidekiqStage], Coroutine[Any, Any, None]]


async def empty_world_is_known_and_empty(stage: SidekiqStage) -> None:
    facts = await stage.source.read()
    assert set(facts.queues) == {"default", "pull"}
    assert all((q.length_jobs, q.latency_seconds) == (0, 0.0) for q in facts.queues.values())
    assert facts.processes == ()
    assert facts.processes_complete
    assert {fault.key for fault in facts.faults} <= {"processes"}  # it may be said that there is nothing
    await stage.source.close()


async def queues_are_read_configured_or_not(stage: SidekiqStage) -> None:
    stage.enqueue("default", 3, 42.0)
    stage.enqueue("elsewhere", 1, 5.0)
    facts = await stage.source.read()
    assert set(facts.queues) == {"default", "pull", "elsewhere"}
    assert facts.queues["default"].length_jobs == 3
    assert 41.5 <= (facts.queues["default"].latency_seconds or 0.0) <= 50.0
    assert 4.5 <= (facts.queues["elsewhere"].latency_seconds or 0.0) <= 13.0
    await stage.source.close()


async def processes_are_read(stage: SidekiqStage) -> None:
    stage.beat("worker1:1:a")
    stage.beat("worker1:2:b")
    facts = await stage.source.read()
    assert [process.identity for process in facts.processes] == ["worker1:1:a", "worker1:2:b"]
    process = facts.processes[0]
    assert (process.threads, process.busy_threads, process.quiet) == (60, 17, False)
    assert process.queues == {"default", "push", "ingress", "mailers", "pull"}
    assert process.busy_by_queue is not None
    await stage.source.close()


async def running_jobs_that_are_not_asked_for_are_never_none(stage: SidekiqStage) -> None:
    ours, theirs = "worker1:1:a", "worker2:2:b"
    stage.beat(ours)
    stage.beat(theirs)
    await stage.source.read()
    stage.beat(ours)
    stage.beat(theirs)
    facts = await stage.source.read(without_jobs_of=frozenset({theirs}))
    found = {process.identity: process for process in facts.processes}
    assert not found[ours].without_jobs
    assert found[ours].busy_by_queue is not None
    assert found[theirs].without_jobs
    assert found[theirs].busy_by_queue is None
    assert (found[theirs].busy_threads, found[theirs].jobs, facts.faults) == (17, (), ())
    facts = await stage.source.read()
    assert not any(process.without_jobs or process.busy_by_queue is None for process in facts.processes)
    await stage.source.close()


async def each_reading_tells_whether_redis_takes_writes(stage: SidekiqStage) -> None:
    assert (await stage.source.read()).writable is True
    stage.refuse_writes()
    facts = await stage.source.read()
    assert facts.writable is False
    assert set(facts.queues) == {"default", "pull"}
    await stage.source.close()


async def jobs_put_aside_are_counted(stage: SidekiqStage) -> None:
    facts = await stage.source.read()
    assert (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs) == (0, 0, 0)
    stage.put_aside(retry_jobs=3, dead_jobs=2, scheduled_jobs=5)
    facts = await stage.source.read()
    assert (facts.retry_jobs, facts.dead_jobs, facts.scheduled_jobs) == (3, 2, 5)
    await stage.source.close()


async def failing_classes_are_unknown_until_sidekiq_counts_them(stage: SidekiqStage) -> None:
    assert (await stage.source.read()).failing_classes is None
    stage.fail("LinkCrawlWorker", 5, 12)
    stage.fail("ActivityPub::DeliveryWorker", 31, 410)
    assert (await stage.source.read()).failing_classes == (
        FailingClass(name="ActivityPub::DeliveryWorker", failed_jobs=31, processed_jobs=410),
        FailingClass(name="LinkCrawlWorker", failed_jobs=5, processed_jobs=12),
    )
    await stage.source.close()


async def unavailable_raises_and_heals_by_itself(stage: SidekiqStage) -> None:
    await stage.source.read()
    stage.break_connection()
    for _ in range(2):
        with pytest.raises(SourceUnavailableError) as raised:
            await stage.source.read()
        assert len(str(raised.value)) > 20
        assert SECRET not in str(raised.value)
    stage.heal_connection()
    stage.enqueue("pull", 2, 1.0)
    facts = await stage.source.read()
    assert facts.queues["pull"].length_jobs == 2
    await stage.source.close()


async def closing_twice_is_allowed(stage: SidekiqStage) -> None:
    await stage.source.read()
    await stage.source.close()
    await stage.source.close()


sidekiq_source_contract: tuple[SidekiqCheck, ...] = (
    empty_world_is_known_and_empty,
    queues_are_read_configured_or_not,
    processes_are_read,
    running_jobs_that_are_not_asked_for_are_never_none,
    each_reading_tells_whether_redis_takes_writes,
    jobs_put_aside_are_counted,
    failing_classes_are_unknown_until_sidekiq_counts_them,
    unavailable_raises_and_heals_by_itself,
    closing_twice_is_allowed,
)
