"""The fleet's decision: how many instances of each profile, and what connections that claims.

Law 3 lives here and in demand/desired.py: with systemd unknown there is no decision at all, because a count of what
runs that came from nowhere would read as zero. Law 2 lives in capacity/, law 8 in model/decision.py.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.capacity.admission import Limits, ScarcityMemory, admit
from fleetd.core.capacity.budget import BudgetMemory, ConnectionBudget, connection_budget
from fleetd.core.capacity.claims import Claims, count_claims, remember_processes
from fleetd.core.capacity.saturation import (
    Saturation,
    SaturationMemory,
    remember_saturation,
    saturation_of,
    stepped_back,
)
from fleetd.core.demand.desired import HoldWindow, running, want
from fleetd.core.demand.needed import Demand, DemandMemory, demand, remember
from fleetd.core.demand.reason import reasons
from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.lifecycle import InstanceView, present_or_pinned
from fleetd.core.model.decision import Clamp, ClampCode, Clamps, Plan, ProfilePlan
from fleetd.core.model.facts import Known, Snapshot, Value
from fleetd.core.model.policy import Policy

#: A plan is worth this many ticks; then nothing more is started on it.
PLAN_TICKS = 4


class FleetMemory(Value, frozen=True, kw_only=True):
    """What `plan` remembers between ticks; written to the ledger together with the plan."""

    epoch: int = 0
    demand: DemandMemory = DemandMemory()
    budget: BudgetMemory = BudgetMemory()
    windows: dict[str, HoldWindow] = {}
    scarcity: ScarcityMemory = ScarcityMemory()
    saturation: SaturationMemory = SaturationMemory()


class FleetDecision(Value, frozen=True, kw_only=True):
    """A plan with everything that led to it."""

    plan: Plan
    clamps: tuple[Clamp, ...]
    memory: FleetMemory
    demand: Demand | None
    budget: ConnectionBudget
    claims: Claims
    saturation: Saturation = Saturation()
    why: dict[str, str] = {}  # by profile: why so many, where that is not what runs

    @property
    def claims_connections(self) -> int:
        return self.claims.total_connections

    @property
    def within_budget(self) -> bool:
        """Whether all claims, the scheduler's set aside among them, fit the budget; unknown counts as yes."""
        return self.budget.carries(self.claims_connections)


def plan(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: FleetMemory,
    terms: HostConstraints = HostConstraints(),  # noqa: B008 (frozen)
) -> FleetDecision:
    """Decide for the fleet. `instances`: this host's, the scheduler's included; None: systemd is unknown."""
    now = snapshot.now_seconds
    instances = present_or_pinned(instances) if instances is not None else None
    demanded, demand_memory = _demand(policy, snapshot, instances, memory.demand, terms)
    means, budget_memory, bottleneck_memory = _means(policy, snapshot, instances, memory, terms)
    clamps = Clamps()
    windows, scarcity, growth = memory.windows, memory.scarcity, 0
    counts: dict[str, ProfilePlan] = {}
    why: dict[str, str] = {}
    if instances is None:
        clamps.say(ClampCode.SYSTEMD_UNKNOWN, "systemd can't be read: nothing starts or stops")
    else:
        wanted, windows = want(policy, instances, demanded, memory.windows, now, terms, clamps)
        granted = admit(policy, snapshot, instances, wanted, demanded, means, scarcity, clamps)
        scarcity = granted.scarcity
        if granted.stepped_back:
            bottleneck_memory = stepped_back(bottleneck_memory, means.saturation, now)
        current = running(policy, instances, terms)
        windows = _grown(windows, current, granted.counts, now)
        counts, growth = _counts(policy, current, demanded, wanted, granted.counts, granted.spare)
        why = reasons(
            policy, snapshot.sidekiq, instances, current, counts, demanded, demand_memory, terms, clamps
        )
    new_memory = FleetMemory(
        epoch=memory.epoch + 1,
        demand=demand_memory,
        budget=budget_memory,
        windows=windows,
        scarcity=scarcity,
        saturation=bottleneck_memory,
    )
    claimed = means.claims.total_connections + growth
    return FleetDecision(
        plan=_planned(policy, new_memory.epoch, now, counts, claimed),
        clamps=clamps.all(),
        memory=new_memory,
        demand=demanded,
        budget=means.budget,
        claims=means.claims,
        saturation=means.saturation,
        why=why,
    )


def _planned(
    policy: Policy, epoch: int, now_seconds: float, counts: dict[str, ProfilePlan], claims_connections: int
) -> Plan:
    return Plan(
        epoch=epoch,
        expires_at_seconds=now_seconds + PLAN_TICKS * policy.pace.tick_seconds,
        profiles={policy.host: counts},
        claims_connections=claims_connections,
        scheduler_host=None,
    )


def _demand(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: DemandMemory,
    terms: HostConstraints,
) -> tuple[Demand | None, DemandMemory]:
    if not isinstance(snapshot.sidekiq, Known):
        return None, memory
    mute = {v.profile for v in instances or () if v.lacks_heartbeat}
    queues = frozenset(q for p in policy.profiles if p.name in mute for q, _ in p.queues)
    memory = remember(policy, memory, snapshot.sidekiq.value, snapshot.now_seconds, queues)
    return demand(policy, snapshot.sidekiq.value, memory, instances, terms.boot_seconds), memory


def _means(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: FleetMemory,
    terms: HostConstraints,
) -> tuple[Limits, BudgetMemory, SaturationMemory]:
    """What there is to give, and its memories with this snapshot."""
    kept = memory.budget
    if isinstance(snapshot.sidekiq, Known):
        processes = remember_processes(kept.processes, snapshot.sidekiq.value)
        kept = structs.replace(kept, processes=processes)
    claims = count_claims(policy, snapshot, instances or (), kept.processes)
    budget, kept = connection_budget(policy, snapshot, claims, kept)
    limited = remember_saturation(memory.saturation, snapshot, instances)
    saturation = saturation_of(limited, snapshot, instances or ())
    return Limits(budget=budget, claims=claims, terms=terms, saturation=saturation), kept, limited


def _grown(
    windows: dict[str, HoldWindow], current: dict[str, int], granted: dict[str, int], now_seconds: float
) -> dict[str, HoldWindow]:
    return {
        name: structs.replace(window, grew_seconds=now_seconds) if granted[name] > current[name] else window
        for name, window in windows.items()
    }


def _counts(
    policy: Policy,
    current: dict[str, int],
    demanded: Demand | None,
    wanted: dict[str, int],
    granted: dict[str, int],
    spare: str,
) -> tuple[dict[str, ProfilePlan], int]:
    """The counts as planned, and the connections that what is still to be started will claim."""
    raw = demanded.needed_instances if demanded else current
    counts = {
        name: ProfilePlan(
            instances=n, needed_instances=raw[name], spare=name == spare, desired_instances=wanted[name]
        )
        for name, n in granted.items()
    }
    growth = sum(
        (max(0, granted[p.name] - current[p.name]) + (p.name == spare)) * p.claim_connections
        for p in policy.profiles
    )
    return counts, growth
