"""What hangs is ended, one at a time, and only when that is known and safe."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.constraints import Hold, HostConstraints
from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import HostMemory, Watch
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import ClampCode
from fleetd.core.model.facts import SidekiqFacts, UnitFacts
from tests.support.builders.readings import process, seen, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy

NOW = 10_000.0
RULES = policy()
HELD = HostConstraints(holds=(Hold(kind="pause", code=ClampCode.PAUSED, sentence="paused"),))


def silent(*numbers: int | str) -> HostMemory:
    return HostMemory(
        watches={str(n): Watch(invocation_id="", silent_seconds=60.0, served=True) for n in numbers}
    )


def ended(
    memory: HostMemory,
    units: dict[int, UnitFacts],
    *,
    writable: bool | None = True,
    redis: bool = True,
    terms: HostConstraints | None = None,
    scheduler: UnitFacts | None = None,
) -> HostDecision:
    beats = (process(tag(6), pid=106),)
    reading: SidekiqFacts | None = sidekiq(processes=beats, writable=writable) if redis else None
    units = {6: unit(pid=106), **units}
    shot = snapshot(RULES, now=NOW, redis=reading, units=systemd(units, scheduler))
    decision = HostDecision(memory)
    end_stuck(shot, seen(RULES, shot, memory), terms or HostConstraints(), decision)
    return decision


def steps(decision: HostDecision) -> list[tuple[str, int | str]]:
    return [(s.verb, s.number) for s in decision.steps]


def test_one_of_two_is_ended_and_both_are_said() -> None:
    decision = ended(silent(1, 2), {1: unit(), 2: unit()})
    assert steps(decision) == [("stop", 1)]
    assert decision.memory.drains["1"].stop_sent_seconds == NOW
    said = [c.sentence for c in decision.clamps if c.code == ClampCode.UNRESPONSIVE]
    assert any("@2 has sent no heartbeat for 120 s" in s for s in said)


@pytest.mark.parametrize(
    "why_not",
    [{"writable": False}, {"writable": None}, {"redis": False}, {"terms": HELD}],
    ids=["read only", "not asked", "unknown", "held"],
)
def test_not_when_it_is_not_safe(why_not: dict[str, bool]) -> None:
    assert steps(ended(silent(1), {1: unit()}, **why_not)) == []  # type: ignore[arg-type]


def test_not_while_another_is_ending() -> None:
    assert steps(ended(silent(1), {1: unit(), 2: unit("deactivating", age=5.0)})) == []


def at_work(*numbers: int, pushed_back: bool = False) -> HostMemory:
    """Silent ones that were last heard to run a job each."""
    watches = {
        str(n): Watch(invocation_id="", silent_seconds=60.0, served=True, job_ids=(f"job-{n}",))
        for n in numbers
    }
    return HostMemory(watches=watches, pushed_back={"job-1": NOW - 3600.0} if pushed_back else {})


def test_the_jobs_of_one_that_hangs_start_over_and_are_remembered() -> None:
    decision = ended(at_work(1), {1: unit()})
    assert steps(decision) == [("stop", 1)]
    assert decision.memory.pushed_back == {"job-1": NOW}


def test_one_that_hangs_in_a_job_that_was_pushed_back_before_is_left_and_the_next_one_goes() -> None:
    decision = ended(at_work(1, pushed_back=True), {1: unit()})
    assert steps(decision) == []
    [sentence] = [c.sentence for c in decision.clamps if c.code == ClampCode.LONG_JOB]
    assert "`systemctl restart mastodon-sidekiq@1`" in sentence
    assert steps(ended(at_work(1, 2, pushed_back=True), {1: unit(), 2: unit()})) == [("stop", 2)]


def test_one_that_was_woken_by_its_stop_is_ending_all_the_same() -> None:
    drain = Drain(since_seconds=NOW - 5.0, stop_sent_seconds=NOW - 5.0)
    memory = structs.replace(silent(1), drains={"6": drain})
    units = {1: unit(), 6: unit("deactivating", pid=106)}
    assert steps(ended(memory, units)) == []


def unheard(seconds: float) -> HostMemory:
    return HostMemory(watches={"1": Watch(invocation_id="", silent_seconds=seconds)})


@pytest.mark.parametrize(("seconds", "stopped"), [(89.0, []), (90.0, [("stop", 1)])])
def test_one_that_came_to_no_heartbeat_is_ended_and_has_failed(
    seconds: float, stopped: list[tuple[str, int]]
) -> None:
    decision = ended(unheard(seconds), {1: unit()})
    assert steps(decision) == stopped
    assert len(decision.memory.failures) == len(stopped)
    said = [c.sentence for c in decision.clamps if c.code == ClampCode.UNRESPONSIVE]
    assert said == ["@1 is up, but has sent no heartbeat yet while others do: it is no capacity"]


@pytest.mark.parametrize("why_not", [{"writable": False}, {"writable": None}, {"terms": HELD}], ids=str)
def test_not_while_its_jobs_could_not_be_pushed_back(why_not: dict[str, bool]) -> None:
    assert steps(ended(unheard(900.0), {1: unit()}, **why_not)) == []  # type: ignore[arg-type]


def test_the_scheduler_is_started_afresh() -> None:
    decision = ended(silent("scheduler"), {}, scheduler=unit())
    assert steps(decision) == [("stop", "scheduler")]
    assert decision.memory.scheduler_handover


def boots(
    *, begun: float | None = 0.0, first: float | None = None, deaths: int = 0, sub: str = "start"
) -> tuple[HostMemory, dict[int, UnitFacts]]:
    """@1 boots since `begun` seconds, and came to no heartbeat in all boots since `first`; 40 s were learnt."""
    watch = Watch(
        invocation_id="",
        begun_seconds=None if begun is None else NOW - begun,
        first_boot_seconds=None if first is None else NOW - first,
        first_boot_restarts=7,
    )
    memory = HostMemory(boot_seconds={"default-first": 40.0}, watches={"1": watch})
    own = structs.replace(unit("activating", age=1.0), restarts=7 + deaths, sub_state=sub)
    return memory, {1: own}


@pytest.mark.parametrize(("age", "stopped"), [(160.0, []), (161.0, [("stop", 1)])])
def test_a_boot_of_more_than_four_times_what_was_learnt(age: float, stopped: list[tuple[str, int]]) -> None:
    decision = ended(*boots(begun=age))
    assert steps(decision) == stopped
    assert ("1" in decision.memory.failures) == bool(stopped)


@pytest.mark.parametrize(("first", "stopped"), [(160.0, []), (161.0, [("stop", 1)])])
def test_boots_that_take_so_long_together(first: float, stopped: list[tuple[str, int]]) -> None:
    assert steps(ended(*boots(begun=5.0, first=first, deaths=1))) == stopped
    assert steps(ended(*boots(begun=None, first=first, deaths=1, sub="auto-restart"))) == stopped


@pytest.mark.parametrize(
    ("deaths", "first", "stopped"),
    [(2, 70.0, []), (3, 60.0, []), (3, 61.0, [("stop", 1)])],
    ids=["too few", "systemd may still give up", "enough"],
)
def test_one_that_dies_before_its_first_heartbeat(
    deaths: int, first: float, stopped: list[tuple[str, int]]
) -> None:
    decision = ended(*boots(first=first, deaths=deaths))
    assert steps(decision) == stopped
    assert [f.why for f in decision.memory.failures.values()] == [
        "died 3 times in 61 s, never came to a heartbeat"
    ] * len(stopped)


def test_nothing_learnt_is_systemds_to_end() -> None:
    memory, units = boots(begun=9000.0, first=9000.0)
    assert steps(ended(structs.replace(memory, boot_seconds={}), units)) == []


def test_a_boot_that_is_being_stopped_is_not_stopped_again() -> None:
    memory, units = boots(begun=900.0)
    drain = Drain(since_seconds=NOW - 5.0, stop_sent_seconds=NOW - 5.0)
    assert steps(ended(structs.replace(memory, drains={"1": drain}), units)) == []


@pytest.mark.parametrize("why_not", [{"redis": False}, {"terms": HELD}], ids=["unknown", "held"])
def test_no_boot_is_ended_when_redis_is_unknown_or_all_is_held(why_not: dict[str, bool]) -> None:
    assert steps(ended(*boots(begun=900.0), **why_not)) == []  # type: ignore[arg-type]
