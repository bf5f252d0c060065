"""What a policy did with a trace, in numbers, and the objective they are held to."""

from __future__ import annotations

from collections import Counter

from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey
from fleetd.simulate.world.world import World

#: At most 1 % of all jobs late, and no queue above 5 %.
LATE_SHARE_MAX, QUEUE_LATE_SHARE_MAX = 0.01, 0.05
REVERSAL_SECONDS = 600


class QueueScore(Value, frozen=True, kw_only=True):
    """One queue: `wait_seconds` from coming in to the fetch."""

    jobs: int
    wait_seconds: dict[str, float]  # p50 p95 p99 max
    late_jobs: int
    late_fraction: float


class Score(Value, frozen=True, kw_only=True):
    """One policy on one trace."""

    queues: dict[str, QueueScore]
    late_jobs: int
    instance_seconds: int
    starts: int
    stops: int
    reversals: int
    connections_max: int
    over_budget_seconds: int
    left_waiting: int
    lost_jobs: int
    law_breaks: int

    @property
    def late_fraction(self) -> float:
        return self.late_jobs / max(1, sum(q.jobs for q in self.queues.values()))

    @property
    def meets_objective(self) -> bool:
        worst = max((q.late_fraction for q in self.queues.values()), default=0.0)
        return self.late_fraction <= LATE_SHARE_MAX and worst <= QUEUE_LATE_SHARE_MAX


def queue_scores(world: World) -> dict[str, QueueScore]:
    """A wait ends at the fetch. A job that still waits at the end is late if it is past its target by then."""
    scores = {}
    for name, queue in world.queues.items():
        waits = Counter(queue.waits)
        for second, jobs in queue.batches:
            waits[world.now - second] += jobs
        target = world.policy.target_seconds(name)
        late = sum(jobs for wait, jobs in waits.items() if wait > target)
        scores[name] = QueueScore(
            jobs=queue.jobs,
            wait_seconds=_percentiles(waits),
            late_jobs=late,
            late_fraction=late / max(1, queue.jobs),
        )
    return scores


def _percentiles(waits: Counter[int]) -> dict[str, float]:
    marks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    found = dict.fromkeys(marks, 0.0)
    total, counted = sum(waits.values()), 0
    left = list(marks.items())
    for wait in sorted(wait for wait, jobs in waits.items() if jobs):
        counted += waits[wait]
        while left and counted >= left[0][1] * total:
            found[left.pop(0)[0]] = float(wait)
    return found


def reversals(orders: list[tuple[int, Step]]) -> int:
    """Starts within 10 min after a stop in the same profile, or the other way round; each of them counted once.

    `orders`: with their seconds. A stop counts at the quiet, when its drain begins; that of a booting instance at once.
    """
    found = 0
    last: dict[tuple[str | None, str], int] = {}
    quieted: set[InstanceKey] = set()
    for at, step in orders:
        if step.verb == "stop" and step.key in quieted:
            quieted.discard(step.key)
            continue  # the end of a drain that was counted when it began
        way, other = ("up", "down") if step.verb == "start" else ("down", "up")
        if step.verb == "quiet":
            quieted.add(step.key)
        if at - last.get((step.profile, other), -REVERSAL_SECONDS - 1) <= REVERSAL_SECONDS:
            found += 1
        last[step.profile, way] = at
    return found
