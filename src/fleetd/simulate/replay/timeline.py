"""The recording on one timeline: seconds since its start, with gaps bridged or cut out.

It starts where nothing waits, because a trace can't start with old jobs. Of more than a day, samples are taken further
apart. Time passes as CLOCK_BOOTTIME did, so steps of the wall clock do not matter; it is used over a reboot only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from math import ceil

from msgspec import structs

from fleetd.core.model.facts import Value
from fleetd.core.model.history import QueueSample, Recording, Sample
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE
from fleetd.errors import FleetdError
from fleetd.simulate.trace.trace import Fault, Source

#: This much more is read before the time that was asked for, to find a calm moment.
EARLIER_SECONDS_MAX = 3600.0
#: A moment is calm if no job is older than this.
CALM_AGE_SECONDS = 5.0
#: Up to a day all samples are taken; of a longer time only some, to bound memory and time.
WHOLE_SECONDS, APART_SECONDS_MAX, SAMPLE_SECONDS = 86_400.0, 30.0, 5.0
#: Samples further apart than the first are a gap. Up to the second, Sidekiq's counters bridge it. Nobody knows what
#: happened when in a longer one, so it is cut out.
GAP_SECONDS, BRIDGE_SECONDS_MAX = 60.0, 1800.0
#: A gap that is cut out still takes this long.
CUT_SECONDS = 5.0
RECORDED_SECONDS_MIN = 60.0


class RecordingError(FleetdError):
    """A recording that can't be made into a trace."""


class Moment(Value, frozen=True, kw_only=True):
    """A sample at its second of the timeline."""

    second: float
    sample: Sample
    stretch: int  # the number of gaps before it that were cut out


class Reading(Value, frozen=True, kw_only=True):
    """A moment at which Sidekiq could be read."""

    second: float
    stretch: int
    queues: dict[str, QueueSample]
    processed_jobs_total: int


def apart_seconds(since_seconds: float) -> float:
    """How far apart the samples of such a time are taken. 0.0: all of them."""
    if since_seconds <= WHOLE_SECONDS:
        return 0.0
    return min(APART_SECONDS_MAX, SAMPLE_SECONDS * ceil(since_seconds / WHOLE_SECONDS))


def from_calm(recording: Recording, since_seconds: float) -> tuple[Recording, tuple[str, ...]]:
    """The recording from that Unix time on, or from the last calm moment before it, and notes about that."""
    samples = recording.samples
    asked = next((i for i, s in enumerate(samples) if s.at_seconds >= since_seconds), len(samples))
    known = next((s for s in samples[asked:] if s.queues is not None), None)
    if known is None or _oldest_seconds(known) <= CALM_AGE_SECONDS:
        return _from(recording, asked), ()
    calm = next((i for i in reversed(range(asked)) if _oldest_seconds(samples[i]) <= CALM_AGE_SECONDS), None)
    if calm is None:
        jobs = sum(queue.length_jobs for queue in (known.queues or {}).values())
        return _from(recording, asked), (
            f"it begins inside a backlog: {jobs:,} jobs waited already, the oldest for "
            f"{_oldest_seconds(known):.0f} s; here they come at the start, so they are late less than they were",
        )
    earlier = since_seconds - samples[calm].at_seconds
    return _from(recording, calm), (f"it begins {earlier / 60:.0f} min earlier than asked, where nothing waited yet",)


def _oldest_seconds(sample: Sample) -> float:
    """The age of the oldest job; infinite if Redis could not be read."""
    if sample.queues is None:
        return float("inf")
    ages = (q.latency_milliseconds for name, q in sample.queues.items() if name != SCHEDULER_QUEUE)
    return max(ages, default=0) / 1000.0


def _from(recording: Recording, first: int) -> Recording:
    """The recording from a sample on, with the policy in force then and those after it."""
    samples = recording.samples[first:]
    start = samples[0].at_seconds if samples else float("inf")
    in_force = [change for change in recording.policies if change.at_seconds <= start][-1:]
    later = [change for change in recording.policies if change.at_seconds > start]
    return structs.replace(recording, samples=samples, policies=(*in_force, *later))


def timeline(samples: Sequence[Sample]) -> list[Moment]:
    """The samples as moments, without those that go back in time. Raises RecordingError if there are too few."""
    moments: list[Moment] = []
    for sample in samples:
        if not moments:
            moments.append(Moment(second=0.0, sample=sample, stretch=0))
            continue
        last = moments[-1]
        elapsed = elapsed_seconds(last.sample, sample)
        if elapsed > BRIDGE_SECONDS_MAX:
            second = last.second + CUT_SECONDS
            moments.append(Moment(second=second, sample=sample, stretch=last.stretch + 1))
        elif elapsed > 0.0:  # else a reboot set the wall clock back, or the sample is there twice
            moments.append(Moment(second=last.second + elapsed, sample=sample, stretch=last.stretch))
    if not moments or moments[-1].second < RECORDED_SECONDS_MIN:
        raise RecordingError("less than a minute is recorded of that time: nothing can be made of it")
    return moments


def elapsed_seconds(before: Sample, after: Sample) -> float:
    if before.boot == after.boot:
        return after.now_seconds - before.now_seconds
    return after.at_seconds - before.at_seconds


def readings_of(moments: list[Moment]) -> list[Reading]:
    """The moments at which all of Sidekiq's numbers are known. Raises RecordingError if there are too few."""
    found = [
        Reading(
            second=moment.second,
            stretch=moment.stretch,
            queues=moment.sample.queues,
            processed_jobs_total=moment.sample.processed_jobs_total,
        )
        for moment in moments
        if moment.sample.queues is not None and moment.sample.processed_jobs_total is not None
    ]
    if len(found) < 2:
        raise RecordingError("Redis could not be read in that time: nothing can be made of it")
    return found


def outages(moments: list[Moment]) -> list[Fault]:
    """Times in which fleetd ran but could not read a source, from the first to the last such moment."""
    found: list[Fault] = []
    sources: tuple[Source, ...] = ("redis", "postgres", "systemd")
    for source in sources:
        for is_unread, run in groupby(moments, partial(_is_unread, source)):
            seconds = [moment.second for moment in run]
            if is_unread and seconds[-1] > seconds[0]:
                found.append(Fault(at=seconds[0], for_seconds=seconds[-1] - seconds[0], source=source))
    return found


def _is_unread(source: Source, moment: Moment) -> bool:
    sample = moment.sample
    if source == "redis":
        return sample.queues is None
    if source == "systemd":
        return sample.instances is None
    return sample.limit_connections is None and sample.instances is not None
