"""The outcome of one policy on one trace: its score, its curves for the plot, and the laws that it broke.

A policy is held to one objective: at most 1 % of all jobs late, and no queue above 5 %.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from typing import NamedTuple

import msgspec

from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.simulate.scoring.laws import LawWatch
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.world import World

LATE_SHARE_MAX, QUEUE_LATE_SHARE_MAX = 0.01, 0.05
REVERSAL_SECONDS = 600
#: A point of the plot is this share of the trace: two pixels of a row's panels.
PLOT_POINTS = 200


def step_seconds_of(trace: Trace) -> int:
    """Seconds from one point of the plot to the next."""
    return max(1, math.ceil(trace.duration_seconds / PLOT_POINTS))


class QueueScore(Value, frozen=True, kw_only=True):
    """One queue. A wait lasts from the arrival to the fetch."""

    jobs: int
    wait_seconds: dict[str, float]  # p50 p95 p99 max
    late_jobs: int
    late_fraction: float


class HostScore(Value, frozen=True, kw_only=True):
    """One host of a trace with hosts."""

    instance_seconds: int
    starts: int
    stops: int
    lost_jobs: int
    instances: list[tuple[int, int]]  # at the start and after each change: second, instances that serve or will


class Score(Value, frozen=True, kw_only=True, omit_defaults=True):
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
    hosts: dict[str, HostScore] = {}
    #: At the start and after each change: the second, and the hosts on which a scheduler runs; a trace without hosts
    #: has none.
    scheduler: list[tuple[int, tuple[str, ...]]] = []

    @property
    def late_fraction(self) -> float:
        return self.late_jobs / max(1, sum(q.jobs for q in self.queues.values()))

    @property
    def meets_objective(self) -> bool:
        worst = max((q.late_fraction for q in self.queues.values()), default=0.0)
        return self.late_fraction <= LATE_SHARE_MAX and worst <= QUEUE_LATE_SHARE_MAX


class Spread(NamedTuple):
    """A count over one step of the plot: a rival that flaps has many sizes in one step."""

    lowest: int
    highest: int
    mean: float


class Curve(Value, frozen=True, kw_only=True):
    """What the plot shows of one policy: a point every `step_seconds`; the last one may come sooner."""

    step_seconds: int
    instances: dict[str, list[Spread]]  # of each profile
    ages: dict[str, list[float]]  # of each queue: the highest age of its oldest job in the step, in seconds
    claims: list[Spread]
    budget: list[int]


class Outcome(Value, frozen=True, kw_only=True):
    """One policy on one trace."""

    policy: str
    score: Score
    curve: Curve
    breaks: tuple[str, ...] = ()


class Recorder:
    """Lets the world run, and records what is the same for every policy."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.over_budget_seconds = 0
        self.sizes = {self._name(group): array("l") for group in world.groups}  # instances by second
        self._step_seconds = step_seconds_of(world.trace)
        self._ages: dict[str, list[float]] = {name: [] for name in world.queues}
        self._highest_ages = dict.fromkeys(world.queues, 0.0)  # since the last point, because a peak is short
        self._claims = array("l")
        self._budget: list[int] = []
        self._budget_before = world.budget_connections()
        claims = world.claims_connections()  # no policy is to blame for the instances that serve at the start
        self._forgiven_claims = claims if claims > self._budget_before else 0
        self._scheduler: list[tuple[int, tuple[str, ...]]] = []
        self._see_scheduler()

    def _name(self, group: Group) -> str:
        """Of its curve: the profile, with several hosts that of each."""
        return f"{group.machine.name}/{group.profile.name}" if self.world.trace.hosts else group.profile.name

    def _see_scheduler(self) -> None:
        hosts = tuple(m.name for m in self.world.machines if m.schedules)
        if not self._scheduler or hosts != self._scheduler[-1][1]:
            self._scheduler.append((self.world.now, hosts))

    def advance_to(self, second: int) -> None:
        """Let the world run up to a second of the trace, but not past its end."""
        world = self.world
        while world.now < min(second, world.end):
            world.advance_to(world.now + 1)
            claims, budget = world.claims_connections(), world.budget_connections()
            self._claims.append(claims)
            self._count_over_budget(claims, budget)
            for group in world.groups:
                self.sizes[self._name(group)].append(group.capacity)
            if world.trace.hosts:
                self._see_scheduler()
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

        Drains take time, so claims that were within the budget when it shrank are forgiven while they go down.
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
        verbs = [step.verb for machine in world.machines for _, step in machine.orders]
        score = Score(
            queues=queues,
            late_jobs=sum(queue.late_jobs for queue in queues.values()),
            instance_seconds=sum(machine.instance_seconds for machine in world.machines),
            starts=verbs.count("start"),
            stops=verbs.count("stop"),
            reversals=sum(reversals(machine.orders) for machine in world.machines),
            connections_max=max(self._claims, default=0),
            over_budget_seconds=self.over_budget_seconds,
            left_waiting=sum(queue.waiting for queue in world.queues.values()),
            lost_jobs=world.lost_jobs,
            law_breaks=watch.breaks_total,
            hosts={m.name: self._host(m) for m in world.machines} if world.trace.hosts else {},
            scheduler=self._scheduler if world.trace.hosts else [],
        )
        curve = Curve(
            step_seconds=self._step_seconds,
            instances={name: self._spreads(sizes) for name, sizes in self.sizes.items()},
            ages=self._ages,
            claims=self._spreads(self._claims),
            budget=self._budget,
        )
        return Outcome(policy=policy, score=score, curve=curve, breaks=tuple(watch.breaks))

    def _host(self, machine: Machine) -> HostScore:
        verbs = [step.verb for _, step in machine.orders]
        changes: list[tuple[int, int]] = []
        for second, counts in enumerate(zip(*(self.sizes[self._name(g)] for g in machine.groups), strict=True)):
            if not changes or changes[-1][1] != sum(counts):
                changes.append((second, sum(counts)))
        return HostScore(
            instance_seconds=machine.instance_seconds,
            starts=verbs.count("start"),
            stops=verbs.count("stop"),
            lost_jobs=machine.lost_jobs,
            instances=changes,
        )

    def _spreads(self, counts: array[int]) -> list[Spread]:
        step = self._step_seconds
        parts = [counts[begin : begin + step] for begin in range(0, len(counts), step)]
        return [Spread(min(part), max(part), sum(part) / len(part)) for part in parts]


