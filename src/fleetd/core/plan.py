"""The fleet's decision: how many instances each profile gets, and how many connections they claim.

Law 3 is kept here and in demand/desired.py: while systemd is unknown nothing is decided, because an unknown number of
running instances would look like zero. Law 2 is kept in capacity/, law 8 in model/decision.py.
"""

from __future__ import annotations

from collections import Counter

from msgspec import structs

from fleetd.core.capacity.admission import Admitted, Limits, ScarcityMemory, admit
from fleetd.core.capacity.budget import BudgetMemory, ConnectionBudget, connection_budget
from fleetd.core.capacity.claims import Claims, count_claims, remember_processes, running_names
from fleetd.core.capacity.naming import nameless, names_missing, remember_naming
from fleetd.core.capacity.overdrawn import Full, overdrawn
from fleetd.core.capacity.saturation import Saturation, SaturationMemory, assess_saturation, stepped_back
from fleetd.core.demand.cause import wanted
from fleetd.core.demand.desired import HoldWindow, desired_instances
from fleetd.core.demand.fold import fold
from fleetd.core.demand.needed import DemandMemory, Needed, of_read_queues
from fleetd.core.demand.unserved import UnservedMemory, unserved
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.left_over import orphans
from fleetd.core.model.decision import Clamp, Clamps, Plan, ProfilePlan
from fleetd.core.model.facts import Value
from fleetd.core.model.reasons.counts import (
    QueuesUnserved,
    SystemdUnknown,
    Wanted,
)
from fleetd.core.model.reasons.evidence import NamesMissing

#: A plan expires after this many ticks; then nothing more is started on it.
PLAN_TICKS = 4


class FleetMemory(Value, frozen=True, kw_only=True):
    """What `plan` remembers between ticks."""

    epoch: int = 0
    demand: DemandMemory = DemandMemory()
    budget: BudgetMemory = BudgetMemory()
    windows: dict[str, HoldWindow] = {}
    scarcity: ScarcityMemory = ScarcityMemory()
    saturation: SaturationMemory = SaturationMemory()
    unserved: UnservedMemory = UnservedMemory()


class FleetDecision(Value, frozen=True, kw_only=True):
    """A plan, with everything that led to it."""

    plan: Plan
    clamps: tuple[Clamp, ...]
    memory: FleetMemory
    needed: Needed | None  # None: Redis is unknown
    budget: ConnectionBudget
    claims: Claims
    saturation: Saturation = Saturation()
    full: tuple[Full, ...] = ()  # also among the clamps
    wanted: dict[str, Wanted] = {}  # by profile: why the admitted count, where it differs from what runs
    names_missing: NamesMissing | None = None  # None: workers' connections bear their names, or need not
    unserved: QueuesUnserved | None = None  # None: every queue is served, or that is unknown

    @property
    def claims_connections(self) -> int:
        return self.claims.total_connections

    @property
    def within_budget(self) -> bool:
        """Whether all claims fit the budget, the scheduler's reserved claim included. Unread sources count as yes."""
        return self.budget.carries(self.claims_connections)


def plan(tick: HostTick, memory: FleetMemory) -> FleetDecision:
    """Decide for this host: by what its queues need if it is alone, else by its part of the leader's plan."""
    named = tick.policy.connections.named
    needed, memory = _needed(tick, memory)
    limits, memory = _limits(tick, memory)
    clamps = Clamps()
    counts: dict[str, ProfilePlan] = {}
    why: dict[str, Wanted] = {}
    admitted = None
    if tick.instances is None:
        clamps.add(SystemdUnknown())
    else:
        desired, windows = desired_instances(tick, needed, memory.windows, clamps)
        admitted = admit(tick, desired, needed, limits, memory.scarcity, clamps)
        memory = _remembered(tick, memory, windows, admitted, limits.saturation)
        counts = _counts(tick, needed, desired, admitted)
        why = wanted(tick, counts, needed, tuple(clamps))
        counts |= _of_removed(tick, admitted.gives_back)
    full = overdrawn(tick, admitted, limits)
    for reason in full:
        clamps.add(reason)
    memory = structs.replace(memory, epoch=memory.epoch + 1)
    return FleetDecision(
        plan=Plan(
            epoch=memory.epoch,
            expires_at_seconds=tick.now_seconds + PLAN_TICKS * tick.policy.pace.tick_seconds,
            profiles={tick.policy.host: counts},
            claims_connections=limits.claims.total_connections + _growth(tick, counts),
        ),
        clamps=tuple(clamps),
        memory=memory,
        needed=needed,
        budget=limits.budget,
        claims=limits.claims,
        saturation=limits.saturation,
        full=full,
        wanted=why,
        unserved=unserved(memory.unserved, tick.sidekiq) if tick.sidekiq is not None else None,
        names_missing=names_missing(memory.budget.naming, tick.now_seconds) if named else None,
    )


