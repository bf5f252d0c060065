"""What came of one policy on one trace: its score, its curves for the plot, and the laws that it broke."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

import msgspec

from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.steering import budget_connections
from fleetd.simulate.scoring.laws import LawChecks
from fleetd.simulate.scoring.score import Score, queue_scores, reversals
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.world import World

#: A point of the plot is this share of the trace: two pixels of a row's panels.
PLOT_POINTS = 200


class Spread(NamedTuple):
    """What a count was, second by second, since the last point: a rival that flaps has many sizes in one."""

    lowest: int
    highest: int
    mean: float


class Curve(Value, frozen=True, kw_only=True):
    """What the plot shows of one policy: a point each `step_seconds`, the last one maybe sooner."""

    step_seconds: int
    instances: dict[str, list[Spread]]
    ages: dict[str, list[float]]  # the oldest job of each queue since the last point
    claims: list[Spread]
    budget: list[int]


class Outcome(Value, frozen=True, kw_only=True):
    """One policy on one trace."""

    policy: str
    score: Score
    curve: Curve
    breaks: tuple[str, ...] = ()


class Recorder:
    """Counts what is the same for every policy while the world runs."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.over_budget_seconds = 0
        self.claims_max = 0
        self.sizes = {g.profile.name: array("l") for g in world.groups}
        self._sizes = [(self.sizes[g.profile.name], g) for g in world.groups]
        self.step = max(1, math.ceil(world.trace.duration_seconds / PLOT_POINTS))
        self.ages: dict[str, list[float]] = {name: [] for name in world.queues}
        self._oldest = dict.fromkeys(
            world.queues, 0.0
        )  # the highest age since the last point: a peak is short
        self.claims = array("l")
        self.budget: list[int] = []
        self._budget_before = budget_connections(world, policy)
        claims = world.claims()  # what serves at the begin is nobody's doing
        self._forgiven_claims = claims if claims > self._budget_before else 0

    def advance_to(self, second: int) -> None:
        """Let the world run, and look at it each second."""
        world = self.world
        while world.now < second:
            world.advance_to(world.now + 1)
            claims = world.claims()
            if claims > self.claims_max:
                self.claims_max = claims
            budget = budget_connections(world, self.policy)
            self._over(claims, budget)
            self.claims.append(claims)
            for sizes, group in self._sizes:
                sizes.append(group.counted)
            for queue in world.queues.values():
                if queue.batches:
                    age = queue.latency_seconds(world.now)
                    self._oldest[queue.name] = max(age, self._oldest[queue.name])
            if world.now % self.step == 0 or world.now == math.ceil(world.trace.duration_seconds):
                self._point(budget)

    def _over(self, claims: int, budget: int) -> None:
        """Count this second if claims are over the budget, and not only because it shrank.

        The drains that a shrink causes take their time: what was claimed at the shrink is forgiven as it goes down.
        """
        if claims > budget and budget < self._budget_before and not self._forgiven_claims:
            self._forgiven_claims = min(claims, self._budget_before)
        if claims <= budget:
            self._forgiven_claims = 0
        elif claims > self._forgiven_claims:
            self.over_budget_seconds += 1
        else:
            self._forgiven_claims = claims
        self._budget_before = budget

    def _point(self, budget: int) -> None:
        for name, ages in self.ages.items():
            ages.append(self._oldest[name])
            self._oldest[name] = 0.0
        self.budget.append(budget)

    def outcome(self, policy: str, steps: list[tuple[int, Step]], checks: LawChecks) -> Outcome:
        world = self.world
        scores = queue_scores(world, self.policy)
        score = Score(
            queues=scores,
            late_jobs=sum(q.late_jobs for q in scores.values()),
            instance_seconds=world.instance_seconds,
            starts=sum(1 for _, s in steps if s.verb == "start"),
            stops=sum(1 for _, s in steps if s.verb == "stop"),
            reversals=reversals(steps),
            connections_max=self.claims_max,
            over_budget_seconds=self.over_budget_seconds,
            left_waiting=sum(q.waiting for q in world.queues.values()),
            lost_jobs=world.lost_jobs,
            law_breaks=checks.breaks_total,
        )
        curve = Curve(
            step_seconds=self.step,
            instances={name: _spreads(sizes, self.step) for name, sizes in self.sizes.items()},
            ages=self.ages,
            claims=_spreads(self.claims, self.step),
            budget=self.budget,
        )
        return Outcome(policy=policy, score=score, curve=curve, breaks=tuple(checks.breaks))


def _spreads(counts: array[int], step: int) -> list[Spread]:
    parts = [counts[begin : begin + step] for begin in range(0, len(counts), step)]
    return [Spread(min(part), max(part), sum(part) / len(part)) for part in parts]


def document(trace: Trace, outcomes: list[Outcome]) -> str:
    """`{"trace": NAME, "policies": {NAME: scores}}`; docs/traces.md names every field."""
    policies = {outcome.policy: msgspec.to_builtins(outcome.score) for outcome in outcomes}
    return msgspec.json.encode({"trace": trace.name, "policies": policies}).decode()
