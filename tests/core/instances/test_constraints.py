"""Holds, pressure, OOM kills: on what terms a host may be used."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.constraints import HostConstraints, constraints_of, holds_of, remember_host
from fleetd.core.instances.host_memory import HostMemory, Pause, SetCount, Watch
from fleetd.core.instances.lifecycle import InstanceView, Pin
from fleetd.core.model.decision import ClampCode
from fleetd.core.model.facts import CodeStamp, HostFacts, HostPressure, Snapshot
from tests.support.builders.readings import fleet, machine, seen, sidekiq, snapshot
from tests.support.world.ports import policy

NOW = 10_000.0
RULES = policy()
OLD, NEW = CodeStamp(digest="old", version="4.4.1"), CodeStamp(digest="new", version="4.5.0")


def host(*, memory: float = 0.0, cpu: float = 0.0, code: CodeStamp | None = None) -> HostFacts:
    pressure = HostPressure(memory_stalled_share=memory, cpu_waiting_share=cpu)
    return structs.replace(machine(RULES), pressure=pressure, code=code)


def look(
    facts: HostFacts, *, at: float = NOW, count: int = 3, pins: HostMemory | None = None
) -> tuple[Snapshot, tuple[InstanceView, ...]]:
    units, beats = fleet(count)
    shot = snapshot(RULES, now=at, redis=sidekiq(processes=beats), units=units, host=facts)
    return shot, seen(RULES, shot, pins)


def terms(memory: HostMemory, facts: HostFacts, *, at: float = NOW) -> HostConstraints:
    shot, views = look(facts, at=at)
    return constraints_of(RULES, shot, views, memory, spare_for="", doubled="", away="", due="")


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (host(memory=0.1), None),
        (host(memory=0.11), ClampCode.HOST_PRESSURE),
        (host(cpu=0.8), None),
        (host(cpu=0.81), ClampCode.HOST_PRESSURE),
    ],
)
def test_pressure_refuses_growth(facts: HostFacts, code: ClampCode | None) -> None:
    refusal = terms(HostMemory(), facts).refusal
    assert (refusal[0] if refusal else None) == code


def test_half_an_hour_after_an_oom_kill() -> None:
    memory = HostMemory(oom_seconds=NOW)
    refusal = terms(memory, host(), at=NOW + 1799.0).refusal
    assert refusal is not None
    assert refusal[0] == ClampCode.OOM_KILLED
    assert "for 1 s" in refusal[1]
    assert terms(memory, host(), at=NOW + 1800.0).refusal is None


@pytest.mark.parametrize(
    ("since", "shed_before", "shed"),
    [(60.0, None, True), (59.0, None, False), (600.0, 120.0, True), (600.0, 119.0, False)],
)
def test_memory_pressure_sheds_after_a_minute_and_every_two(
    since: float, shed_before: float | None, shed: bool
) -> None:
    memory = HostMemory(
        pressed_since_seconds=NOW - since, shed_seconds=None if shed_before is None else NOW - shed_before
    )
    assert bool(terms(memory, host(memory=0.5)).shed) == shed


def remembered(memory: HostMemory, facts: HostFacts, *, at: float = NOW) -> HostMemory:
    shot, views = look(facts, at=at)
    return remember_host(RULES, shot, views, memory)


def test_since_when_memory_is_short() -> None:
    memory = remembered(HostMemory(), host(memory=0.5))
    memory = remembered(memory, host(memory=0.5), at=NOW + 30.0)
    assert memory.pressed_since_seconds == NOW
    assert remembered(memory, host(memory=0.05), at=NOW + 35.0).pressed_since_seconds is None


def kinds(memory: HostMemory, facts: HostFacts | None = None, *, pins: HostMemory | None = None) -> list[str]:
    shot, views = look(facts or host(), pins=pins)
    return [h.kind for h in holds_of(shot, views, memory)]


def test_code_that_is_first_seen_is_accepted_and_another_holds() -> None:
    memory = remembered(HostMemory(), host(code=OLD))
    assert kinds(memory, host(code=OLD)) == []
    memory = remembered(memory, host(code=NEW))
    assert kinds(memory, host(code=NEW)) == ["upgrade"]
    back = remembered(memory, host(code=OLD))
    assert kinds(back, host(code=OLD)) == []


def test_where_nothing_is_stamped_nothing_holds() -> None:
    memory = remembered(HostMemory(code="old", code_on_disk=NEW), host(code=None))
    assert kinds(memory) == []


def test_the_hold_ends_when_everything_was_started_with_the_new_code_and_serves() -> None:
    def watches(*ran: str, served: bool = True) -> HostMemory:
        started = {str(n): Watch(invocation_id="", served=served, code=c) for n, c in enumerate(ran, 1)}
        return HostMemory(code="old", watches=started)

    assert remembered(watches("new", "new", "new"), host(code=NEW)).code == "new"
    assert remembered(watches("new", "old", "new"), host(code=NEW)).code == "old"
    assert remembered(watches("new", "new"), host(code=NEW)).code == "old"
    assert remembered(watches("new", "new", "new", served=False), host(code=NEW)).code == "old"


@pytest.mark.parametrize(("quieted", "held"), [(0, []), (1, []), (2, ["quieted"]), (3, ["quieted"])])
def test_most_of_three_quieted_by_hand(quieted: int, held: list[str]) -> None:
    pin = Pin(wants="quiet", since_seconds=NOW - 10.0, until_seconds=NOW + 100.0)
    memory = HostMemory(pins={str(n): pin for n in range(1, quieted + 1)})
    units, beats = fleet(3)
    quiet = tuple(structs.replace(b, quiet=int(b.tag.split(":")[2]) <= quieted) for b in beats)
    shot = snapshot(RULES, now=NOW, redis=sidekiq(processes=quiet), units=units)
    assert [h.kind for h in holds_of(shot, seen(RULES, shot, memory), memory)] == held


def test_the_only_one_quieted_by_hand_is_not_most_of_a_fleet() -> None:
    memory = HostMemory(pins={"1": Pin(wants="quiet", since_seconds=0.0, until_seconds=NOW + 100.0)})
    units, [beat] = fleet(1)
    shot = snapshot(
        RULES, now=NOW, redis=sidekiq(processes=(structs.replace(beat, quiet=True),)), units=units
    )
    assert holds_of(shot, seen(RULES, shot, memory), memory) == ()


def test_orders_hold_until_their_end() -> None:
    memory = HostMemory(
        pause=Pause(until_seconds=NOW + 1.0, reason="migration"),
        sets={"default-first": SetCount(instances=2, until_seconds=NOW + 1.0)},
    )
    assert kinds(memory) == ["pause"]
    assert terms(memory, host()).sets == {"default-first": 2}
    later = terms(memory, host(), at=NOW + 1.0)
    assert (later.sets, later.holds) == ({}, ())


def test_a_pause_is_told_before_an_upgrade() -> None:
    memory = HostMemory(code="old", code_on_disk=NEW, pause=Pause(until_seconds=NOW + 1.0))
    assert kinds(memory, host(code=NEW)) == ["pause", "upgrade"]


MIB = 2**20


def short_of(**facts: object) -> str:
    refusal = terms(HostMemory(), structs.replace(host(), **facts)).refusal
    return refusal[1] if refusal is not None else ""


def test_little_memory_is_short_of_it_whatever_the_kernel_calls_pressure() -> None:
    reserve = RULES.memory.reserve_bytes
    assert short_of(memory_available_bytes=reserve) == ""
    little = structs.replace(host(), memory_available_bytes=reserve - MIB)
    assert short_of(memory_available_bytes=reserve - MIB, pressure=None).startswith("511 MiB of memory")
    assert remembered(HostMemory(), little).pressed_since_seconds == NOW


def test_without_psi_the_load_average_says_that_cores_are_short() -> None:
    assert "2.1 a core" in short_of(pressure=None, load_per_core=2.1)
    assert short_of(pressure=None, load_per_core=2.0) == ""
    assert short_of(pressure=None, load_per_core=None) == ""
    assert short_of(load_per_core=9.0) == "", "the kernel's own word is better"
