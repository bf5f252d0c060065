"""What the ages of running jobs say of how long jobs take.

Of the threads that are busy at a heartbeat, those whose job began less than 10 s before it are E[min(S, 10 s)] / E[S]
of all (renewal theory: Cox, Renewal Theory, 1962, 5.2). Of jobs of a minute that is 10 s / E[S], whatever their
distribution; of jobs of a few seconds it depends on it as well, and a lognormal one with sigma 1 is taken; of shorter
ones it says nothing but that they are short.
"""

from __future__ import annotations

import math

from fleetd.core.demand.service_time import SERVICE_SECONDS_RANGE
from fleetd.core.model.facts import YOUNG_SECONDS, Value

SIGMA = 1.0
#: Below this share it tells a time to begin the fit with.
TELLING_SHARE = 0.97
#: What a sigma of 0.5 or 1.5 in place of 1 makes of the share is about this, and no share says how short a job is.
SHAPE_FACTOR, SHAPE_POWER, SHORT_SHARE = 2.5, 4, 0.02


class Seen(Value, frozen=True, kw_only=True):
    """Of one queue, where it is recorded: thread-seconds that were busy, and those of young jobs."""

    busy_thread_seconds: float
    young_thread_seconds: float

    @property
    def young_share(self) -> float:
        return min(1.0, self.young_thread_seconds / self.busy_thread_seconds)

    @property
    def tells(self) -> bool:
        return self.young_share < TELLING_SHARE


def share_and_slope(mean_seconds: float) -> tuple[float, float]:
    """The share that is young, and its derivative by the logarithm of the mean."""
    cut = YOUNG_SECONDS / mean_seconds
    above = (math.log(cut) + SIGMA * SIGMA / 2.0) / SIGMA
    longer = _normal(-above)
    return _normal(above - SIGMA) + cut * longer, -cut * longer


def share_variance(seen: Seen) -> float:
    """By chance, each job counted once, and because the distribution isn't known."""
    looks = max(1.0, seen.busy_thread_seconds / YOUNG_SECONDS)
    share = seen.young_share
    shape = SHAPE_FACTOR * share**SHAPE_POWER * (1.0 - share + SHORT_SHARE)
    return (share * (1.0 - share) + 1.0 / looks) / looks + shape * shape


def seconds_of(seen: Seen) -> float:
    """The mean that has this share."""
    low, high = SERVICE_SECONDS_RANGE
    for _ in range(40):
        middle = math.sqrt(low * high)
        if share_and_slope(middle)[0] > seen.young_share:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
