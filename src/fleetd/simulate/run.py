"""Runs policies through a trace: fleetd, rivals and yardsticks."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeAlias

from msgspec import structs

from fleetd.core.model.policy_tables import Policy, SchedulerPolicy, targets_seconds
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.policies.rivals import RIVALS, Rival
from fleetd.simulate.policies.scaling import Scaler
from fleetd.simulate.policies.yardsticks import ORACLE_MARGINS, Oracle, Reactive
from fleetd.simulate.scoring.laws import LAWS_FOR_ALL, LAWS_FOR_FLEETD, LawWatch
from fleetd.simulate.scoring.outcome import Outcome, Recorder
from fleetd.simulate.trace.trace import NO_PROFILES, Trace, misfits, profiles_of
from fleetd.simulate.world.daemon import SimulatedDaemon
from fleetd.simulate.world.world import HOST, World

POLICIES = ("fleetd", *RIVALS, "reactive", "oracle")
Progress = Callable[[str, float], None]  # policy, share done
MakeRival = Callable[[World], Rival]
Sizes: TypeAlias = "dict[str, array[int]]"  # instances of each profile by second


class Controller(Protocol):
    """What gives orders in a world: fleetd, or the scaler that carries out a rival."""

    async def act(self) -> int:
        """Give the orders of this second; returns the second at which to act again."""
        ...


def policy_of(trace: Trace, configured: Policy | None) -> Policy:
    """The policy a trace runs under: its own profiles and targets before those configured. Raises ConfigError."""
    base = configured or Policy(host=HOST, profiles=(), targets_seconds={})
    problems: list[ConfigProblem] = []
    profiles = profiles_of(trace, problems) or base.profiles
    problems += misfits(trace.queues, trace.targets, profiles) if profiles else [NO_PROFILES]
    if problems:
        raise ConfigError(trace.name, problems)
    return structs.replace(
        base,
        host=HOST,
        mode="act",  # what is asked is what it would do
        profiles=profiles,
        targets_seconds={**base.targets_seconds, **targets_seconds(trace.targets)},
        scheduler=SchedulerPolicy(place="elsewhere"),
        connections=structs.replace(base.connections, limit=None, declared=()),
        pace=structs.replace(base.pace, tick_seconds=trace.tick_seconds),
    )


def run_fleetd(
    trace: Trace, policy: Policy, progress: Progress | None = None, name: str = "fleetd"
) -> tuple[Outcome, Sizes]:
    """fleetd itself; also its instances by second, which `reactive` needs."""
    world = World(trace, policy)
    return asyncio.run(_run(name, SimulatedDaemon(world), LawWatch(world, LAWS_FOR_FLEETD), progress))


def run_rival(name: str, trace: Trace, policy: Policy, make: MakeRival, progress: Progress | None = None) -> Outcome:
    """One rival."""
    world = World(trace, policy)
    scaler = Scaler(world, make(world))
    return asyncio.run(_run(name, scaler, LawWatch(world, LAWS_FOR_ALL), progress))[0]


async def _run(name: str, controller: Controller, watch: LawWatch, progress: Progress | None) -> tuple[Outcome, Sizes]:
    world = watch.world
    recorder = Recorder(world)
    while world.now < world.end:
        watch.begin_tick()
        acts_at = await controller.act()
        watch.end_tick()
        recorder.advance_to(acts_at)
        if progress is not None:
            progress(name, world.now / world.end)
    watch.begin_tick()
    watch.end_tick()  # jobs that were lost since the last tick
    return recorder.outcome(name, watch), recorder.sizes


def run_oracle(trace: Trace, policy: Policy, progress: Progress | None = None) -> Outcome:
    """The oracle with the smallest margin that meets the objective, else the one with the fewest late jobs."""
    found: list[Outcome] = []

    def tell(name: str, share: float) -> None:
        if progress is not None:
            progress(name, (len(found) + share) / len(ORACLE_MARGINS))

    for margin in ORACLE_MARGINS:
        outcome = run_rival("oracle", trace, policy, partial(Oracle, margin=margin), tell)
        if outcome.score.meets_objective:
            tell("oracle", float(len(ORACLE_MARGINS) - len(found)))
            return outcome
        found.append(outcome)
    return min(found, key=lambda outcome: outcome.score.late_jobs)


def simulate(
    trace: Trace, configured: Policy | None, names: tuple[str, ...], progress: Progress | None = None
) -> Iterator[Outcome]:
    """The outcomes of these of the POLICIES, one after the other. Raises ConfigError as `policy_of`."""
    policy = policy_of(trace, configured)
    fleetd: Outcome | None = None
    sizes: Sizes = {}
    for name in names:
        if name in ("fleetd", "reactive") and fleetd is None:
            fleetd, sizes = run_fleetd(trace, policy, progress)
        if name == "fleetd" and fleetd is not None:
            yield fleetd
        elif name == "oracle":
            yield run_oracle(trace, policy, progress)
        else:
            make = partial(Reactive, sizes=sizes) if name == "reactive" else RIVALS[name]
            yield run_rival(name, trace, policy, make, progress)
