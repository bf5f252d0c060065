"""Runs a policy through a trace, and several of them side by side."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Callable, Iterator
from functools import partial

from msgspec import structs

from fleetd.core.model.policy import Policy, SchedulerPolicy
from fleetd.errors import ConfigError, FleetdError
from fleetd.simulate.policies.rival import Rival
from fleetd.simulate.policies.rivals import RIVALS
from fleetd.simulate.policies.steering import Steering, counted
from fleetd.simulate.policies.yardsticks import ORACLE_MARGINS, Oracle, Reactive
from fleetd.simulate.scoring.laws import LawChecks
from fleetd.simulate.scoring.outcome import Outcome, Recorder
from fleetd.simulate.trace.checks import NO_PROFILES, misfits
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.daemon import SimulatedDaemon
from fleetd.simulate.world.readings import HOST
from fleetd.simulate.world.world import World

POLICIES = ("fleetd", *RIVALS, "reactive", "oracle")
Progress = Callable[[str, float], None]  # policy, share done


class SimulationError(FleetdError):
    """A simulation that can't be run, or broke a law."""


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
