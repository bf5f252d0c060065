"""How long a job of each queue takes, learnt from what every version of Sidekiq tells: busy threads and one counter.

Over half a minute the jobs done should be the sum over the queues of busy thread-seconds / service time. What is off
is corrected in proportion to what each queue was expected to contribute: when one queue is most of the work, as in a
surge, its service time is learnt within a minute; while nothing stands out the sum is right and the parts stay.
Multiplicative, so an estimate never turns negative (Kivinen and Warmuth, Exponentiated Gradient, Information and
Computation 132, 1997, is the family).

Sidekiq 7's minutes per job class are not used: they name no queue, and come a minute late.
"""

from __future__ import annotations

import math

from fleetd.core.facts import SidekiqFacts, Value

#: Until some were seen; typical for Mastodon: pushes wait for other servers, pulls fetch pages.
PRIOR_SECONDS = {"default": 0.15, "push": 0.4, "ingress": 0.2, "mailers": 0.5, "pull": 0.8, "fasp": 0.3}
PRIOR_OTHER_SECONDS = 0.3
SERVICE_SECONDS_RANGE = (0.002, 120.0)
#: The counter is flushed every beat: over less than this it swings between nothing and twice the truth.
WINDOW_SECONDS = 30.0
#: Readings further apart than this say nothing: one look tells nothing about what was busy meanwhile.
READING_GAP_SECONDS_MAX = 60.0
#: Fewer jobs or thread-seconds than these are chance.
JOBS_MIN, THREAD_SECONDS_MIN = 20, 10.0
#: How much of what is off is corrected at once, and the most that a window is believed.
LEARNING_RATE = 0.7
RATIO_MAX = 8.0


class ServiceMemory(Value, frozen=True, kw_only=True):
    """Service time per queue, and the window that is being watched."""

    seconds: dict[str, float] = {}
    since_seconds: float | None = None
    at_seconds: float = 0.0
    processed_jobs_total: int = 0  # at the begin of the window
    busy_thread_seconds: dict[str, float] = {}

    def service_seconds(self, queue: str) -> float:
        """Mean seconds a job of this queue takes."""
        return self.seconds.get(queue, PRIOR_SECONDS.get(queue, PRIOR_OTHER_SECONDS))


def remember_service(
    memory: ServiceMemory, sidekiq: SidekiqFacts, queues: frozenset[str], now_seconds: float
) -> ServiceMemory:
    """Fold in one reading; `queues`: those that are watched (law 7: bounded)."""
    total = sidekiq.processed_jobs_total
    elapsed = now_seconds - memory.at_seconds
    broken = (
        memory.since_seconds is None
        or total is None
        or total < memory.processed_jobs_total
        or not sidekiq.processes_complete
        or not 0.0 <= elapsed <= READING_GAP_SECONDS_MAX
    )
    if broken:
        return _window(memory, total, now_seconds, memory.seconds)
    busy = dict(memory.busy_thread_seconds)
    for name, queue in sidekiq.queues.items():
        key = name if name in queues else ""  # the scheduler's and other strangers' jobs are counted as well
        if queue.busy_threads:
            busy[key] = busy.get(key, 0.0) + queue.busy_threads * elapsed
    if total is None or memory.since_seconds is None or now_seconds - memory.since_seconds < WINDOW_SECONDS:
        return ServiceMemory(
            seconds=memory.seconds,
            since_seconds=memory.since_seconds,
            at_seconds=now_seconds,
            processed_jobs_total=memory.processed_jobs_total,
            busy_thread_seconds=busy,
        )
    learnt = _learnt(memory, busy, total - memory.processed_jobs_total)
    return _window(memory, total, now_seconds, learnt)


def _window(
    memory: ServiceMemory, total: int | None, now_seconds: float, seconds: dict[str, float]
) -> ServiceMemory:
    """A new window begins."""
    return ServiceMemory(
        seconds=seconds,
        since_seconds=None if total is None else now_seconds,
        at_seconds=now_seconds,
        processed_jobs_total=total if total is not None else memory.processed_jobs_total,
    )


def _learnt(memory: ServiceMemory, busy: dict[str, float], jobs: int) -> dict[str, float]:
    expected = {name: spent / memory.service_seconds(name) for name, spent in busy.items()}
    sum_expected = sum(expected.values())
    if jobs < JOBS_MIN or sum(busy.values()) < THREAD_SECONDS_MIN or sum_expected <= 0.0:
        return memory.seconds
    ratio = min(RATIO_MAX, max(1.0 / RATIO_MAX, jobs / sum_expected))
    low, high = SERVICE_SECONDS_RANGE
    learnt = dict(memory.seconds)
    for name, share in expected.items():
        step = math.exp(-LEARNING_RATE * math.log(ratio) * share / sum_expected)
        learnt[name] = min(high, max(low, memory.service_seconds(name) * step))
    return learnt
