"""A recorded time run again: as it was, for the error of the reconstruction, and under other policies, to compare.

As it was: a policy that follows the recorded counts, like a yardstick (yardsticks.py). What its waits and the recorded
ones differ by is the reconstruction's own error; a difference between two configurations that is not well above it
means nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import exp
from typing import Literal

from msgspec import structs

from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.rival import Rival
from fleetd.simulate.replay.reconstruct import Reconstruction
from fleetd.simulate.run import Progress, policy_of, run_fleetd, run_rival
from fleetd.simulate.scoring.outcome import Outcome
from fleetd.simulate.trace.keys import Points
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World

AS_RECORDED = "as recorded"
#: Nothing waits that is younger than this: it is on its way.
WAITED_SECONDS = 0.5
#: A look of fleetd's stands for the time to the next, at most for this.
LOOK_SECONDS_MAX = 30.0
#: What is rebuilt may be off from what was recorded by so much of it; where that is little, by so many seconds: of the
#: 95th percentile, of the longest wait, which was looked at every 5 s, and of the time late.
TRUSTED_SHARE = 0.25
TRUSTED_P95_SECONDS, TRUSTED_LONGEST_SECONDS, TRUSTED_LATE_SECONDS = 3.0, 5.0, 15.0
#: A queue's jobs are known to about 25 %, or not well enough.
TRUSTED_JOBS_SIGMA = 0.25
#: Chance alone makes that much of instance-hours and starts, however well all fits.
NOTHING_SHARE_MIN, NOTHING_STARTS_MIN = 0.02, 1

Doubt = Literal["jobs", "p95", "longest", "late"]


class Waits(Value, frozen=True, kw_only=True):
    """The oldest job's age; the percentile is of the time in which something waited."""

    mean_seconds: float
    p95_seconds: float
    longest_seconds: float
    late_share: float  # of the time: above target
    late_seconds: float


class QueueError(Value, frozen=True, kw_only=True):
    """What was recorded of a queue, and what the reconstruction makes of it."""

    recorded: Waits
    reconstructed: Waits
    jobs_factor: float  # how many there were is known to this factor, about
    doubts: tuple[Doubt, ...]
    trusted: bool


class FleetError(Value, frozen=True, kw_only=True):
    """How far fleetd, run again under the policy it ran under, comes out from what it truly used."""

    instance_seconds_share: float  # −0.15: 15 % below
    starts: int  # more

    @property
    def share_of_nothing(self) -> float:
        """A difference in instance-hours up to this share of them means nothing."""
        return max(NOTHING_SHARE_MIN, abs(self.instance_seconds_share))

    @property
    def starts_of_nothing(self) -> int:
        return max(NOTHING_STARTS_MIN, abs(self.starts))

    def means_nothing(self, now: Outcome, new: Outcome) -> tuple[bool, bool]:
        """Of the difference in instance-hours and in starts: whether it is within the error."""
        seconds = abs(new.score.instance_seconds - now.score.instance_seconds)
        return (
            seconds <= self.share_of_nothing * now.score.instance_seconds,
            abs(new.score.starts - now.score.starts) <= self.starts_of_nothing,
        )


class Ages:
    """The oldest job's age over the time, as little of it as the figures need."""

    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self._waited = array("f")  # ages, and how long each of them was seen
        self._lasted = array("f")
        self._seconds = self._sum = self._late_seconds = 0.0

    def add(self, age_seconds: float, lasted_seconds: float) -> None:
        self._seconds += lasted_seconds
        if age_seconds < WAITED_SECONDS:
            return
        self._sum += age_seconds * lasted_seconds
        self._waited.append(age_seconds)
        self._lasted.append(lasted_seconds)
        if age_seconds > self._target_seconds:
            self._late_seconds += lasted_seconds

    def waits(self) -> Waits:
        whole = max(self._seconds, 1e-9)
        return Waits(
            mean_seconds=round(self._sum / whole, 2),
            p95_seconds=round(self._p95(), 2),
            longest_seconds=round(max(self._waited, default=0.0), 2),
            late_share=round(self._late_seconds / whole, 4),
            late_seconds=round(self._late_seconds, 1),
        )

    def _p95(self) -> float:
        left = 0.05 * sum(self._lasted)
        for age, lasted in sorted(zip(self._waited, self._lasted, strict=True), reverse=True):
            left -= lasted
            if left < 0.0:
                return age
        return 0.0


