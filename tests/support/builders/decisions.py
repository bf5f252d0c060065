"""Plans and decisions for tests: one strict profile of @1 to @6, 5 threads, 7 connections each, min 1."""

from __future__ import annotations

from fleetd.core.capacity.budget import BudgetMemory
from fleetd.core.capacity.naming import NamingMemory
from fleetd.core.demand.desired import HoldWindow
from fleetd.core.demand.needed import DemandMemory
from fleetd.core.instances.host_memory import HostMemory, PeoplesOrders
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.model.decision import Plan, ProfilePlan
from fleetd.core.model.facts import (
    DatabaseFacts,
    SidekiqFacts,
    SystemdFacts,
)
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.units import PinKind
from fleetd.core.plan import FleetDecision, FleetMemory, plan
from tests.support.builders.readings import (
    MIB,
    database,
    fleet,
    machine,
    queue,
    sidekiq,
    snapshot,
    tick_of,
)

NOW = 10_000.0


CALM = ("push", "ingress", "mailers", "pull", "fasp")


NAMED = FleetMemory(budget=BudgetMemory(naming=NamingMemory(seen=True)))


ROOMY = database(maximum=1000, clients=1)


def decide(
    rules: Policy,
    *,
    running: int = 1,
    busy: int = 0,
    postgres: DatabaseFacts | None = ROOMY,
    redis: SidekiqFacts | None = None,
    units: SystemdFacts | None = None,
    memory: FleetMemory | None = None,
    hosts: HostMemory | None = None,
    no_redis: bool = False,
    available: int = 64 * 1024 * MIB,
) -> FleetDecision:
    """`running` instances that started long ago, with `busy` threads on the queue default in total.

    Without a `memory`, that names are seen on connections is known already.
    """
    found, beats = fleet(running)
    units = units or found
    redis = redis or sidekiq(queue("default", busy=busy), *(queue(q) for q in CALM), processes=beats)
    shot = snapshot(
        rules,
        now=NOW,
        redis=None if no_redis else redis,
        postgres=postgres,
        units=units,
        host=machine(rules, available=available),
    )
    return plan(tick_of(rules, shot, hosts), memory or NAMED)


def watched(highest: int, *, since: float = NOW - 1000.0, at: float = NOW - 5.0) -> FleetMemory:
    """A hold window that has watched for long enough and saw `highest` recently."""
    window = HoldWindow(since_seconds=since, entries=((at, highest),))
    demand = DemandMemory(at_seconds=NOW - 5.0)
    return FleetMemory(demand=demand, windows={"default-first": window})


def pinned(wants: dict[int, PinKind]) -> HostMemory:
    pins = {
        InstanceKey(key): Pin(wants=want, since_seconds=NOW - 60.0, until_seconds=NOW + 60.0)
        for key, want in wants.items()
    }
    return HostMemory(people=PeoplesOrders(pins=pins))


def planned(count: int, *, expires: float = NOW + 20.0) -> Plan:
    profile = ProfilePlan(needed_instances=count, desired_instances=count, admitted_instances=count)
    return Plan(
        epoch=1,
        expires_at_seconds=expires,
        profiles={"w1": {"default-first": profile}},
        claims_connections=0,
    )
