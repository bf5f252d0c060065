"""What a policy did with a trace, in numbers, and the objective they are held to."""

from __future__ import annotations

from collections import Counter

from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy
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


def queue_scores(world: World, policy: Policy) -> dict[str, QueueScore]:
    """A wait ends at the fetch; a job that waits at the end, past its target, is late."""
    scores = {}
    for name, queue in world.queues.items():
        waits = Counter(queue.waits)
        for second, jobs in queue.batches:
            waits[world.now - second] += jobs
        target = policy.target_seconds(name)
        late = sum(jobs for wait, jobs in waits.items() if wait > target)
        scores[name] = QueueScore(
            jobs=queue.jobs,
            wait_seconds=_percentiles(waits),
            late_jobs=late,
            late_fraction=late / max(1, queue.jobs),
        )
    return scores


def _percentiles(waits: Counter[int]) -> dict[str, float]:
    total, seen = sum(waits.values()), 0
    marks = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    found = dict.fromkeys([*marks, "max"], 0.0)
    if not total:
        return found
    left = list(marks.items())
    for wait in sorted(waits):
        seen += waits[wait]
        while left and seen >= left[0][1] * total:
            found[left.pop(0)[0]] = float(wait)
    found["max"] = float(max(wait for wait, jobs in waits.items() if jobs))
    return found


def reversals(steps: list[tuple[int, Step]]) -> int:
    """Starts within 10 min after a stop of the same profile, or the other way round; each of them counted once.

    A stop is the moment an instance is let go: the quiet, or the stop of one that still boots.
    """
    found = 0
    last: dict[tuple[str | None, str], int] = {}
    quieted: set[object] = set()
    for at, step in steps:
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