class AsRecorded(Rival):
    """Wants what was recorded at that second, and notes what waits then."""

    def __init__(
        self,
        world: World,
        sizes: dict[str, Points],
        seen: Callable[[float, dict[str, float]], None],
    ) -> None:
        super().__init__(world)
        self.interval_seconds = max(1, round(world.trace.tick_seconds))  # about as often as samples are
        self._sizes = {name: list(points) for name, points in sizes.items()}
        self._places = dict.fromkeys(sizes, 0)
        self._seen = seen

    def evaluate(self) -> dict[str, int]:
        now = self.world.now
        self._seen(
            float(now), {name: queue.latency_seconds(now) for name, queue in self.world.queues.items()}
        )
        return super().evaluate()

    def desired_instances(self, group: Group, current: int) -> int:
        name = group.profile.name
        points, place = self._sizes.get(name, []), self._places.get(name, 0)
        while place + 1 < len(points) and points[place + 1][0] <= self.world.now:
            place += 1
        self._places[name] = place
        return int(points[place][1]) if points else current


def under(trace: Trace, policy: Policy) -> Trace:
    """The trace with what this policy says of its world: how often fleetd looks, limits, what others may take."""
    connections = policy.connections
    limit = (
        trace.max_connections if connections.limit is None else min(trace.max_connections, connections.limit)
    )
    declared = float(connections.declared_connections("database"))
    others = tuple((at, max(count, declared)) for at, count in trace.others) or ((0.0, declared),)
    return structs.replace(trace, tick_seconds=policy.pace.tick_seconds, max_connections=limit, others=others)


def run_as_recorded(
    found: Reconstruction, progress: Progress | None = None
) -> tuple[Outcome, dict[str, QueueError]]:
    """What the recorded counts make of the reconstructed traffic, and how its waits compare."""
    targets = {queue.name: found.policy.target_seconds(queue.name) for queue in found.trace.queues}
    ages = {name: Ages(target) for name, target in targets.items()}
    look_seconds = max(1, round(found.trace.tick_seconds))  # as a rival is asked (run.py)

    def seen(second: float, oldest: dict[str, float]) -> None:
        if any(begin < second < end for begin, end in found.unwatched):
            return
        for name, age in oldest.items():
            ages[name].add(age, look_seconds)

    # Its own bounds must not get in the way of what truly ran.
    profiles = tuple(
        structs.replace(p, min_instances=0, max_instances=len(p.numbers)) for p in found.policy.profiles
    )
    followed = policy_of(found.trace, structs.replace(found.policy, profiles=profiles))
    outcome = run_rival(
        AS_RECORDED,
        found.trace,
        followed,
        partial(AsRecorded, sizes=found.sizes, seen=seen),
        progress,
    )
    errors = {
        name: _error(
            _recorded(found.ages.get(name, ()), target),
            ages[name].waits(),
            found.jobs_sigma.get(name, 0.0),
        )
        for name, target in targets.items()
    }
    return outcome, errors


def fleet_error(found: Reconstruction, current: Outcome) -> FleetError | None:
    """None: another policy was in force for a part of the time, or nothing ran, so nothing can be compared."""
    if not found.one_policy or found.use.instance_seconds <= 0.0:
        return None
    return FleetError(
        instance_seconds_share=round(current.score.instance_seconds / found.use.instance_seconds - 1.0, 4),
        starts=current.score.starts - found.use.starts,
    )


def run_under(found: Reconstruction, policy: Policy, name: str, progress: Progress | None = None) -> Outcome:
    """fleetd under this policy. Raises ConfigError for a queue that it does not serve."""
    trace = under(found.trace, policy)

    def told(_policy: str, share: float) -> None:
        if progress is not None:
            progress(name, share)

    outcome, _ = run_fleetd(trace, policy_of(trace, policy), told)
    return structs.replace(outcome, policy=name)


def _recorded(points: Points, target_seconds: float) -> Waits:
    ages = Ages(target_seconds)
    for (second, age), (after, _) in pairwise(points):
        ages.add(age, min(LOOK_SECONDS_MAX, after - second))
    return ages.waits()


def _error(was: Waits, here: Waits, jobs_sigma: float) -> QueueError:
    off: dict[Doubt, bool] = {
        "jobs": jobs_sigma > TRUSTED_JOBS_SIGMA,
        "p95": _off(was.p95_seconds, here.p95_seconds, TRUSTED_P95_SECONDS),
        "longest": _off(was.longest_seconds, here.longest_seconds, TRUSTED_LONGEST_SECONDS),
        "late": _off(was.late_seconds, here.late_seconds, TRUSTED_LATE_SECONDS),
    }
    doubts = tuple(about for about, is_off in off.items() if is_off)
    return QueueError(
        recorded=was,
        reconstructed=here,
        jobs_factor=round(exp(jobs_sigma), 2),
        doubts=doubts,
        trusted=not doubts,
    )


def _off(recorded: float, here: float, least: float) -> bool:
    return abs(recorded - here) > max(least, TRUSTED_SHARE * recorded)
