"""Constraints: holds, pressure and OOM kills, which say on what terms a host may be used."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.constraints import constraints_of, remember_host
from fleetd.core.instances.host_memory import (
    HostMemory,
    PauseInForce,
    PeoplesOrders,
    SetInForce,
    Shortage,
    UnitMemory,
    Watch,
)
from fleetd.core.instances.host_tick import HostConstraints, HostTick
from fleetd.core.model.facts import CodeStamp, HostFacts, HostPressure
from fleetd.core.model.identity import InstanceKey, parse_tag
from fleetd.core.model.reasons.base import ClampCode, ClampReason
from fleetd.core.model.reasons.counts import (
    CodeChanged,
    CoresShort,
    HoldReason,
    LoadHigh,
    MemoryBelowReserve,
    MemoryStalled,
    MostQuietedByHand,
    OomHold,
    Paused,
)
from fleetd.core.model.reasons.units import PinKind
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import pinned
from tests.support.builders.readings import MIB, fleet, machine, sidekiq, snapshot, tick_of
from tests.support.world.ports import policy

NOW = 10_000.0
RULES = policy()
OLD, NEW = CodeStamp(digest="old", version="4.4.1"), CodeStamp(digest="new", version="4.5.0")


def host(*, memory: float = 0.0, cpu: float = 0.0, code: CodeStamp | None = None) -> HostFacts:
    pressure = HostPressure(memory_stalled_share=memory, cpu_waiting_share=cpu)
    return structs.replace(machine(RULES), pressure=pressure, code=code)


def look(facts: HostFacts, memory: HostMemory, *, at: float = NOW, count: int = 3, quieted: int = 0) -> HostTick:
    """`count` instances run, of which the first `quieted` are quiet."""
    units, beats = fleet(count)
    beats = tuple(
        structs.replace(b, quiet=(mark := parse_tag(b.tag)) is not None and mark.key <= quieted) for b in beats
    )
    shot = snapshot(RULES, now=at, redis=sidekiq(processes=beats), units=units, host=facts)
    return tick_of(RULES, shot, memory)


def terms(memory: HostMemory, facts: HostFacts, *, at: float = NOW) -> HostConstraints:
    return constraints_of(look(facts, memory, at=at), memory)


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        (host(memory=0.1), None),
        (host(memory=0.11), MemoryStalled(share=0.11, limit=0.1)),
        (host(cpu=0.8), None),
        (host(cpu=0.81), CoresShort(share=0.81, limit=0.8)),
    ],
)
def test_pressure_stops_growth(facts: HostFacts, refusal: ClampReason | None) -> None:
    assert terms(HostMemory(), facts).refusal == refusal
    assert refusal is None or refusal.code == ClampCode.HOST_PRESSURE


def test_growth_stops_for_half_an_hour_after_an_oom_kill() -> None:
    memory = HostMemory(shortage=Shortage(oom_seconds=NOW))
    refusal = terms(memory, host(), at=NOW + 1799.0).refusal
    assert refusal == OomHold(left_seconds=1.0)
    assert refusal.code == ClampCode.OOM_KILLED
    assert terms(memory, host(), at=NOW + 1800.0).refusal is None


@pytest.mark.parametrize(
    ("since", "shed_before", "sheds"),
    [(60.0, None, True), (59.0, None, False), (600.0, 120.0, True), (600.0, 119.0, False)],
)
def test_memory_pressure_sheds_after_a_minute_and_then_every_two_minutes(
    since: float, shed_before: float | None, sheds: bool
) -> None:
    shed = None if shed_before is None else NOW - shed_before
    memory = HostMemory(shortage=Shortage(pressed_since_seconds=NOW - since, shed_seconds=shed))
    why = MemoryStalled(share=0.5, limit=0.1)
    assert terms(memory, host(memory=0.5)).shed == (why if sheds else None)


def remembered(memory: HostMemory, facts: HostFacts, *, at: float = NOW) -> HostMemory:
    return remember_host(look(facts, memory, at=at), memory)


def test_the_time_since_memory_is_short_is_remembered() -> None:
    memory = remembered(HostMemory(), host(memory=0.5))
    memory = remembered(memory, host(memory=0.5), at=NOW + 30.0)
    assert memory.shortage.pressed_since_seconds == NOW
    eased = remembered(memory, host(memory=0.05), at=NOW + 35.0)
    assert eased.shortage.pressed_since_seconds is None


def holds(memory: HostMemory, facts: HostFacts | None = None, *, count: int = 3, quieted: int = 0) -> list[HoldReason]:
    tick = look(facts or host(), memory, count=count, quieted=quieted)
    return [h.reason for h in constraints_of(tick, memory).holds]


def test_the_first_code_seen_is_accepted_and_other_code_holds() -> None:
    memory = remembered(HostMemory(), host(code=OLD))
    assert holds(memory, host(code=OLD)) == []
    memory = remembered(memory, host(code=NEW))
    assert holds(memory, host(code=NEW)) == [CodeChanged(version="4.5.0")]
    back = remembered(memory, host(code=OLD))
    assert holds(back, host(code=OLD)) == []


def test_without_a_stamp_nothing_holds() -> None:
    memory = remembered(HostMemory(code="old", code_on_disk=NEW), host(code=None))
    assert holds(memory) == []


def test_the_hold_ends_once_everything_serves_with_the_new_code() -> None:
    def watches(*ran: str, served: bool = True) -> HostMemory:
        started = {InstanceKey(n): Watch(invocation_id="", served=served, code=c) for n, c in enumerate(ran, 1)}
        return HostMemory(code="old", units=UnitMemory(watches=started))

    assert remembered(watches("new", "new", "new"), host(code=NEW)).code == "new"
    assert remembered(watches("new", "old", "new"), host(code=NEW)).code == "old"
    assert remembered(watches("new", "new"), host(code=NEW)).code == "old"
    assert remembered(watches("new", "new", "new", served=False), host(code=NEW)).code == "old"


@pytest.mark.parametrize(("quieted", "held"), [(0, False), (1, False), (2, True), (3, True)])
def test_when_most_of_three_are_quieted_by_hand_the_rest_is_held(quieted: int, held: bool) -> None:
    memory = pinned(dict.fromkeys(range(1, quieted + 1), PinKind.QUIET))
    why = MostQuietedByHand(quieted_instances=quieted, present_instances=3)
    assert holds(memory, quieted=quieted) == ([why] if held else [])


def test_a_single_instance_quieted_by_hand_is_not_most_of_a_fleet() -> None:
    assert holds(pinned({1: PinKind.QUIET}), count=1, quieted=1) == []


def test_orders_hold_until_their_end() -> None:
    until = NOW + 1.0
    people = PeoplesOrders(
        pause=PauseInForce(until_seconds=until, note="migration"),
        sets={"default-first": SetInForce(instances=2, until_seconds=until)},
    )
    memory = HostMemory(people=people)
    [hold] = terms(memory, host()).holds
    assert (hold.reason, hold.until_seconds) == (Paused(note="migration"), until)
    assert terms(memory, host()).set_instances == {"default-first": 2}
    later = terms(memory, host(), at=until)
    assert (later.set_instances, later.holds) == ({}, ())


def test_a_pause_is_reported_before_an_upgrade() -> None:
    people = PeoplesOrders(pause=PauseInForce(until_seconds=NOW + 1.0))
    memory = HostMemory(code="old", code_on_disk=NEW, people=people)
    assert holds(memory, host(code=NEW)) == [Paused(note=None), CodeChanged(version="4.5.0")]


def refusal(**facts: object) -> ClampReason | None:
    return terms(HostMemory(), structs.replace(host(), **facts)).refusal


def test_little_memory_is_a_shortage_whatever_pressure_the_kernel_reports() -> None:
    reserve = RULES.memory.reserve_bytes
    assert refusal(memory_available_bytes=reserve) is None
    why = MemoryBelowReserve(available_bytes=reserve - MIB, reserve_bytes=reserve)
    assert refusal(memory_available_bytes=reserve - MIB, pressure=None) == why
    assert sentence(why).startswith("511 MiB of memory")
    little = structs.replace(host(), memory_available_bytes=reserve - MIB)
    assert remembered(HostMemory(), little).shortage.pressed_since_seconds == NOW


def test_without_psi_the_load_average_shows_that_cores_are_short() -> None:
    assert refusal(pressure=None, load_per_core=2.1) == LoadHigh(load_per_core=2.1, limit=2.0)
    assert refusal(pressure=None, load_per_core=2.0) is None
    assert refusal(pressure=None, load_per_core=None) is None
    assert refusal(load_per_core=9.0) is None, "the kernel's own word is better"
