"""Which samples a trace is made of: from where nothing waits, for it can't begin with old jobs; of a week, not all."""

from __future__ import annotations

from math import ceil

from msgspec import structs

from fleetd.core.model.history import Recording, Sample
from fleetd.core.model.policy import SCHEDULER_QUEUE

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
    ages = (q.oldest_age_milliseconds for name, q in sample.queues.items() if name != SCHEDULER_QUEUE)
    return max(ages, default=0) / 1000.0


def _from(recording: Recording, samples: list[Sample]) -> Recording:
    begun = samples[0].at_seconds if samples else float("inf")
    in_force = [change for change in recording.policies if change.at_seconds <= begun][-1:]
    later = [change for change in recording.policies if change.at_seconds > begun]
    return structs.replace(recording, samples=tuple(samples), policies=(*in_force, *later))