def _needed(tick: HostTick, memory: FleetMemory) -> tuple[Needed | None, FleetMemory]:
    needed, demand, unserved_memory = fold(tick, memory.demand, memory.unserved)
    if tick.sidekiq is not None and tick.fleet.follows(tick.policy.host):
        demand = of_read_queues(demand, tick.sidekiq)
    return needed, structs.replace(memory, demand=demand, unserved=unserved_memory)


def _limits(tick: HostTick, memory: FleetMemory) -> tuple[Limits, FleetMemory]:
    """The limits on growth, and the memory with this snapshot."""
    kept = memory.budget
    if tick.sidekiq is not None:
        kept = structs.replace(
            kept, processes=remember_processes(kept.processes, tick.sidekiq, tick.policy.host, tick.evidence)
        )
    claims = count_claims(tick, kept.processes)
    if tick.policy.connections.named:
        naming = remember_naming(kept.naming, tick.snapshot, tick.sidekiq, tick.policy.host)
        kept = structs.replace(kept, naming=naming)
        claims = structs.replace(claims, nameless=nameless(naming, running_names(tick, kept.processes)))
    budget, kept = connection_budget(tick.policy, tick.snapshot, claims, kept)
    saturation, saturation_memory = assess_saturation(tick, memory.saturation)
    limits = Limits(budget=budget, claims=claims, saturation=saturation)
    return limits, structs.replace(memory, budget=kept, saturation=saturation_memory)


def _remembered(
    tick: HostTick, memory: FleetMemory, windows: dict[str, HoldWindow], admitted: Admitted, saturation: Saturation
) -> FleetMemory:
    now, running = tick.now_seconds, tick.running
    if admitted.stepped_back:
        memory = structs.replace(memory, saturation=stepped_back(memory.saturation, saturation, now))
    windows = {
        name: structs.replace(window, grew_seconds=now) if admitted.counts[name] > running[name] else window
        for name, window in windows.items()
    }
    return structs.replace(memory, windows=windows, scarcity=admitted.scarcity)


def _counts(
    tick: HostTick, needed: Needed | None, desired: dict[str, int], admitted: Admitted
) -> dict[str, ProfilePlan]:
    raw = needed.instances if needed else tick.running
    raw = {**raw, **{name: share.needed_instances for name, share in (tick.fleet.shares or {}).items()}}
    return {
        name: ProfilePlan(
            needed_instances=raw[name],
            desired_instances=desired[name],
            admitted_instances=count,
            spare=name == admitted.spare,
        )
        for name, count in admitted.counts.items()
    }


def _of_removed(tick: HostTick, gives_back: dict[str, int]) -> dict[str, ProfilePlan]:
    """The counts of removed profiles that give instances back to the budget."""
    there = Counter(v.profile for v in orphans(tick))
    return {
        name: ProfilePlan(
            needed_instances=there[name], desired_instances=there[name], admitted_instances=there[name] - count
        )
        for name, count in gives_back.items()
    }


def _growth(tick: HostTick, counts: dict[str, ProfilePlan]) -> int:
    """Connections that the instances still to be started will claim, a spare included."""
    return sum(
        (max(0, counts[p.name].admitted_instances - tick.running[p.name]) + counts[p.name].spare) * p.claim_connections
        for p in tick.policy.profiles
        if p.name in counts
    )
