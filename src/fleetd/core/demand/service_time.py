"""How long a job of each queue takes, learnt from what every version of Sidekiq shows: busy threads and one counter.

Over half a minute, the number of jobs done should be the sum over the queues of busy thread-seconds / service time. The
difference corrects each queue's estimate, the more the larger its share of the expected jobs and the more uncertain its
estimate. This is a Kalman filter of the logarithms (Kalman, Journal of Basic Engineering 82(1), 1960) without the
covariances. In a surge one queue is most of the work, and is learnt within a minute. In a quiet mix the readings
scatter so much that little is learnt, so what a surge has taught is kept.

Sidekiq 7's metrics per job class and minute are not used: they name no queue, and come a minute late.
"""

from __future__ import annotations

import math

from msgspec import structs

from fleetd.core.model.facts import SidekiqFacts, Value

#: Used until jobs were seen. Typical for Mastodon: pushes wait for other servers, pulls fetch pages.
PRIOR_SECONDS = {"default": 0.15, "push": 0.4, "ingress": 0.2, "mailers": 0.5, "pull": 0.8, "fasp": 0.3}
PRIOR_OTHER_SECONDS = 0.3
SERVICE_SECONDS_RANGE = (0.002, 120.0)
#: The counter is flushed every beat: over less than this it shows anything from zero to twice the truth.
WINDOW_SECONDS = 30.0
#: Readings further apart than this are not used: they don't show what was busy in between.
READING_GAP_SECONDS_MAX = 60.0
#: A window with fewer jobs or thread-seconds shows mostly chance, and is not used.
JOBS_MIN, THREAD_SECONDS_MIN = 20, 10.0
#: The largest ratio of jobs done to jobs expected that is believed, either way.
RATIO_MAX = 8.0
#: Variances of the logarithm: of a prior, and what each window adds because other servers may get slower.
PRIOR_VARIANCE, DRIFT_VARIANCE = 0.5, 0.0002
#: A heartbeat's busy threads stand for this long, and the counter is up to this much later than they are.
BEAT_SECONDS = 10.0


class ServiceMemory(Value, frozen=True, kw_only=True):
    """Service time per queue, and the present window."""

    seconds: dict[str, float] = {}
    since_seconds: float | None = None
    at_seconds: float = 0.0
    processed_jobs_total: int = 0  # at the start of the window
    busy_thread_seconds: dict[str, float] = {}
    variances: dict[str, float] = {}  # of the logarithms of `seconds`
    jobs_per_second_range: tuple[float, float] | None = None  # least and most expected from busy threads in the window

    def service_seconds(self, queue: str) -> float:
        """Mean seconds a job of this queue takes."""
        return self.seconds.get(queue, PRIOR_SECONDS.get(queue, PRIOR_OTHER_SECONDS))

    def careful_seconds(self, queue: str) -> float:
        """The same plus one standard deviation: if little is known about a job, it may well take longer."""
        return self.service_seconds(queue) * math.exp(math.sqrt(self.variances.get(queue, PRIOR_VARIANCE)))


def remember_service(
    memory: ServiceMemory, sidekiq: SidekiqFacts, queues: frozenset[str], now_seconds: float
) -> ServiceMemory:
    """Fold in one reading. `queues`: the watched ones; all others share one entry (law 7: bounded)."""
    total = sidekiq.processed_jobs_total
    elapsed = now_seconds - memory.at_seconds
    broken = (
        memory.since_seconds is None
        or total is None
        or total < memory.processed_jobs_total
        or any(queue.busy_threads is None for queue in sidekiq.queues.values())
        or not sidekiq.processes_complete
        or not 0.0 <= elapsed <= READING_GAP_SECONDS_MAX
    )
    memory = _of_watched(memory, queues)
    if broken:
        return _window(memory, total, now_seconds)
    busy, rate = dict(memory.busy_thread_seconds), 0.0
    for name, queue in sidekiq.queues.items():
        key = name if name in queues else ""  # the counter includes jobs of other queues, such as the scheduler's
        if queue.busy_threads:
            busy[key] = busy.get(key, 0.0) + queue.busy_threads * elapsed
            rate += queue.busy_threads / memory.service_seconds(key)
    lowest, highest = memory.jobs_per_second_range or (rate, rate)
    lowest, highest = min(lowest, rate), max(highest, rate)
    if total is None or memory.since_seconds is None or now_seconds - memory.since_seconds < WINDOW_SECONDS:
        return structs.replace(
            memory, at_seconds=now_seconds, busy_thread_seconds=busy, jobs_per_second_range=(lowest, highest)
        )
    jobs = total - memory.processed_jobs_total
    return _window(_learnt(memory, busy, jobs, highest - lowest), total, now_seconds)


def _of_watched(memory: ServiceMemory, queues: frozenset[str]) -> ServiceMemory:
    """Without queues that are no longer watched, after a reload (law 7: bounded)."""
    if (memory.seconds.keys() | memory.busy_thread_seconds.keys()) - {"", *queues}:
        seconds, variances, busy = (
            {name: value for name, value in table.items() if name in queues or not name}
            for table in (memory.seconds, memory.variances, memory.busy_thread_seconds)
        )
        return structs.replace(memory, seconds=seconds, variances=variances, busy_thread_seconds=busy)
    return memory


def _window(memory: ServiceMemory, total: int | None, now_seconds: float) -> ServiceMemory:
    """Begin a new window."""
    return ServiceMemory(
        seconds=memory.seconds,
        variances=memory.variances,
        since_seconds=None if total is None else now_seconds,
        at_seconds=now_seconds,
        processed_jobs_total=total if total is not None else memory.processed_jobs_total,
    )


def _learnt(memory: ServiceMemory, busy: dict[str, float], jobs: int, unsteady: float) -> ServiceMemory:
    """The estimates after a window. `unsteady`: the range of its expected rate, in jobs per second."""
    expected = {name: spent / memory.service_seconds(name) for name, spent in busy.items()}
    sum_expected = sum(expected.values())
    if jobs < JOBS_MIN or sum(busy.values()) < THREAD_SECONDS_MIN or sum_expected <= 0.0:
        return memory
    ratio = min(RATIO_MAX, max(1.0 / RATIO_MAX, jobs / sum_expected))
    # Busy threads are seen once a heartbeat, and scatter by the square root of their number; so do the jobs done.
    scatter = sum(BEAT_SECONDS * expected[name] ** 2 / spent for name, spent in busy.items() if spent)
    noise = (sum_expected + scatter + (unsteady * BEAT_SECONDS / 2.0) ** 2) / sum_expected**2
    before = {name: memory.variances.get(name, PRIOR_VARIANCE) + DRIFT_VARIANCE for name in expected}
    shares = {name: part / sum_expected for name, part in expected.items()}
    whole = noise + sum(before[name] * share**2 for name, share in shares.items())
    low, high = SERVICE_SECONDS_RANGE
    learnt, variances = dict(memory.seconds), dict(memory.variances)
    for name, share in shares.items():
        gain = before[name] * share / whole
        step = math.exp(-gain * math.log(ratio))
        learnt[name] = min(high, max(low, memory.service_seconds(name) * step))
        variances[name] = min(PRIOR_VARIANCE, before[name] * (1.0 - gain * share))
    return structs.replace(memory, seconds=learnt, variances=variances)
