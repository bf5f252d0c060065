"""Whether more threads bring more throughput: jobs a minute before and after the fleet grew, both flat out.

Sidekiq's counters are flushed every beat and swing between nothing and twice the truth over a tick; over a minute they
hold. A comparison counts only where all threads were busy in both minutes, else the throughput was what came in.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, Value
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE

WINDOW_SECONDS = 60.0
#: A window this much shorter holds a flush too few, and shows a loss where there is none.
WHOLE_SHARE = 0.95
SAMPLES_MAX = 16
SAMPLE_EVERY_SECONDS = 4.0
#: Flat out: this share of the threads was busy.
FLAT_OUT_SHARE = 0.85
#: The fleet was of one size: no sample differs more than this from the mean.
STEADY_SHARE = 0.08
#: A change of size that can tell something, and the share of it that throughput must follow.
CHANGE_SHARE = 0.15
GAIN_SHARE_MIN = 0.25
#: One that was let go was one too many only if clearly missed: single minutes differ by a twentieth by chance.
COSTLY_SHARE_MIN = 0.5
#: What the last change of size showed says nothing of the jobs that come later.
VERDICT_SECONDS = 300.0
#: Threads that do this share of the most that one was ever seen to do are at work, not in each other's way.
EFFICIENT_SHARE = 0.87
#: The most that was seen is forgotten slowly, for jobs change: by this share a window.
FORGOTTEN_SHARE = 0.0005


class SizeVerdict(StrEnum):
    """What the last change of the fleet's size did to the throughput."""

    GROWTH_IN_VAIN = "growth_in_vain"
    GROWTH_PAID = "growth_paid"
    SHRINK_FREE = "shrink_free"
    SHRINK_COSTLY = "shrink_costly"


class Sample(Value, frozen=True, kw_only=True):
    at_seconds: float
    processed_jobs_total: int
    busy_threads: int
    threads: int


class Pace(Value, frozen=True, kw_only=True):
    """What a fleet of this size did, flat out."""

    threads: float
    jobs_per_second: float


class ThroughputMemory(Value, frozen=True, kw_only=True):
    samples: tuple[Sample, ...] = ()  # of the last WINDOW_SECONDS, oldest first
    pace: Pace | None = None  # of the last minute in which all were busy
    flat_out: bool = False  # that was this one
    verdict: SizeVerdict | None = None
    judged_seconds: float | None = None  # when the last change of size was judged
    best_jobs_per_thread_second: float = 0.0  # flat out

    @property
    def useful_threads(self) -> float | None:
        """So many, each doing the most one was seen to do, would do what all did at the last pace; None: not known."""
        if self.pace is None or not self.best_jobs_per_thread_second:
            return None
        return self.pace.jobs_per_second / self.best_jobs_per_thread_second

    @property
    def efficient(self) -> bool:
        """Whether at the last pace the threads did about as much as they ever do."""
        useful = self.useful_threads
        return self.pace is not None and useful is not None and useful >= EFFICIENT_SHARE * self.pace.threads


def too_many_instances(memory: ThroughputMemory, sidekiq: SidekiqFacts) -> int:
    """Instances without which as much would be done, if each thread did what one was seen to do."""
    useful, pace = memory.useful_threads, memory.pace
    sizes = [p.threads for p in _serving(sidekiq) if p.threads]
    if pace is None or useful is None or not sizes:
        return 0
    return max(0, int((pace.threads - useful) / min(sizes)))


def _serving(sidekiq: SidekiqFacts) -> list[ProcessFacts]:
    return [p for p in sidekiq.processes if not p.quiet and p.queues != {SCHEDULER_QUEUE}]


def remember_throughput(memory: ThroughputMemory, sidekiq: SidekiqFacts, now_seconds: float) -> ThroughputMemory:
    """Fold in one reading."""
    judged = memory.judged_seconds
    if judged is not None and not 0.0 <= now_seconds - judged <= VERDICT_SECONDS:
        memory = structs.replace(memory, verdict=None, judged_seconds=None)
    total = sidekiq.processed_jobs_total
    if total is None or not sidekiq.processes_complete:
        return structs.replace(memory, samples=(), flat_out=False)
    last = memory.samples[-1] if memory.samples else None
    if last is not None and 0.0 <= now_seconds - last.at_seconds < SAMPLE_EVERY_SECONDS:
        return memory
    serving = _serving(sidekiq)
    sample = Sample(
        at_seconds=now_seconds,
        processed_jobs_total=total,
        busy_threads=sum(p.busy_threads for p in serving),
        threads=sum(p.threads for p in serving),
    )
    broken = last is not None and (now_seconds < last.at_seconds or total < last.processed_jobs_total)
    kept = () if broken else memory.samples
    kept = tuple(s for s in kept if now_seconds - s.at_seconds <= WINDOW_SECONDS)
    samples = (*kept, sample)[-SAMPLES_MAX:]
    pace = _pace(samples)
    memory = structs.replace(memory, samples=samples, flat_out=pace is not None)
    if pace is None:
        return memory
    best = memory.best_jobs_per_thread_second * (1.0 - FORGOTTEN_SHARE)
    best = max(best, pace.jobs_per_second / pace.threads)
    return _judged(structs.replace(memory, best_jobs_per_thread_second=best, pace=pace), memory.pace, pace)


def _pace(samples: tuple[Sample, ...]) -> Pace | None:
    """What this window shows; None: too short, not flat out, or of changing size."""
    seconds = samples[-1].at_seconds - samples[0].at_seconds
    threads = sum(s.threads for s in samples) / len(samples)
    if seconds < WHOLE_SHARE * WINDOW_SECONDS or threads <= 0:
        return None
    if any(abs(s.threads - threads) > STEADY_SHARE * threads for s in samples):
        return None
    if sum(s.busy_threads for s in samples) / len(samples) < FLAT_OUT_SHARE * threads:
        return None
    jobs = samples[-1].processed_jobs_total - samples[0].processed_jobs_total
    return Pace(threads=threads, jobs_per_second=jobs / seconds)


def _judged(memory: ThroughputMemory, before: Pace | None, pace: Pace) -> ThroughputMemory:
    """What a change of size since the last pace shows; of the same size there is nothing to judge."""
    if before is None or before.jobs_per_second <= 0.0:
        return memory
    change = pace.threads / before.threads - 1.0
    if abs(change) < CHANGE_SHARE:
        return memory
    followed = (pace.jobs_per_second / before.jobs_per_second - 1.0) / change
    in_vain = followed < GAIN_SHARE_MIN
    verdict: SizeVerdict | None
    if change > 0.0:
        verdict = SizeVerdict.GROWTH_IN_VAIN if in_vain else SizeVerdict.GROWTH_PAID
    elif in_vain:
        verdict = SizeVerdict.SHRINK_FREE
    else:
        verdict = SizeVerdict.SHRINK_COSTLY if followed >= COSTLY_SHARE_MIN else None
    return structs.replace(memory, verdict=verdict, judged_seconds=memory.samples[-1].at_seconds)
