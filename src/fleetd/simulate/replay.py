"""A recorded time run again: as it was, for the error of the reconstruction, and under other policies, to compare.

As it was: a policy that follows the recorded counts, like a yardstick (yardsticks.py). What its waits and the recorded
ones differ by is the reconstruction's own error; a difference between two configurations that is not well above it
means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import structs

from fleetd.core.facts import Value
from fleetd.core.policy import Policy
from fleetd.simulate.fleet import Group
from fleetd.simulate.reconstruct import Reconstruction
from fleetd.simulate.rival import Rival
from fleetd.simulate.run import Outcome, Progress, policy_of, run_fleetd, run_rival
from fleetd.simulate.trace import Trace
from fleetd.simulate.trace_file import Points
from fleetd.simulate.world import World

AS_RECORDED = "as recorded"
#: An error of the 95th percentile above both of these is too large to trust: seconds, and a share of the target. The
#: longest wait hangs on chance: it may be off by as much again, or by half of itself.
TRUSTED_SECONDS, TRUSTED_TARGET_SHARE, TRUSTED_LONGEST_SHARE = 2.0, 0.5, 0.5
#: So is a share of the time late that differs by more than both of these: of all the time, and of what was recorded.
TRUSTED_LATE_SHARE, TRUSTED_LATE_FACTOR = 0.005, 0.5


class Waits(Value, frozen=True, kw_only=True):
    """The oldest job's age over the time; and the share of it above target, 0 to 1."""

    mean_seconds: float
    p95_seconds: float
    longest_seconds: float
    late_share: float


class QueueError(Value, frozen=True, kw_only=True):
    """What was recorded of a queue, and what the reconstruction makes of it."""

    recorded: Waits
    reconstructed: Waits
    trusted: bool


class AsRecorded(Rival):
    """Wants what was recorded at that second, and notes what waits then."""

    name = AS_RECORDED

    def __init__(
        self,
        world: World,
        policy: Policy,
        sizes: dict[str, Points],
        seen: Callable[[float, dict[str, float]], None],
    ) -> None:
        super().__init__(world, policy)
        self.every_seconds = max(1, round(world.trace.tick_seconds))  # about as often as samples are
        self._sizes = {name: list(points) for name, points in sizes.items()}
        self._places = dict.fromkeys(sizes, 0)
        self._seen = seen

    def look(self) -> dict[str, int]:
        now = self.world.now
        self._seen(float(now), {name: queue.oldest_age(now) for name, queue in self.world.queues.items()})
        return super().look()

    def want(self, group: Group, now: int) -> int:
        name = group.profile.name
        points, place = self._sizes.get(name, []), self._places.get(name, 0)
        while place + 1 < len(points) and points[place + 1][0] <= self.world.now:
            place += 1
        self._places[name] = place
        return int(points[place][1]) if points else now


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
    ages: dict[str, list[tuple[float, float]]] = {q.name: [] for q in found.trace.queues}

    def seen(second: float, oldest: dict[str, float]) -> None:
        if any(begin < second < end for begin, end in found.unwatched):
            return
        for name, age in oldest.items():
            ages[name].append((second, age))

    # Its own bounds must not get in the way of what truly ran.
    profiles = tuple(
        structs.replace(p, min_instances=0, max_instances=len(p.numbers)) for p in found.policy.profiles
    )
    followed = policy_of(found.trace, structs.replace(found.policy, profiles=profiles))
    outcome = run_rival(
        AS_RECORDED,
        found.trace,
        followed,
        partial(AsRecorded, policy=followed, sizes=found.sizes, seen=seen),
        progress,
    )
    errors = {
        name: _error(found.ages.get(name, ()), tuple(points), found.policy.target_seconds(name))
        for name, points in ages.items()
    }
    return outcome, errors


def run_under(found: Reconstruction, policy: Policy, name: str, progress: Progress | None = None) -> Outcome:
    """fleetd under this policy. Raises ConfigError for a queue that it does not serve."""
    trace = under(found.trace, policy)

    def told(_policy: str, share: float) -> None:
        if progress is not None:
            progress(name, share)

    outcome, _ = run_fleetd(trace, policy_of(trace, policy), told)
    return structs.replace(outcome, policy=name)


def _error(recorded: Points, simulated: Points, target_seconds: float) -> QueueError:
    was, here = _waits(recorded, target_seconds), _waits(simulated, target_seconds)
    tolerated = max(TRUSTED_SECONDS, TRUSTED_TARGET_SHARE * target_seconds)
    trusted = (
        abs(was.p95_seconds - here.p95_seconds) <= tolerated
        and abs(was.longest_seconds - here.longest_seconds)
        <= max(2.0 * tolerated, TRUSTED_LONGEST_SHARE * was.longest_seconds)
        and abs(was.late_share - here.late_share)
        <= max(TRUSTED_LATE_SHARE, TRUSTED_LATE_FACTOR * was.late_share)
    )
    return QueueError(recorded=was, reconstructed=here, trusted=trusted)


def _waits(points: Points, target_seconds: float) -> Waits:
    values = sorted(age for _, age in points)
    count = len(values)
    if not count:
        return Waits(mean_seconds=0.0, p95_seconds=0.0, longest_seconds=0.0, late_share=0.0)
    return Waits(
        mean_seconds=round(sum(values) / count, 2),
        p95_seconds=round(values[min(count - 1, int(0.95 * count))], 2),
        longest_seconds=round(values[-1], 2),
        late_share=round(sum(1 for value in values if value > target_seconds) / count, 4),
    )
