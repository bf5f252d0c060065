"""The log over hours: a warning is said once, a minute has a budget, steps and orders are never left out."""

from __future__ import annotations

import random
import re
from collections import Counter, deque

from msgspec import structs

from fleetd.cli.advice.findings import findings
from fleetd.cli.advice.verdict import Finding, Level
from fleetd.core.instances.orders import Pause
from fleetd.core.model.facts import KeyFault
from fleetd.core.model.policy_tables import QUEUES_BY_IMPORTANCE, PacePolicy
from fleetd.daemon.standing import LINES_A_MINUTE, LINES_A_MINUTE_OF_READINGS, WARNINGS_MAX
from tests.support.world.ports import policy, strict
from tests.support.world.recorded import Recorded, busy_world
from tests.support.world.world import World

WRONG = "holds another type of value than Sidekiq writes"
SIXTY = [f"q{n}" for n in range(60)]


def minutes(rig: Recorded, kinds: tuple[str, ...] = ()) -> Counter[int]:
    """Lines of each minute that are neither steps nor orders; only of these kinds, if any are given."""
    kept = rig.history.read(0.0, samples=False).entries
    return Counter(
        int(e.at_seconds // 60) for e in kept if e.kind not in ("step", "order") and (not kinds or e.kind in kinds)
    )


def wait_in_fasp(rig: Recorded) -> None:
    rig.world.queues["fasp"] = deque()
    rig.world.enqueue("fasp", 7)


def sixty_wrong(rig: Recorded, hours: float, chance: random.Random) -> None:
    """Each tick another set of sixty queues of the profile is of the wrong type, in another order."""
    for _ in range(int(hours * 720)):
        wrong = chance.sample(SIXTY, chance.randint(40, 60))
        rig.world.unreadable = set(wrong)
        rig.world.faults = tuple(KeyFault(key=f"queue:{name}", why=WRONG) for name in wrong)
        rig.live(5.0)


def test_sixty_queues_of_the_wrong_type_are_said_once_and_push_nothing_out() -> None:
    rig = Recorded(World(policy(strict(queues=" ".join(("default", *SIXTY)), low=1))))
    rig.live(60.0)
    sixty_wrong(rig, 0.5, random.Random(3))
    rig.world.stop(1)
    rig.order(Pause(for_seconds=60.0, reason="a look"))
    sixty_wrong(rig, 0.5, random.Random(4))
    by_minute = minutes(rig)
    assert max(by_minute.values()) <= LINES_A_MINUTE + 1
    said = [line for line in rig.lines if line.startswith("Redis key queue:")]
    assert len(said) == len(set(said)) == WARNINGS_MAX
    more = [line for line in rig.lines if "more Redis keys can't be read" in line]
    assert len(more) == 1
    assert len([line for line in rig.lines if "more in the last minute" in line]) <= 3
    assert sum(by_minute.values()) < 150, "in an hour"
    assert any("was stopped by hand" in line for line in rig.lines)


def test_a_fault_that_flaps_is_said_once() -> None:
    rig = Recorded(busy_world())
    rig.live(600.0)
    before = len(rig.lines)
    for n in range(360):
        rig.world.unreadable = {"pull"} if n % 2 else set()
        rig.world.faults = (KeyFault(key="queue:pull", why=f"is {n} characters too long"),) if n % 2 else ()
        rig.live(5.0)
    assert len([line for line in rig.lines[before:] if "queue:pull" in line]) == 1
    unknown = [line for line in rig.lines[before:] if "pull can't be read" in line]
    assert len(unknown) <= 6


def test_a_source_that_flaps_is_said_at_once_and_then_less_and_less() -> None:
    rig = Recorded(busy_world())
    rig.live(300.0)
    for n in range(240):
        rig.world.postgres_up = n % 2 == 0
        rig.live(5.0)
    said = [line for line in rig.lines if line.startswith("postgres can")]
    assert said[:3] == [
        "postgres can't be read: Postgres at 127.0.0.1:5432 refuses connections",
        "postgres can be read again",
        "postgres can't be read: Postgres at 127.0.0.1:5432 refuses connections",
    ]
    assert len(said) <= 8
    rig.world.postgres_up = True
    rig.live(4 * 3600.0, every=60.0)
    assert [line for line in rig.lines if line.startswith("postgres can")][-1] == "postgres can be read again"


def test_a_fault_is_said_again_only_when_it_was_over() -> None:
    rig = Recorded(busy_world())
    lines = []
    for there in (True, True, False, True, False, False, True):
        rig.world.faults = (KeyFault(key="queue:odd", why=WRONG),) if there else ()
        before = len(rig.lines)
        rig.live(60.0)
        lines += [line for line in rig.lines[before:] if "queue:odd" in line]
    wrong = f"Redis key queue:odd: {WRONG}"
    assert lines == [wrong, "Redis key queue:odd can be read again, or is gone", wrong]


def test_steps_are_never_left_out() -> None:
    pace = PacePolicy(starts_per_tick=16, booting_max=64)
    rig = Recorded(World(policy(strict(numbers="1-60", low=0), pace=pace)))
    rig.world.max_connections = 5000
    rig.world.faults = tuple(KeyFault(key=f"k{n}", why=WRONG) for n in range(40))
    rig.world.enqueue("default", 90_000)
    rig.live(40.0)
    kept = rig.history.read(0.0, samples=False).entries
    steps = [e.sentence for e in kept if e.kind == "step"]
    assert len(steps) == len(rig.units.orders) == 60
    assert [line for line in rig.lines if line.startswith("start ")] == steps
    assert max(minutes(rig).values()) <= LINES_A_MINUTE


def test_a_queue_that_nobody_serves_is_said_once_and_shown_as_long_as_it_lasts() -> None:
    rig = Recorded(World(policy(strict(queues=" ".join(QUEUES_BY_IMPORTANCE[:2])))))
    wait_in_fasp(rig)
    rig.live(600.0)
    said = "no process serves fasp (7 jobs), and no profile here would: add it to a profile's queues"
    assert [line for line in rig.lines if "fasp" in line] == [said]
    status = rig.status(rig.tick())
    assert said in status.problems
    assert Finding(Level.BAD, f"{said}.") in findings(status)
    rig.world.appear("main", "fasp")
    rig.live(60.0)
    assert rig.lines[-1] == "queue fasp is served again, or empty"
    assert rig.status(rig.tick()).problems == ()


def test_while_a_heartbeat_is_unreadable_no_queue_is_called_unserved() -> None:
    rig = Recorded(World(policy(strict(queues="default"))))
    rig.world.appear("main", "other")
    rig.world.garbled = True
    wait_in_fasp(rig)
    rig.live(600.0)
    assert not [line for line in rig.lines if "no process serves" in line]
    assert rig.status(rig.tick()).problems == ()


def test_a_profile_that_serves_it_is_started_and_nothing_is_said() -> None:
    rules = policy(strict(queues="default"), strict("bulk", "7-8", queues="fasp", low=0))
    rig = Recorded(World(structs.replace(rules, targets_seconds={"fasp": None})))
    wait_in_fasp(rig)
    rig.live(600.0)
    assert not [line for line in rig.lines if "no process serves" in line]


def test_warnings_from_outside_the_ticks_have_no_budget_of_their_own() -> None:
    rig = Recorded(busy_world())
    rig.live(60.0)
    for n in range(300):
        rig.journalist.aside(f"systemd's job {n} ended as failed")
        if n % 20 == 0:
            rig.live(5.0)
    rig.live(60.0)
    said = [line for line in rig.lines if "ended as failed" in line]
    assert 0 < len(said) <= 3 * LINES_A_MINUTE_OF_READINGS
    left_out = [int(line.split()[1]) for line in rig.lines if "more in the last minute" in line]
    assert len(said) + sum(left_out) >= 300
    assert len(left_out) <= 3


def test_a_heartbeat_that_is_garbled_every_other_time_does_not_fill_the_log() -> None:
    rig = Recorded(busy_world())
    rig.world.appear("main", "default scheduler")
    rig.world.rates = {"default": 1.0}
    rig.live(300.0)
    before = len(rig.history.read(0.0, samples=False).entries)
    for n in range(540):
        rig.world.garbled = n % 2 == 0
        rig.live(5.0)
    kinds = Counter(e.kind for e in rig.history.read(0.0, samples=False).entries[before:])
    assert 0 < kinds["scheduler"] <= 20 + 5, "each tick it changes, 540 times in 45 minutes"
    assert 0 < kinds["reason"] <= 120 + 50
    rig.world.garbled = False
    rig.live(1300.0, every=10.0)
    last = [line for line in rig.lines if line.startswith("scheduler: ")][-1]
    assert re.fullmatch(r"scheduler: served by process \d+ on main, so none is started here", last), "it is true"


def test_that_the_latency_is_unknown_is_said_with_its_begin_and_its_end() -> None:
    rig = Recorded(busy_world())
    rig.live(300.0)
    before = len(rig.lines)
    rig.world.redis_up = False
    rig.live(300.0)
    unknown = [line for line in rig.lines[before:] if "queue latency is unknown: nothing stops" in line]
    assert len(unknown) == 1
    assert unknown[0].startswith("redis unreadable: holding. ")
    rig.world.redis_up = True
    before = len(rig.lines)
    rig.live(5.0)
    assert any("default-first" in line and "unreadable" not in line for line in rig.lines[before:])
