"""A recorded time run again: as it was, to measure the error, and under other policies, to compare them.

As it was: a rival follows the recorded counts. Its waits differ from the recorded ones by the reconstruction's own
error. A difference between two configurations means nothing unless it is well above that error.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import partial
from itertools import pairwise
from math import exp, inf
from typing import Literal

from msgspec import structs

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.policies.rivals import Rival
from fleetd.simulate.replay.reconstruct import Reconstruction
from fleetd.simulate.run import Progress, policy_of, run_fleetd, run_rival
from fleetd.simulate.scoring.outcome import Outcome
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World

AS_RECORDED = "as recorded"
#: A job that is younger than this is being fetched and does not wait.
WAITED_SECONDS = 0.5
#: A reading stands for the time to the next, at most for this.
READING_SECONDS_MAX = 30.0
#: A rebuilt figure may be off by so much of the recorded one; where that is little, by so many seconds: the 95th
#: percentile, the longest wait, which is known to 5 s only, and the time late.
TRUSTED_SHARE = 0.25
TRUSTED_P95_SECONDS, TRUSTED_LONGEST_SECONDS, TRUSTED_LATE_SECONDS = 3.0, 5.0, 15.0
#: A queue's jobs must be known to about 25 %.
TRUSTED_JOBS_SIGMA = 0.25
#: Differences in instance-hours and starts that chance alone makes, however well all fits.
NOTHING_SHARE_MIN, NOTHING_STARTS_MIN = 0.02, 1

Doubt = Literal["jobs", "p95", "longest", "late"]


class Waits(Value, frozen=True, kw_only=True):
    """The oldest job's age; the percentile is of the time in which a job waited."""

    mean_seconds: float
    p95_seconds: float
    longest_seconds: float
    late_share: float  # of the time: above target
    late_seconds: float


class QueueError(Value, frozen=True, kw_only=True):
    """A queue's waits as recorded and as rebuilt, and whether the latter can be trusted."""

    recorded: Waits
    reconstructed: Waits
    jobs_factor: float  # the number of jobs is known to about this factor
    doubts: tuple[Doubt, ...]
    trusted: bool


class FleetError(Value, frozen=True, kw_only=True):
    """How far fleetd, run again under its own policy, is off from what it truly used."""

    instance_seconds_share: float  # −0.15: 15 % fewer
    starts: int  # more

    @property
    def share_of_nothing(self) -> float:
        """Differences up to this share of the instance-hours mean nothing."""
        return max(NOTHING_SHARE_MIN, abs(self.instance_seconds_share))

    @property
    def starts_of_nothing(self) -> int:
        return max(NOTHING_STARTS_MIN, abs(self.starts))

    def means_nothing(self, now: Outcome, new: Outcome) -> tuple[bool, bool]:
        """Whether the differences in instance-hours and in starts are within the error."""
        seconds = abs(new.score.instance_seconds - now.score.instance_seconds)
        return (
            seconds <= self.share_of_nothing * now.score.instance_seconds,
            abs(new.score.starts - now.score.starts) <= self.starts_of_nothing,
        )


class Ages:
    """The age of a queue's oldest job over time, in arrays, because a recording may be a week long."""

    def __init__(self, target_seconds: float) -> None:
        self._target_seconds = target_seconds
        self._waited = array("f")  # ages, and how long each of them lasted
        self._lasted = array("f")
        self._seconds = self._sum = self._late_seconds = 0.0

    def add(self, age_seconds: float, lasted_seconds: float) -> None:
        self._seconds += lasted_seconds
        if age_seconds >= WAITED_SECONDS:
            self._sum += age_seconds * lasted_seconds
            self._waited.append(age_seconds)
            self._lasted.append(lasted_seconds)
            self._late_seconds += lasted_seconds if age_seconds > self._target_seconds else 0.0

    def waits(self) -> Waits:
        whole = max(self._seconds, 1e-9)
        p95, left_seconds = 0.0, 0.05 * sum(self._lasted)
        for age, lasted in sorted(zip(self._waited, self._lasted, strict=True), reverse=True):
            if left_seconds >= 0.0:
                p95 = age
            left_seconds -= lasted
        return Waits(
            mean_seconds=round(self._sum / whole, 2),
            p95_seconds=round(p95, 2),
            longest_seconds=round(max(self._waited, default=0.0), 2),
            late_share=round(self._late_seconds / whole, 4),
            late_seconds=round(self._late_seconds, 1),
        )


