"""Processes that live but finish nothing."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.usefulness import CONFIRMED_SECONDS, IDLE_SECONDS, STALLED_SECONDS, Stalled, find_stalled
from fleetd.core.model.facts import ProcessFacts, RunningJob
from tests.support.builders.readings import process, queue

LATE = {"default": queue("default", 300, age=120.0)}
IN_TIME = {"default": queue("default", 300, age=2.0)}


def working(*ages: float, threads: int = 2, job_class: str = "LinkCrawlWorker") -> ProcessFacts:
    jobs = tuple(
        RunningJob(jid=f"j{n}", run_age_seconds=age, job_class=job_class)
        for n, age in enumerate(sorted(ages, reverse=True))
    )
    return structs.replace(process("", threads=threads, busy=len(ages)), jobs=jobs)


def found(beat: ProcessFacts, seconds: float = CONFIRMED_SECONDS) -> list[Stalled]:
    """What readings over this time say."""
    stalled, useless = find_stalled((beat,), IN_TIME, {}, None)
    for _ in range(int(seconds / 5.0)):
        stalled, useless = find_stalled((beat,), IN_TIME, useless, 5.0)
    return list(stalled.values())


def test_all_threads_in_the_same_jobs_for_40_minutes_finish_nothing() -> None:
    assert found(working(5000.0, STALLED_SECONDS)) == [
        Stalled(seconds=STALLED_SECONDS, threads=2, job_class="LinkCrawlWorker")
    ]


def test_one_reading_is_no_proof_because_a_clock_may_just_have_been_set() -> None:
    assert found(working(5000.0, STALLED_SECONDS), seconds=CONFIRMED_SECONDS - 5.0) == []


def test_one_younger_job_shows_that_something_was_finished() -> None:
    assert found(working(5000.0, STALLED_SECONDS - 1.0)) == []


def test_a_free_thread_can_still_finish_something() -> None:
    assert found(working(5000.0)) == []


def test_a_job_that_could_not_be_read_may_be_young() -> None:
    assert found(structs.replace(working(5000.0), busy_threads=2)) == []


def idle_for(seconds: int, *, queues: dict[str, object] | None = None, quiet: bool = False) -> list[Stalled]:
    beat, idle = process("", queues="default push", quiet=quiet), dict[str, float]()
    stalled: dict[str, Stalled] = {}
    for _ in range(0, seconds + 5, 5):
        stalled, idle = find_stalled((beat,), LATE if queues is None else queues, idle, 5.0)  # type: ignore[arg-type]
    return list(stalled.values())


def test_idle_beside_a_late_queue_for_5_minutes_is_stalled() -> None:
    assert idle_for(int(IDLE_SECONDS) - 5) == []
    assert [one.queue for one in idle_for(int(IDLE_SECONDS))] == ["default"]


def test_idle_beside_a_queue_in_time_is_only_idle() -> None:
    assert idle_for(3600, queues={"default": queue("default", 1, age=2.0)}) == []
    assert idle_for(3600, queues={"pull": queue("pull", 300, age=999.0)}) == [], "a queue it does not serve"


def test_a_quiet_process_fetches_nothing_on_purpose() -> None:
    assert idle_for(3600, quiet=True) == []


def test_time_in_which_nobody_read_is_no_idleness() -> None:
    beat = process("", queues="default")
    _, idle = find_stalled((beat,), LATE, {beat.identity: 299.0}, None)
    assert idle == {beat.identity: 0.0}
