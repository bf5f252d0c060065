"""The recording on one line of time: seconds since its begin, with what nobody watched bridged or cut out, and said.

It begins where nothing waits, for a trace can't begin with old jobs; of more than a day samples lie further apart. Time
passes as CLOCK_BOOTTIME did, so a step of the wall clock is none here; over a reboot only the wall clock knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal

from msgspec import structs

from fleetd.core.model.facts import Value
from fleetd.core.model.history import QueueSample, Recording, Sample
from fleetd.core.model.policy import SCHEDULER_QUEUE
from fleetd.errors import FleetdError

#: So much more is read before the time that was asked for, to find a calm moment in.
EARLIER_SECONDS_MAX = 3600.0
#: Nothing waits where no queue's oldest job is older than this.
CALM_AGE_SECONDS = 5.0

#: A day is taken whole; of more, samples further apart, as far as heartbeats and gaps allow.
WHOLE_SECONDS, APART_SECONDS_MAX, SAMPLE_SECONDS = 86_400.0, 30.0, 5.0


def apart_seconds(since_seconds: float) -> float:
    """How far apart the samples of so long a time are taken, to bound memory and time; 0: all of them."""
    if since_seconds <= WHOLE_SECONDS:
        return 0.0
    return min(APART_SECONDS_MAX, SAMPLE_SECONDS * ceil(since_seconds / WHOLE_SECONDS))


def from_calm(recording: Recording, since_seconds: float) -> tuple[Recording, tuple[str, ...]]:
    """The recording from the last calm moment before that Unix time on; and what is to be said of it."""
    before = [s for s in recording.samples if s.at_seconds < since_seconds]
    after = [s for s in recording.samples if s.at_seconds >= since_seconds]
    known = next((s for s in after if s.queues is not None), None)
    if known is None or _oldest_seconds(known) <= CALM_AGE_SECONDS:
        return _from(recording, after), ()
    calm = next(
        (i for i in reversed(range(len(before))) if _oldest_seconds(before[i]) <= CALM_AGE_SECONDS), None
    )
    if calm is None:
        jobs = sum(queue.length_jobs for queue in (known.queues or {}).values())
        return _from(recording, after), (
            f"it begins inside a backlog: {jobs:,} jobs waited already, the oldest for "
            f"{_oldest_seconds(known):.0f} s; here they come at the begin, so they are late less than they were",
        )
    earlier = since_seconds - before[calm].at_seconds
    return _from(recording, [*before[calm:], *after]), (
        f"it begins {earlier / 60:.0f} min earlier than asked, where nothing waited yet",
    )


def _oldest_seconds(sample: Sample) -> float:
    """Unknown is as old as can be."""
    if sample.queues is None:
        return float("inf")
    ages = (q.latency_milliseconds for name, q in sample.queues.items() if name != SCHEDULER_QUEUE)
    return max(ages, default=0) / 1000.0


def _from(recording: Recording, samples: list[Sample]) -> Recording:
    begun = samples[0].at_seconds if samples else float("inf")
    in_force = [change for change in recording.policies if change.at_seconds <= begun][-1:]
    later = [change for change in recording.policies if change.at_seconds > begun]
    return structs.replace(recording, samples=tuple(samples), policies=(*in_force, *later))


#: Samples further apart than this: nobody watched. Up to the second one the counters of Sidekiq tell how much was done
#: meanwhile; beyond it what happened when would be made up.
GAP_SECONDS, BRIDGE_SECONDS_MAX = 60.0, 1800.0
#: What a piece that is cut out leaves.
SEAM_SECONDS = 5.0
RECORDED_SECONDS_MIN = 60.0


class RecordingError(FleetdError):
    """A recording that no trace can be made of."""


class Moment(Value, frozen=True, kw_only=True):
    """A sample at its time on the line."""

    second: float
    sample: Sample


class Gap(Value, frozen=True, kw_only=True):
    """From one moment to the next nobody watched; `lasted_seconds` in truth, where it is cut out."""

    from_second: float
    to_second: float
    lasted_seconds: float
    cut: bool


class Outage(Value, frozen=True, kw_only=True):
    """A source that could not be read from the first to the second of these."""

    source: Literal["redis", "postgres", "systemd"]
    from_second: float
    to_second: float


class Timeline(Value, frozen=True, kw_only=True):
    """All moments in order."""

    moments: tuple[Moment, ...]
    gaps: tuple[Gap, ...]

    @property
    def duration_seconds(self) -> float:
        return self.moments[-1].second


class Reading(Value, frozen=True, kw_only=True):
    """A moment at which Sidekiq could be read."""

    second: float
    queues: dict[str, QueueSample]
    processed_jobs_total: int


def timeline(samples: Sequence[Sample]) -> Timeline:
    """Raises RecordingError where there is too little."""
    moments: list[Moment] = []
    gaps: list[Gap] = []
    for sample in samples:
        if not moments:
            moments.append(Moment(second=0.0, sample=sample))
            continue
        last = moments[-1]
        lasted = _elapsed(last.sample, sample)
        if lasted <= 0.0:  # the wall clock was set back over a reboot, or the same once more
            continue
        cut = lasted > BRIDGE_SECONDS_MAX
        second = last.second + (SEAM_SECONDS if cut else lasted)
        if lasted > GAP_SECONDS:
            gaps.append(Gap(from_second=last.second, to_second=second, lasted_seconds=lasted, cut=cut))
        moments.append(Moment(second=second, sample=sample))
    line = Timeline(moments=tuple(moments), gaps=tuple(gaps))
    if not moments or line.duration_seconds < RECORDED_SECONDS_MIN:
        raise RecordingError("less than a minute is recorded of that time: nothing can be made of it")
    return line


def _elapsed(before: Sample, after: Sample) -> float:
    if before.boot == after.boot:
        return after.now_seconds - before.now_seconds
    return after.at_seconds - before.at_seconds


def readings(line: Timeline) -> list[Reading]:
    """Those moments at which Sidekiq's numbers were all there. Raises RecordingError where there are too few."""
    found = [
        Reading(
            second=moment.second,
            queues=moment.sample.queues,
            processed_jobs_total=moment.sample.processed_jobs_total,
        )
        for moment in line.moments
        if moment.sample.queues is not None and moment.sample.processed_jobs_total is not None
    ]
    if len(found) < 2:
        raise RecordingError("Redis could not be read in that time: nothing can be made of it")
    return found


def outages(line: Timeline) -> list[Outage]:
    """Times in which fleetd ran and could not read something, to the last look at which it could not."""
    found: list[Outage] = []
    for source in ("redis", "postgres", "systemd"):
        began: float | None = None
        last = 0.0
        for moment in line.moments:
            if _unread(moment.sample, source):
                began, last = (moment.second if began is None else began), moment.second
            elif began is not None:
                found.append(Outage(source=source, from_second=began, to_second=last))
                began = None
        if began is not None and last > began:
            found.append(Outage(source=source, from_second=began, to_second=last))
    return found


def _unread(sample: Sample, source: str) -> bool:
    if source == "redis":
        return sample.queues is None
    if source == "systemd":
        return sample.instances is None
    return sample.limit_connections is None and sample.instances is not None
