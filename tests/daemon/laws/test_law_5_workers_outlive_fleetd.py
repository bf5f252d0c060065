"""Law 5: workers outlive fleetd. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

import pytest

from tests.support.world.fleets import (
    QUICK,
    idle_fleet,
    in_mid_drain,
    workers,
)
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


def day(kill_at: int | None) -> Rig:
    """180 ticks with a surge, calm and a drain. fleetd is killed at one tick."""
    rig = Rig(World(policy(strict(numbers="1-4"), pace=QUICK), seed=3))
    rig.world.job_seconds = (4.0, 12.0)
    rig.world.enqueue("default", 300)
    for tick in range(180):
        if tick == kill_at:
            before = workers(rig.world)
            rig.kill_fleetd()
            rig.world.advance(0.0)
            assert workers(rig.world) == before
        rig.tick()
        rig.world.advance(5.0)
    return rig


@pytest.mark.parametrize("kill_at", [None, *range(1, 150, 6)])
def test_law_5_if_fleetd_is_killed_at_any_tick_the_outcome_is_the_same(kill_at: int | None) -> None:
    rig = day(kill_at)
    assert rig.serving() == 1
    assert [u.state for u in rig.world.units.values()].count("active") == 1
    assert rig.world.done == 300
    assert rig.world.lost == rig.world.pushed_back == 0
    assert rig.ticker.host_memory.people.pins == {}
    assert max(rig.ordered("start").count(n) for n in (1, 2, 3, 4)) <= 2


def test_law_5_if_fleetd_is_killed_in_mid_drain_the_drain_goes_on() -> None:
    rig, quieted = in_mid_drain()
    rig.kill_fleetd()
    rig.run(120.0)
    assert rig.ordered("stop") == [quieted]
    assert rig.ordered("quiet") == [quieted]
    assert rig.world.done == 10


def test_law_5_a_fleetd_without_memory_adopts_what_runs() -> None:
    rig, quieted = in_mid_drain()
    rig.store.content = None  # type: ignore[attr-defined]
    rig.kill_fleetd()
    before = workers(rig.world)
    rig.tick()
    assert workers(rig.world) == before
    assert rig.ticker.host_memory.people.pins == {}
    rig.world.advance(5.0)
    rig.run(120.0)
    assert rig.ordered("stop") == [quieted]
    assert rig.world.done == 10


def test_law_5_nonsense_in_the_memory_file_gives_an_empty_memory() -> None:
    for nonsense in (
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b'{"drains": 3}',
        b'{"people": {"pins": {"1": {"wants": "dance"}}}}',
    ):
        rig = idle_fleet(policy(), 1)
        rig.store.content = nonsense  # type: ignore[attr-defined]
        rig.kill_fleetd()
        assert rig.tick().host.steps == []


def test_law_5_a_full_disk_stops_nothing_and_is_reported_once() -> None:
    rig = Rig(World(policy(pace=QUICK)))
    rig.store.full = True  # type: ignore[attr-defined]
    rig.world.enqueue("default", 2000)
    ticks = rig.run(100.0)
    assert {t.unsaved.why for t in ticks if t.unsaved is not None} == {"/var/lib/fleetd: no space left on device"}
    assert None not in {t.unsaved for t in ticks}
    assert rig.serving() == 6
