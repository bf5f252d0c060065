"""Fleets in the situations that the laws were written for."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy, PacePolicy, Policy, SchedulerPolicy
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence
from tests.support.world.ports import BY_HAND, Rig, policy, strict
from tests.support.world.world import World

HOUR = 3600.0
QUICK = structs.replace(BY_HAND, hold_down_seconds=30.0, drain_seconds_max=60.0)


def with_scheduler(place: str, *, takeover: float = 300.0, connections: ConnectionPolicy | None = None) -> Policy:
    return policy(
        strict(numbers="1-4"),
        scheduler=SchedulerPolicy(place=place, takeover_seconds=takeover, threads=5, db_pool=7),  # type: ignore[arg-type]
        connections=connections,
        pace=QUICK,
    )


def steps(ticks: list[TickResult]) -> list[tuple[str, InstanceKey]]:
    return [(s.verb, s.key) for t in ticks for s in t.host.steps]


def idle_fleet(rules: Policy, count: int) -> Rig:
    """`count` instances that serve and that fleetd has adopted, without any work."""
    world = World(rules)
    for number in range(1, count + 1):
        world.start(number)
    world.advance(60.0)
    return Rig(world)


def tight(budget: int, *, reserve: int = 10) -> tuple[int, int]:
    """A world whose max_connections and others' connections make this budget: limit − 3 − reserve − others."""
    return budget + 3 + reserve + 20, 20


def surge(rules: Policy, budget: int) -> Rig:
    rig = Rig(World(rules))
    rig.world.max_connections, rig.world.other_clients = tight(budget)
    rig.world.enqueue("default", 20_000)
    return rig


def busy_fleet(count: int, *, pace: PacePolicy = QUICK, seconds: float = 40.0) -> Rig:
    """Instances in the middle of long jobs, with nothing to do after them."""
    rig = idle_fleet(policy(strict(numbers="1-6"), pace=pace), count)
    rig.world.job_seconds = (seconds, seconds)
    rig.world.enqueue("default", count * 5)
    rig.world.advance(10.0)
    return rig


def workers(world: World) -> list[tuple[int, str, bool]]:
    return [(p.pid, p.name, p.quiet) for p in world.processes()]


def in_mid_drain() -> tuple[Rig, int]:
    """Two instances with jobs of a minute. The budget shrank, so one is quiet and still busy."""
    rig = busy_fleet(2, seconds=60.0, pace=PacePolicy())
    rig.world.max_connections, rig.world.other_clients = 50, 30
    rig.run(20.0)
    [quieted] = rig.ordered("quiet")
    assert rig.ordered("stop") == []
    assert rig.world.in_flight() == 10
    return rig, quieted


def settled(rules: Policy, count: int) -> Rig:
    """As `idle_fleet`, watched by fleetd until the host's boot is long past. It has learnt how long boots take."""
    rig = idle_fleet(rules, count)
    rig.run(250.0)
    rig.world.kill_worker(1)
    rig.run(60.0)
    return rig


def loaded(rules: Policy, count: int) -> Rig:
    """`count` instances that are all needed: about their planned share of threads is busy."""
    rig = settled(rules, count)
    rig.world.job_seconds = (2.0, 2.0)
    rig.world.rates = {"default": count * 5 * 0.8 / 2.0 - 0.6}
    rig.run(600.0)
    rig.units.orders.clear()
    return rig


def configured(rig: Rig, rules: Policy, *, rendered: bool = True) -> None:
    """Change and reload the configuration. `rendered`: fleetd-render has written the unit settings as well."""
    rig.world.policy = rig.ticker.policy = rules
    if rendered:
        rig.world.render(rules)


def states(result: TickResult) -> dict[int, str]:
    """The state of each instance, by name."""
    return {v.key: v.state.value for v in result.tick.instances or ()}


def said(result: TickResult) -> str:
    """All reasons of a tick's clamps, as sentences."""
    return "\n".join(sentence(c.reason) for c in (*result.fleet.clamps, *result.host.clamps))


def noticed(result: TickResult) -> str:
    """What was noticed in a tick, as sentences."""
    return "\n".join(sentence(reason) for reason in result.noticed)


def serving_true(world: World, profile: str = "") -> int:
    """How many instances truly serve in the world now."""
    owner = world.policy.profile_of
    return sum(
        1
        for n, u in world.units.items()
        if n != SCHEDULER and u.state == "active" and u.process is not None
        if not u.process.quiet and not u.process.hung
        if not profile or getattr(owner(u.key), "name", "") == profile
    )
