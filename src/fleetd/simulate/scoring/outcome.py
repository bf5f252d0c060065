"""What came of one policy on one trace: its score, its curves for the plot, and the laws that it broke."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

import msgspec

from fleetd.core.model.facts import Value
from fleetd.simulate.scoring.laws import LawWatch
from fleetd.simulate.scoring.score import Score, queue_scores, reversals
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.world import World

#: A point of the plot is this share of the trace: two pixels of a row's panels.
PLOT_POINTS = 200


def step_seconds_of(trace: Trace) -> int:
    """From one point of the plot to the next."""
    return max(1, math.ceil(trace.duration_seconds / PLOT_POINTS))


class Spread(NamedTuple):
    """A count, second by second, since the last point: a rival that flaps has many sizes in one."""

    lowest: int
    highest: int
    mean: float


class Curve(Value, frozen=True, kw_only=True):
    """What the plot shows of one policy: a point each `step_seconds`; the last one may come sooner."""

    step_seconds: int
    instances: dict[str, list[Spread]]  # of each profile
    ages: dict[str, list[float]]  # of each queue: the highest age of its oldest job since the last point
    claims: list[Spread]
    budget: list[int]


class Outcome(Value, frozen=True, kw_only=True):
    """One policy on one trace."""

    policy: str
    score: Score
    curve: Curve
    breaks: tuple[str, ...] = ()


class Recorder:
    """Lets the world run, and counts what is the same for every policy."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.over_budget_seconds = 0
        self.sizes = {group.profile.name: array("l") for group in world.groups}  # instances by second
        self._sizes = [(self.sizes[group.profile.name], group) for group in world.groups]
        self._step_seconds = step_seconds_of(world.trace)
        self._ages: dict[str, list[float]] = {name: [] for name in world.queues}
        self._highest_ages = dict.fromkeys(world.queues, 0.0)  # since the last point: a peak is short
        self._claims = array("l")
        self._budget: list[int] = []
        self._budget_before = world.budget_connections()
        claims = world.claims_connections()  # no policy is to blame for what serves at the begin
        self._forgiven_claims = claims if claims > self._budget_before else 0

    def advance_to(self, second: int) -> None:
        """Let the world run up to a second of the trace, at most to its end."""
        world = self.world
        while world.now < min(second, world.end):
            world.advance_to(world.now + 1)
            claims, budget = world.claims_connections(), world.budget_connections()
            self._claims.append(claims)
            self._count_over_budget(claims, budget)
            for sizes, group in self._sizes:
                sizes.append(group.capacity)
            for queue in world.queues.values():
                if queue.batches:
                    age = queue.latency_seconds(world.now)
                    self._highest_ages[queue.name] = max(age, self._highest_ages[queue.name])
            if world.now % self._step_seconds == 0 or world.now == world.end:
                for name, ages in self._ages.items():
                    ages.append(self._highest_ages[name])
                    self._highest_ages[name] = 0.0
                self._budget.append(budget)

    def _count_over_budget(self, claims: int, budget: int) -> None:
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

    def outcome(self, policy: str, watch: LawWatch) -> Outcome:
        world, queues = self.world, queue_scores(self.world)
        verbs = [step.verb for _, step in world.orders]
        score = Score(
            queues=queues,
            late_jobs=sum(queue.late_jobs for queue in queues.values()),
            instance_seconds=world.instance_seconds,
            starts=verbs.count("start"),
            stops=verbs.count("stop"),
            reversals=reversals(world.orders),
            connections_max=max(self._claims, default=0),
            over_budget_seconds=self.over_budget_seconds,
            left_waiting=sum(queue.waiting for queue in world.queues.values()),
            lost_jobs=world.lost_jobs,
            law_breaks=watch.breaks_total,
        )
        curve = Curve(
            step_seconds=self._step_seconds,
            instances={name: self._spreads(sizes) for name, sizes in self.sizes.items()},
            ages=self._ages,
            claims=self._spreads(self._claims),
            budget=self._budget,
        )
        return Outcome(policy=policy, score=score, curve=curve, breaks=tuple(watch.breaks))

    def _spreads(self, counts: array[int]) -> list[Spread]:
        step = self._step_seconds
        parts = [counts[begin : begin + step] for begin in range(0, len(counts), step)]
        return [Spread(min(part), max(part), sum(part) / len(part)) for part in parts]


def document(trace: Trace, outcomes: list[Outcome]) -> str:
    """`{"trace": NAME, "policies": {NAME: scores}}`; docs/traces.md names every field."""
    policies = {outcome.policy: outcome.score for outcome in outcomes}
    return msgspec.json.encode({"trace": trace.name, "policies": policies}).decode()
