"""Runs a policy through a trace, and several of them side by side."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from msgspec import structs

from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy, SchedulerPolicy
from fleetd.errors import ConfigError, FleetdError
from fleetd.simulate.checks import LawChecks
from fleetd.simulate.daemon import SimulatedDaemon
from fleetd.simulate.readings import HOST
from fleetd.simulate.rival import Rival
from fleetd.simulate.rivals import RIVALS
from fleetd.simulate.score import Score, queue_scores, reversals
from fleetd.simulate.steering import Steering, budget_connections, counted
from fleetd.simulate.trace import Trace
from fleetd.simulate.trace_checks import NO_PROFILES, misfits
from fleetd.simulate.world import World
from fleetd.simulate.yardsticks import ORACLE_MARGINS, Oracle, Reactive

POLICIES = ("fleetd", *RIVALS, "reactive", "oracle")
#: A point of the plot is this share of the trace: two pixels of a row's panels.
PLOT_POINTS = 200

Progress = Callable[[str, float], None]  # policy, share done


class SimulationError(FleetdError):
    """A simulation that can't be run, or broke a law."""


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


def policy_of(trace: Trace, configured: Policy | None) -> Policy:
    """The policy a trace runs under: its own profiles and targets over the configuration's; raises ConfigError."""
    base = configured or Policy(host=HOST, profiles=(), targets_seconds={})
    profiles = trace.profiles or base.profiles
    if not profiles:
        raise ConfigError(trace.name, [NO_PROFILES])
    problems = misfits([queue.name for queue in trace.queues], trace.targets_seconds, profiles)
    if problems:
        raise ConfigError(trace.name, problems)
    return structs.replace(
        base,
        host=HOST,
        profiles=profiles,
        targets_seconds={**base.targets_seconds, **trace.targets_seconds},
        scheduler=SchedulerPolicy(place="elsewhere"),
        connections=structs.replace(base.connections, limit=None, declared=()),
        pace=structs.replace(base.pace, tick_seconds=trace.tick_seconds),
    )


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
                    age = queue.oldest_age(world.now)
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


def run_fleetd(
    trace: Trace, policy: Policy, progress: Progress | None = None
) -> tuple[Outcome, dict[str, array[int]]]:
    """fleetd itself; also its instances of each profile by second, for `reactive`."""
    return asyncio.run(_run_fleetd(trace, policy, progress))


async def _run_fleetd(
    trace: Trace, policy: Policy, progress: Progress | None
) -> tuple[Outcome, dict[str, array[int]]]:
    world = World(trace, policy)
    daemon, recorder, checks = (
        SimulatedDaemon(world, policy),
        Recorder(world, policy),
        LawChecks(world, policy, own=True),
    )
    end = math.ceil(trace.duration_seconds)
    while world.now < end:
        running = {g.profile.name: counted(g) for g in world.groups}
        before = len(daemon.ports.steps)
        await daemon.tick()
        checks.after_tick([step for _, step in daemon.ports.steps[before:]], running)
        recorder.advance_to(min(end, world.now + daemon.pause_seconds()))
        _tell(progress, "fleetd", world.now / end)
    checks.losses()
    return recorder.outcome("fleetd", daemon.ports.steps, checks), recorder.sizes


def run_rival(
    name: str, trace: Trace, policy: Policy, make: Callable[[World], Rival], progress: Progress | None = None
) -> Outcome:
    """One rival: it looks at its own cadence; what it wants is carried out there, and further at each tick."""
    world = World(trace, policy)
    rival, recorder = make(world), Recorder(world, policy)
    steering, checks = Steering(world, policy), LawChecks(world, policy, own=False)
    end, tick = math.ceil(trace.duration_seconds), max(1, round(trace.tick_seconds))
    wanted, next_look, next_tick = dict(rival.wanted), 0, 0
    while world.now < end:
        if world.now == next_look:
            wanted = dict(rival.look())
            next_look += rival.every_seconds
        if world.now == next_tick:
            next_tick += tick
        running = {g.profile.name: counted(g) for g in world.groups}
        before = len(steering.steps)
        steering.towards(wanted)
        checks.after_tick([step for _, step in steering.steps[before:]], running)
        recorder.advance_to(min(end, next_look, next_tick))
        _tell(progress, name, world.now / end)
    checks.losses()
    return recorder.outcome(name, steering.steps, checks)


def run_oracle(trace: Trace, policy: Policy, progress: Progress | None = None) -> Outcome:
    """The cheapest of its margins that meets the objective; else the one with the fewest late jobs."""
    found: list[Outcome] = []

    def tell(name: str, share: float) -> None:
        _tell(progress, name, (len(found) + share) / len(ORACLE_MARGINS))

    for margin in ORACLE_MARGINS:
        make = partial(Oracle, policy=policy, margin=margin)
        found.append(run_rival("oracle", trace, policy, make, tell))
        if found[-1].score.meets_objective:
            _tell(progress, "oracle", 1.0)
            return found[-1]
    return min(found, key=lambda o: o.score.late_jobs)


def simulate(
    trace: Trace, configured: Policy | None, names: tuple[str, ...], progress: Progress | None = None
) -> Iterator[Outcome]:
    """The outcomes of these policies, one after the other."""
    policy = policy_of(trace, configured)
    own: tuple[Outcome, dict[str, array[int]]] | None = None
    if "fleetd" in names or "reactive" in names:
        own = run_fleetd(trace, policy, progress)
    for name in names:
        if name == "fleetd" and own is not None:
            yield own[0]
        elif name == "reactive" and own is not None:
            yield run_rival(name, trace, policy, partial(Reactive, policy=policy, sizes=own[1]), progress)
        elif name == "oracle":
            yield run_oracle(trace, policy, progress)
        elif name in RIVALS:
            yield run_rival(name, trace, policy, partial(RIVALS[name], policy=policy), progress)
        else:
            raise SimulationError(f"there is no policy {name}; there are: {', '.join(POLICIES)}")


def _tell(progress: Progress | None, name: str, share: float) -> None:
    if progress is not None:
        progress(name, share)
