"""What a reading says of each queue: its age by clocks that agree, and the threads at work on it.

A job carries the time of the host that enqueued it. A host whose clock is behind makes a queue look late for ever, and
one whose clock is ahead makes it look never late. Two facts bound the age: a job can't be older than the last reading
in which its queue was empty, and it has waited at least since it was first seen as the oldest.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.clocks import CLOCK_SECONDS_MIN
from fleetd.core.model.facts import ProcessFacts, QueueFacts, SidekiqFacts, Value

#: How much older than possible, or younger than now, the oldest job must be to show a wrong clock.
SKEW_SECONDS_MIN = 5.0
#: The same oldest job has the same time; ages are differences of large floating-point numbers.
_SAME_SECONDS = 0.01


class QueueMemory(Value, frozen=True, kw_only=True):
    """One queue between two readings. Times are CLOCK_BOOTTIME."""

    empty_seconds: float | None = None  # of the last reading in which it was empty; None: none was seen
    pushed_back: bool = False  # since then a process that worked on it has gone, and may have pushed back older jobs
    oldest_seconds: float | None = None  # Unix time of the oldest job, by the clock of the host that enqueued it
    first_seen_seconds: float | None = None  # when that job was first seen as the oldest


class Skew(Value, frozen=True, kw_only=True):
    """Whoever enqueues a queue has a clock that is this far ahead of Redis's at least; below 0: behind."""

    queue: str
    ahead_seconds: float


class Ages(Value, frozen=True, kw_only=True):
    """The queues with the ages that are possible, and whose clock is wrong."""

    queues: dict[str, QueueFacts]
    skews: tuple[Skew, ...]
    memory: dict[str, QueueMemory]


def possible_ages(
    facts: SidekiqFacts, gone: frozenset[str], memory: dict[str, QueueMemory], now_seconds: float
) -> Ages:
    """Cut each queue's age to what is possible. `gone`: queues that a process worked on which has disappeared."""
    queues, skews, kept = {}, [], {}
    for name, queue in facts.queues.items():
        before = memory.get(name, QueueMemory())
        after, age = _age(queue, before, name in gone, facts.now_seconds, now_seconds)
        kept[name] = after
        raw = queue.latency_seconds
        if raw is not None and age is not None and abs(raw - age) > SKEW_SECONDS_MIN:
            skews.append(Skew(queue=name, ahead_seconds=age - raw))
        queues[name] = queue if age == raw else structs.replace(queue, latency_seconds=age)
    return Ages(queues=queues, skews=tuple(skews), memory=kept)


def _age(
    queue: QueueFacts, before: QueueMemory, gone: bool, redis_seconds: float, now_seconds: float
) -> tuple[QueueMemory, float | None]:
    if queue.length_jobs == 0:
        return QueueMemory(empty_seconds=now_seconds), 0.0
    raw = queue.latency_seconds
    if raw is None:
        return structs.replace(before, pushed_back=before.pushed_back or gone), None
    oldest = redis_seconds - raw
    same = before.oldest_seconds is not None and abs(oldest - before.oldest_seconds) <= _SAME_SECONDS
    first = before.first_seen_seconds if same and before.first_seen_seconds is not None else now_seconds
    after = QueueMemory(
        empty_seconds=before.empty_seconds,
        pushed_back=before.pushed_back or gone,
        oldest_seconds=oldest,
        first_seen_seconds=first,
    )
    age = max(0.0, raw)
    if raw < -SKEW_SECONDS_MIN:
        age = max(age, now_seconds - first)
    if after.empty_seconds is not None and not after.pushed_back:
        longest = now_seconds - after.empty_seconds + CLOCK_SECONDS_MIN
        if age > longest + SKEW_SECONDS_MIN:
            age = longest
    return after, age


def with_threads(
    queues: dict[str, QueueFacts], processes: tuple[ProcessFacts, ...], *, complete: bool
) -> dict[str, QueueFacts]:
    """The queues with the threads at work on each. Unknown: where a process that serves it could not be read whole.

    `complete`: whether every heartbeat could be read; if not, a process that nobody saw may work on any queue.
    """
    busy: dict[str, int] = {}
    young: dict[str, int] = {}
    unknown: set[str] = set()
    for process in processes:
        if process.busy_by_queue is None:
            unknown |= process.queues
            continue
        for name, threads in process.busy_by_queue.items():
            busy[name] = busy.get(name, 0) + threads
        for name, threads in process.young_by_queue.items():
            young[name] = young.get(name, 0) + threads
    return {
        name: queue
        if not complete or name in unknown
        else QueueFacts(
            name=name,
            length_jobs=queue.length_jobs,
            latency_seconds=queue.latency_seconds,
            busy_threads=busy.get(name, 0),
            young_threads=young.get(name, 0),
        )
        for name, queue in queues.items()
    }
