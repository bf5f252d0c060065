"""Whether more threads bring more throughput: jobs per second before and after the fleet grew, both flat out.

Sidekiq flushes its counter every beat, so over one tick it shows anything from zero to twice the truth; over a minute
it is reliable. Two minutes are compared only if all threads were busy in both, because otherwise the throughput only
shows how many jobs came in.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, Value
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE

WINDOW_SECONDS = 60.0
#: The least share of a window that must be covered: a shorter one misses a flush, and shows a loss that is not there.
WHOLE_SHARE = 0.95
SAMPLES_MAX = 16
SAMPLE_EVERY_SECONDS = 4.0
#: Flat out: at least this share of the threads was busy.
FLAT_OUT_SHARE = 0.85
#: The fleet kept its size if no sample differs by more than this share from the mean.
STEADY_SHARE = 0.08
#: The smallest change of size that is judged, and the share of it by which throughput must follow.
CHANGE_SHARE = 0.15
GAIN_SHARE_MIN = 0.25
#: Shrinking was costly only if throughput followed by this share: single minutes differ by a twentieth by chance.
COSTLY_SHARE_MIN = 0.5
#: A verdict is forgotten after this long, because later jobs may be different.
VERDICT_SECONDS = 300.0
#: Threads are efficient, and not in each other's way, if each does this share of the most that was ever seen.
EFFICIENT_SHARE = 0.87
#: The most that was seen shrinks by this share with each flat-out sample, because jobs change.
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
    """The throughput of a fleet of this size, flat out."""

    threads: float
    jobs_per_second: float


class ThroughputMemory(Value, frozen=True, kw_only=True):
    samples: tuple[Sample, ...] = ()  # of the last WINDOW_SECONDS, oldest first
    pace: Pace | None = None  # of the last flat-out window
    flat_out: bool = False  # whether that is the present window
    verdict: SizeVerdict | None = None
    judged_seconds: float | None = None  # when the last change of size was judged
    best_jobs_per_thread_second: float = 0.0  # the most that was seen, flat out

    @property
    def useful_threads(self) -> float | None:
        """How many threads at their best would reach the last pace; None: unknown."""
        if self.pace is None or not self.best_jobs_per_thread_second:
            return None
        return self.pace.jobs_per_second / self.best_jobs_per_thread_second

    @property
    def efficient(self) -> bool:
        """Whether at the last pace each thread did about as much as was ever seen."""
        useful = self.useful_threads
        return self.pace is not None and useful is not None and useful >= EFFICIENT_SHARE * self.pace.threads


def too_many_instances(memory: ThroughputMemory, sidekiq: SidekiqFacts) -> int:
    """How many instances could go without a loss of throughput, if each thread left worked at its best."""
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
    """The pace in this window; None: it is too short, not flat out, or the fleet changed its size."""
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
    """The memory with a verdict on the change of size since the last pace, if there was one."""
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