class AsRecorded(Rival):
    """Follows the recorded counts, and notes the ages of the oldest jobs meanwhile."""

    def __init__(self, world: World, found: Reconstruction, ages: dict[str, Ages]) -> None:
        super().__init__(world)
        self.interval_seconds = max(1, round(world.trace.tick_seconds))  # about as often as samples are
        self._found = found
        self._ages = ages

    def evaluate(self) -> dict[str, int]:
        now = self.world.now
        if not any(begin < now < end for begin, end in self._found.unwatched):
            for name, queue in self.world.queues.items():
                self._ages[name].add(queue.latency_seconds(now), self.interval_seconds)
        return super().evaluate()

    def desired_instances(self, group: Group, current: int) -> int:
        points = self._found.sizes.get(group.profile.name, ())
        if not points:
            return current
        return int(points[max(0, bisect_right(points, (self.world.now, inf)) - 1)][1])


def under(trace: Trace, policy: Policy) -> Trace:
    """The trace with what this policy says about its world: the tick, the limit, and what others may take."""
    database, connections = trace.database, policy.connections
    limit = database.max_connections if connections.limit is None else connections.limit
    declared = float(connections.declared_connections("database"))
    database = structs.replace(
        database,
        max_connections=min(database.max_connections, limit),
        others=tuple((at, max(count, declared)) for at, count in database.others) or ((0.0, declared),),
    )
    return structs.replace(trace, tick_seconds=policy.pace.tick_seconds, database=database)


def run_as_recorded(found: Reconstruction, progress: Progress | None = None) -> tuple[Outcome, dict[str, QueueError]]:
    """The rebuilt traffic under the recorded counts, and how its waits compare with the recorded ones."""
    targets = {queue: found.policy.target_seconds(queue) for queue in found.trace.queues}
    ages = {name: Ages(target) for name, target in targets.items()}
    # The policy's own bounds must not change what truly ran.
    profiles = tuple(structs.replace(p, min_instances=0, max_instances=len(p.numbers)) for p in found.policy.profiles)
    policy = policy_of(found.trace, structs.replace(found.policy, profiles=profiles))
    make = partial(AsRecorded, found=found, ages=ages)
    outcome = run_rival(AS_RECORDED, found.trace, policy, make, progress)
    errors = {}
    for name, target in targets.items():
        recorded = Ages(target)
        for (second, age), (after, _) in pairwise(found.ages.get(name, ())):
            recorded.add(age, min(READING_SECONDS_MAX, after - second))
        errors[name] = queue_error(recorded.waits(), ages[name].waits(), found.jobs_sigma.get(name, 0.0))
    return outcome, errors


def fleet_error(found: Reconstruction, current: Outcome) -> FleetError | None:
    """None if nothing can be compared: another policy was in force, or fleetd only observed, or nothing ran."""
    if not found.one_policy or found.policy.observes or found.use.instance_seconds <= 0.0:
        return None
    return FleetError(
        instance_seconds_share=round(current.score.instance_seconds / found.use.instance_seconds - 1.0, 4),
        starts=current.score.starts - found.use.starts,
    )


def run_under(found: Reconstruction, policy: Policy, name: str, progress: Progress | None = None) -> Outcome:
    """fleetd under this policy. Raises ConfigError for a queue that it does not serve."""
    trace = under(found.trace, policy)
    return run_fleetd(trace, policy_of(trace, policy), progress, name)[0]


def queue_error(recorded: Waits, rebuilt: Waits, jobs_sigma: float) -> QueueError:
    """How far the rebuilt waits are off, and which figures are off too far to be trusted."""

    def is_off(recorded_seconds: float, rebuilt_seconds: float, least_seconds: float) -> bool:
        return abs(recorded_seconds - rebuilt_seconds) > max(least_seconds, TRUSTED_SHARE * recorded_seconds)

    off: dict[Doubt, bool] = {
        "jobs": jobs_sigma > TRUSTED_JOBS_SIGMA,
        "p95": is_off(recorded.p95_seconds, rebuilt.p95_seconds, TRUSTED_P95_SECONDS),
        "longest": is_off(recorded.longest_seconds, rebuilt.longest_seconds, TRUSTED_LONGEST_SECONDS),
        "late": is_off(recorded.late_seconds, rebuilt.late_seconds, TRUSTED_LATE_SECONDS),
    }
    doubts = tuple(about for about, doubted in off.items() if doubted)
    return QueueError(
        recorded=recorded,
        reconstructed=rebuilt,
        jobs_factor=round(exp(jobs_sigma), 2),
        doubts=doubts,
        trusted=not doubts,
    )
