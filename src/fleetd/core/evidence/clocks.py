"""How far the clocks of others are from Redis's, and ages without that difference.

A process writes its beat and the begin of its jobs by its own clock, and whoever enqueues a job by theirs. Redis's
clock is the one that all readings share.

When a beat has moved between two readings, it was written between them. So its clock is ahead of Redis's by between
(beat − this reading) and (beat − the reading before); each further beat narrows that. This is the interval rule of
Marzullo (Maintaining the Time in a Distributed System, 1984) with a single source.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, Value

#: A smaller difference is left alone: beats and readings are not exact to the millisecond.
CLOCK_SECONDS_MIN = 1.0


class ClockBounds(Value, frozen=True, kw_only=True):
    """A clock is ahead of Redis's by at least `low_seconds` and at most `high_seconds`; below 0: it is behind."""

    low_seconds: float
    high_seconds: float

    @property
    def ahead_seconds(self) -> float:
        """How far ahead it is taken to be: 0.0 if it may be right.

        Else the upper bound, because it makes a beat the oldest that it can be: a drain must not take a beat from
        before its order for one after it.
        """
        wrong = self.low_seconds > CLOCK_SECONDS_MIN or self.high_seconds < -CLOCK_SECONDS_MIN
        return self.high_seconds if wrong else 0.0

    def narrowed(self, other: ClockBounds) -> ClockBounds:
        """What both say. If they exclude each other the clock was set meanwhile, and the newer one holds."""
        low = max(self.low_seconds, other.low_seconds)
        high = min(self.high_seconds, other.high_seconds)
        return other if low > high else ClockBounds(low_seconds=low, high_seconds=high)


def bounds_of_beat(
    before: ClockBounds | None, beat_seconds: float, earlier_seconds: float, now_seconds: float
) -> ClockBounds:
    """The bounds after a beat that was written between two readings. All times are Unix times, the last two Redis's."""
    found = ClockBounds(low_seconds=beat_seconds - now_seconds, high_seconds=beat_seconds - earlier_seconds)
    return found if before is None else before.narrowed(found)


def by_redis_clock(process: ProcessFacts, ahead_seconds: float) -> ProcessFacts:
    """The process with its ages by Redis's clock, none below 0."""
    jobs = process.jobs
    if ahead_seconds or any(job.run_age_seconds < 0.0 for job in jobs):
        jobs = tuple(
            structs.replace(job, run_age_seconds=max(0.0, job.run_age_seconds + ahead_seconds)) for job in jobs
        )
    elif process.beat_age_seconds >= 0.0 and process.started_age_seconds >= 0.0:
        return process
    return structs.replace(
        process,
        clock_ahead_seconds=ahead_seconds,
        beat_age_seconds=max(0.0, process.beat_age_seconds + ahead_seconds),
        started_age_seconds=max(0.0, process.started_age_seconds + ahead_seconds),
        jobs=jobs,
    )