def queue_scores(world: World) -> dict[str, QueueScore]:
    """Waits end at the fetch. A job that still waits at the end of the trace is late if it is past its target then."""
    scores = {}
    for name, queue in world.queues.items():
        waits = Counter(queue.waits)
        for second, jobs in queue.batches:
            waits[world.now - second] += jobs
        target = world.policy.target_seconds(name)
        late = sum(jobs for wait, jobs in waits.items() if wait > target)
        scores[name] = QueueScore(
            jobs=queue.jobs, wait_seconds=_percentiles(waits), late_jobs=late, late_fraction=late / max(1, queue.jobs)
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
    """Starts within 10 min after a stop in the same profile, and stops as soon after a start.

    `orders`: each with its second. A drain counts as one stop, at the quiet.
    """
    found = 0
    last: dict[tuple[str | None, str], int] = {}
    quieted: set[object] = set()
    for at, step in orders:
        if step.verb == "stop" and step.key in quieted:
            quieted.discard(step.key)
            continue  # the end of a drain, which was counted at its quiet
        way, other = ("up", "down") if step.verb == "start" else ("down", "up")
        if step.verb == "quiet":
            quieted.add(step.key)
        if at - last.get((step.profile, other), -REVERSAL_SECONDS - 1) <= REVERSAL_SECONDS:
            found += 1
        last[step.profile, way] = at
    return found


def document(trace: Trace, outcomes: list[Outcome]) -> str:
    """`{"trace": NAME, "policies": {NAME: scores}}`; docs/traces.md names every field."""
    policies = {outcome.policy: outcome.score for outcome in outcomes}
    return msgspec.json.encode({"trace": trace.name, "policies": policies}).decode()
