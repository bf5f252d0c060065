"""A host in maintenance: what stays of its instances, and when its scheduler goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.demand.desired import desired_instances
from fleetd.core.fleet.orders import FleetOrder, written
from fleetd.core.fleet.state import Slot
from fleetd.core.fleet.view import FleetKnown, FleetView
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostTick
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.instances.scheduler import SchedulerDecision, belongs_here, decide_scheduler
from fleetd.core.model.decision import Clamps
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.counts import Paused, UnderMaintenance
from fleetd.core.model.reasons.fleet import SchedulerPlaced
from fleetd.core.model.reasons.scheduler import SchedulerHeld
from fleetd.core.model.reasons.units import PinKind, SchedulerMoves
from fleetd.core.plan import FleetMemory, plan
from tests.support.builders.decisions import ROOMY
from tests.support.builders.fleets import REPLY, fleet_view
from tests.support.builders.readings import (
    fleet,
    machine,
    process,
    sidekiq,
    snapshot,
    systemd,
    tag,
    tick_of,
    unit,
)
from tests.support.world.ports import policy, strict

REASON = UnderMaintenance(host="w1", note="new kernel")
LEAVES = HostConstraints(maintenance=Hold(reason=REASON))
HELD = HostConstraints(maintenance=Hold(reason=REASON), holds=(Hold(reason=Paused(note=None)),))
RULES = policy(strict(numbers="1-6", low=2), scheduler=SchedulerPolicy(place="auto"))


def at(
    running: int, view: FleetView, constraints: HostConstraints = LEAVES, *, by_hand: int = 0, redis: bool = True
) -> HostTick:
    units, beats = fleet(running)
    known = sidekiq(processes=beats) if redis else None
    shot = snapshot(RULES, redis=known, units=units, host=machine(RULES), postgres=ROOMY)
    pins = {
        InstanceKey(n): Pin(wants=PinKind.RUN, since_seconds=0.0, until_seconds=1e9, by="hand")
        for n in range(1, by_hand + 1)
    }
    memory = HostMemory().with_pins(pins)
    return structs.replace(tick_of(RULES, shot, memory, constraints), fleet=view)


def admitted(tick: HostTick) -> int:
    return plan(tick, FleetMemory()).plan.profiles[tick.policy.host]["default-first"].admitted_instances


@given(
    running=st.integers(0, 6),
    planned=st.none() | st.integers(0, 6),
    by_hand=st.integers(0, 6),
    alone=st.booleans(),
    forced=st.booleans(),
    held=st.booleans(),
)
def test_nothing_starts_and_what_people_started_stays(
    running: int, planned: int | None, by_hand: int, alone: bool, forced: bool, held: bool
) -> None:
    desired = None if planned is None else {"default-first": planned}
    view = fleet_view(alone=alone, desired=desired)
    constraints = structs.replace(HELD if held else LEAVES, last_may_go=forced)
    count = admitted(at(running, view, constraints, by_hand=min(by_hand, running)))
    assert min(by_hand, running) <= count <= running
    if held or (planned is None and not (alone and forced)) or (alone and not forced):
        assert count == running, "without a plan, or paused, nothing ends"
    elif not alone:
        assert count == min(running, max(planned or 0, min(by_hand, running)))
    else:
        assert count == min(by_hand, running)


def test_while_redis_is_unknown_nothing_ends() -> None:
    tick = at(3, fleet_view(desired={"default-first": 0}))
    clamps = Clamps()
    desired, _ = desired_instances(tick, None, {}, clamps)
    assert desired == {"default-first": 3}
    assert isinstance(tick.starts_held, Hold)


def view_of(slot: Slot, *, named: str | None, told: str = "there", other: str = "") -> FleetView:
    """`named`: whom the leader names for the scheduler; `other`: the host that is in maintenance."""
    order = written(FleetOrder(until_ms=REPLY.clock_ms + 3_600_000))
    known = FleetKnown(orders={f"maintenance {other}": order} if other else {})
    found = fleet_view(slot=slot, told=told, desired={"default-first": 0})  # type: ignore[arg-type]
    return structs.replace(found, scheduler_host=named, known=known)


def decided(
    view: FleetView, running: int = 0, own: UnitFacts | None = None, constraints: HostConstraints = LEAVES
) -> SchedulerDecision:
    units, beats = fleet(running)
    scheduler = process(tag(SCHEDULER), pid=9, queues="scheduler")
    redis = sidekiq(processes=(*beats, scheduler) if own is not None else beats)
    shot = snapshot(
        RULES,
        redis=redis,
        units=systemd({int(key): found for key, found in units.units.items()}, scheduler=own),
        host=machine(RULES),
    )
    tick = structs.replace(tick_of(RULES, shot, HostMemory(), constraints), fleet=view)
    return decide_scheduler(tick, HostMemory(), within_budget=True)[0]


def runs() -> UnitFacts:
    return structs.replace(unit(), main_pid=9)


OURS = Slot(holder="w1")


def test_the_scheduler_goes_once_the_instances_are_gone_and_another_host_may_run_it() -> None:
    named = view_of(OURS, named="w2")
    assert decided(named, 1, runs()).surplus is None, "instances first"
    assert decided(view_of(OURS, named=None), 0, runs()).surplus is None, "no other host may run it"
    assert decided(view_of(OURS, named="w1"), 0, runs()).surplus is None
    assert decided(view_of(Slot(), named="w2"), 0, runs()).surplus is None, "the slot is not ours to give"
    assert decided(named, 0, runs(), HELD).surplus is None, "paused"
    assert decided(named, 0, runs(), HostConstraints()).surplus is None, "no maintenance"
    assert decided(named, 0, runs()).surplus == SchedulerMoves(host="w2")


def test_it_is_not_started_again_in_maintenance() -> None:
    long_ago = Slot(holder="w1", unit="gone", sighted_ms=0)
    decision = decided(view_of(long_ago, named="w2", told="gone"))
    assert not decision.start
    assert decision.state == SchedulerPlaced(host="w2", leader="w2"), "nobody need end the maintenance for it"
    nobody = decided(view_of(long_ago, named=None, told="gone"))
    assert not nobody.start
    assert isinstance(nobody.state, SchedulerHeld)


@pytest.mark.parametrize(
    ("slot", "named", "other", "expected"),
    [
        (Slot(holder="w2", unit="gone"), "w1", "w2", True),
        (Slot(holder="w2", unit="there"), "w1", "w2", False),
        (Slot(holder="w2", unit="kept"), "w1", "w2", False),
        (Slot(holder="w2", unit="gone"), "w3", "w2", False),
        (Slot(holder="w2", unit="gone"), "w1", "w3", False),
        (Slot(holder="w1", unit="gone"), "w1", "w1", False),
        (Slot(), "w1", "", False),
    ],
)
def test_who_takes_it_over_from_a_host_in_maintenance_need_not_wait_as_for_a_lost_one(
    slot: Slot, named: str, other: str, expected: bool
) -> None:
    tick = at(0, view_of(slot, named=named, other=other), HostConstraints())
    assert tick.policy.host == "w1"
    assert belongs_here(tick) is expected
