"""Runs policies through a trace: fleetd, rivals and yardsticks."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator, Sequence
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
from fleetd.simulate.trace.trace import NO_PROFILES, Trace, fit, profiles_of
from fleetd.simulate.world.daemon import daemons
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.world import HOST, World

POLICIES = ("fleetd", *RIVALS, "reactive", "oracle")
Progress = Callable[[str, float], None]  # policy, share done
MakeRival = Callable[[World], Rival]
Sizes: TypeAlias = "dict[str, array[int]]"  # instances of each profile by second


class Controller(Protocol):
    """What gives orders in a world: fleetd, or the scaler that carries out a rival."""

    @property
    def machine(self) -> Machine:
        """The host on which it gives them."""
        ...

    async def act(self) -> int:
        """Give the orders of this second; returns the second at which to act again."""
        ...


def policy_of(trace: Trace, configured: Policy | None) -> Policy:
    """The policy a trace runs under: its own profiles and targets before those configured. Raises ConfigError.

    Of a trace with hosts it is what all of them have in common (trace/hosts.py).
    """
    base = configured or Policy(host=HOST, profiles=(), targets_seconds={})
    problems: list[ConfigProblem] = []
    profiles = profiles_of(trace, problems) or base.profiles
    problems += fit(trace, profiles) if profiles else [NO_PROFILES]
    if problems:
        raise ConfigError(trace.name, problems)
    return structs.replace(
        base,
        host=HOST,
        mode="act",  # what is asked is what it would do
        profiles=profiles,
        targets_seconds={**base.targets_seconds, **targets_seconds(trace.targets)},
        scheduler=base.scheduler if trace.hosts else SchedulerPolicy(place="elsewhere"),
        connections=structs.replace(base.connections, limit=None, declared=()),
        pace=structs.replace(base.pace, tick_seconds=trace.tick_seconds),
    )


def run_fleetd(
    trace: Trace, policy: Policy, progress: Progress | None = None, name: str = "fleetd"
) -> tuple[Outcome, Sizes]:
    """fleetd itself; also its instances by second, which `reactive` needs."""
    world = World(trace, policy)
    return asyncio.run(_run(name, daemons(world), LawWatch(world, LAWS_FOR_FLEETD), progress))


def run_rival(name: str, trace: Trace, policy: Policy, make: MakeRival, progress: Progress | None = None) -> Outcome:
    """One rival, on a trace without hosts."""
    world = World(trace, policy)
    scaler = Scaler(world, make(world))
    return asyncio.run(_run(name, [scaler], LawWatch(world, LAWS_FOR_ALL), progress))[0]


async def _run(
    name: str, controllers: Sequence[Controller], watch: LawWatch, progress: Progress | None
) -> tuple[Outcome, Sizes]:
    world = watch.world
    recorder = Recorder(world)
    acts_at = [0] * len(controllers)
    while world.now < world.end:
        for index, controller in enumerate(controllers):
            if acts_at[index] <= world.now:
                watch.begin_tick(controller.machine)
                acts_at[index] = await controller.act()
                watch.end_tick()
        recorder.advance_to(min(acts_at))
        if progress is not None:
            progress(name, world.now / world.end)
    for controller in controllers:
        watch.begin_tick(controller.machine)
        watch.end_tick()  # jobs that were lost since the last tick
    return recorder.outcome(name, watch), recorder.sizes


def without_hosts(trace: Trace, names: tuple[str, ...]) -> list[ConfigProblem]:
    """The problem of these of the POLICIES with a trace of several hosts."""
    others = [name for name in names if name != "fleetd"]
    if not trace.hosts or not others:
        return []
    what = f"only fleetd runs on several hosts, not {', '.join(others)}"
    return [ConfigProblem("hosts", what, "Run it with --policy fleetd, or take [[hosts]] out of the trace.")]


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
    if problems := without_hosts(trace, names):
        raise ConfigError(trace.name, problems)
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
