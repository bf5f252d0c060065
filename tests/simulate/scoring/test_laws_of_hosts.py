"""Laws 1 and 2 over several hosts: each is broken on purpose in the simulated world."""

from __future__ import annotations

import pytest

from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.simulate.policies.scaling import ByRival
from fleetd.simulate.scoring.laws import LAWS_FOR_FLEETD, LawWatch
from tests.support.builders.traces import hosts_toml, queue_toml, small_trace, world_of

QUEUE = queue_toml("default", "[[0, 5]]")


def watch_at(second: int, body: str = QUEUE, **hosts: str) -> LawWatch:
    world = world_of(small_trace(hosts_toml(**hosts) + body))
    world.advance_to(second)
    return LawWatch(world, LAWS_FOR_FLEETD)


def tick(watch: LawWatch, host: int, verb: Verb | None = None, *keys: int) -> list[str]:
    """A tick of this host that gives these orders; the breaks that it added, without where and when."""
    before, machine = len(watch.breaks), watch.world.machines[host]
    watch.begin_tick(machine)
    for key in keys:
        step = Step(
            verb=verb or "start", key=InstanceKey(key), profile="local" if key != SCHEDULER else None, why=ByRival()
        )
        watch.world.carry_out(step, machine)
    watch.end_tick()
    return [sentence.partition(" s: ")[2] for sentence in watch.breaks[before:]]


def test_a_scheduler_beside_another_hosts_is_a_break_that_names_the_host() -> None:
    watch = watch_at(5, w1="", w2="")
    assert tick(watch, 1, "start", SCHEDULER) == ["w2: started a scheduler beside a live one"]
    assert watch.breaks[0].startswith("law 1, test seed 1 at 5 s: w2: ")


@pytest.mark.parametrize("outage", ["lost", "frozen", "cut_off"])
def test_one_on_a_host_that_is_away_enqueues_nothing(outage: str) -> None:
    watch = watch_at(50, w1=f"{outage} = [[20, 500]]", w2="")
    assert tick(watch, 1, "start", SCHEDULER) == []


def test_of_two_schedulers_one_ends_within_two_ticks() -> None:
    watch = watch_at(50, w1="frozen = [[20, 100]]", w2="")
    watch.world.start(SCHEDULER, watch.world.machines[1])
    watch.world.advance_to(110)
    assert [m.schedules for m in watch.world.machines] == [True, True]
    for _ in range(2):
        assert tick(watch, 0) == tick(watch, 1) == []
    assert [*tick(watch, 0), *tick(watch, 1)] == [
        "w2: two schedulers have run beside each other for more than 2 ticks"
    ], "told once, when the second of them has seen it for a third time"
    assert tick(watch, 0) == []
    watch.world.stop(SCHEDULER, watch.world.machines[0])
    assert tick(watch, 0) == tick(watch, 1) == []


def test_claims_are_those_of_all_hosts_and_of_lost_ones_that_are_still_open() -> None:
    # 76 − 10 have room for the scheduler's 12, and four instances of 12.
    scarce = queue_toml("default", "[[0, 90]]") + "[database]\nmax_connections = 76\n"
    watch = watch_at(5, scarce, w1="", w2="")
    assert tick(watch, 0, "start", 2) == []
    assert tick(watch, 1, "start", 2) == []
    assert tick(watch, 1, "start", 3) == ["w2: started with claims 6 above the budget"]
    watch = watch_at(50, scarce, w1="lost = [[20, 500]]", w2="")
    for number, broken in ((2, []), (3, []), (4, []), (5, ["w2: started with claims 4 above the budget"])):
        assert tick(watch, 1, "start", number) == broken, "10 of w1's instance are open; its scheduler had none"


def test_a_start_up_to_min_needs_nobodys_leave() -> None:
    scarce = QUEUE + "[database]\nmax_connections = 30\n"
    watch = watch_at(5, scarce, w1="", w2="initial_instances = 0")
    assert watch.world.claims_connections() > watch.world.budget_connections()
    assert tick(watch, 1, "start", 1) == []
    assert tick(watch, 1, "start", 2) == ["w2: started with claims 28 above the budget"]


def test_each_host_keeps_its_own_min() -> None:
    watch = watch_at(5, w1="initial_instances = 2", w2="initial_instances = 2")
    assert tick(watch, 0, "quiet", 1) == []
    assert tick(watch, 0, "quiet", 2) == ["w1: local was brought below min"]


def test_what_a_host_cannot_read_is_its_own() -> None:
    watch = watch_at(50, w1="initial_instances = 2", w2="initial_instances = 2\ncut_off = [[20, 500]]")
    assert tick(watch, 0, "quiet", 1) == []
    assert tick(watch, 1, "quiet", 1) == ["w2: something was stopped while latency is unknown"]
    assert tick(watch, 1, "start", 3) == ["w2: local grew above min while a reading is unknown"]


def test_nobody_can_know_of_what_is_not_open_on_a_host_that_is_silent_for_long() -> None:
    idle = queue_toml("default", "[]") + "[database]\nmax_connections = 46\n"  # 36: the scheduler's and two instances
    for second, broken in ((200, True), (400, False)):
        watch = watch_at(second, idle, w1="frozen = [[20, 500]]", w2="")
        assert bool(tick(watch, 1, "start", 2)) == broken
