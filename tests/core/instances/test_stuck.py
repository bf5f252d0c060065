"""Hung instances are ended, one at a time, and only if it is certain that they hang and safe to end them."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.host_memory import Failure, HostMemory, UnitMemory, Watch
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostDecision
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import Verb
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.base import ClampCode, Reason
from fleetd.core.model.reasons.counts import Paused
from fleetd.core.model.reasons.units import (
    BootTooLong,
    DiedTooOften,
    EndedAsFailed,
    HangsInPushedBackJob,
    MoreThanAdmitted,
    NeverHeardOf,
    NoHeartbeatYet,
    Silent,
    Unresponsive,
)
from fleetd.words.reasons import sentence
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

NOW = 10_000.0
RULES = policy()
HELD = HostConstraints(holds=(Hold(reason=Paused(note=None)),))
ONE, TWO, SIX = (InstanceKey(n) for n in (1, 2, 6))
STOPPING = Drain(since_seconds=NOW - 5.0, stop_sent_seconds=NOW - 5.0, cause=MoreThanAdmitted(profile="default-first"))


def watching(watches: dict[InstanceKey, Watch]) -> HostMemory:
    return HostMemory(units=UnitMemory(watches=watches))


def silent(*keys: InstanceKey) -> HostMemory:
    return watching({key: Watch(invocation_id="", silent_seconds=60.0, served=True) for key in keys})


def ended(
    memory: HostMemory,
    units: dict[int, UnitFacts],
    *,
    writable: bool | None = True,
    redis: bool = True,
    terms: HostConstraints | None = None,
    scheduler: UnitFacts | None = None,
) -> HostDecision:
    """One call of `end_stuck`. @6 beats, so that the silence of others means something."""
    reading = sidekiq(processes=(process(tag(SIX), pid=106),), writable=writable) if redis else None
    units = {SIX: unit(pid=106), **units}
    shot = snapshot(RULES, now=NOW, redis=reading, units=systemd(units, scheduler))
    decision = HostDecision(memory)
    end_stuck(tick_of(RULES, shot, memory, terms), decision)
    return decision


def steps(decision: HostDecision) -> list[tuple[Verb, InstanceKey]]:
    return [(s.verb, s.key) for s in decision.steps]


def said(decision: HostDecision, code: ClampCode) -> list[Reason]:
    return [c.reason for c in decision.clamps if c.code == code]


def test_one_of_two_hung_instances_is_ended_and_the_other_is_reported() -> None:
    decision = ended(silent(ONE, TWO), {1: unit(), 2: unit()})
    assert steps(decision) == [("stop", ONE)]
    assert decision.memory.drains == {ONE: Drain(since_seconds=NOW, stop_sent_seconds=NOW, cause=Unresponsive())}
    other = Silent(key=TWO, silent_seconds=120.0)
    assert other in said(decision, ClampCode.UNRESPONSIVE)
    assert sentence(other) == "@2 has sent no heartbeat for 120 s while others do"


@pytest.mark.parametrize(
    "why_not",
    [{"writable": False}, {"writable": None}, {"redis": False}, {"terms": HELD}],
    ids=["read only", "not asked", "unknown", "held"],
)
def test_no_instance_is_ended_while_that_is_not_safe(why_not: dict[str, bool]) -> None:
    assert steps(ended(silent(ONE), {1: unit()}, **why_not)) == []  # type: ignore[arg-type]


def test_no_instance_is_ended_while_another_is_ending() -> None:
    assert steps(ended(silent(ONE), {1: unit(), 2: unit("deactivating", age=5.0)})) == []


def at_work(*keys: InstanceKey, pushed_back: bool = False) -> HostMemory:
    """Silent instances, each of which was running a job when last heard of."""
    watches = {key: Watch(invocation_id="", silent_seconds=60.0, served=True, job_ids=(f"job-{key}",)) for key in keys}
    return structs.replace(watching(watches), pushed_back={"job-1": NOW - 3600.0} if pushed_back else {})


def test_the_jobs_of_a_hung_instance_start_over_and_are_remembered() -> None:
    decision = ended(at_work(ONE), {1: unit()})
    assert steps(decision) == [("stop", ONE)]
    assert decision.memory.pushed_back == {"job-1": NOW}


def test_an_instance_hung_in_a_job_pushed_back_before_is_left_and_the_next_ends() -> None:
    decision = ended(at_work(ONE, pushed_back=True), {1: unit()})
    assert steps(decision) == []
    left = HangsInPushedBackJob(key=ONE, drain_seconds_max=600.0)
    assert said(decision, ClampCode.LONG_JOB) == [left]
    assert "`fleetctl drain 1` ends it within 10 min, and what it runs then starts over once more" in sentence(left)
    assert steps(ended(at_work(ONE, TWO, pushed_back=True), {1: unit(), 2: unit()})) == [("stop", TWO)]


def test_an_instance_that_its_stop_woke_up_still_counts_as_ending() -> None:
    memory = structs.replace(silent(ONE), drains={SIX: STOPPING})
    units = {1: unit(), 6: unit("deactivating", pid=106)}
    assert steps(ended(memory, units)) == []


def unheard(seconds: float) -> HostMemory:
    return watching({ONE: Watch(invocation_id="", silent_seconds=seconds)})


@pytest.mark.parametrize(("seconds", "stops"), [(89.0, False), (90.0, True)])
def test_an_instance_that_never_sent_a_heartbeat_is_ended_and_has_failed(seconds: float, stops: bool) -> None:
    decision = ended(unheard(seconds), {1: unit()})
    assert steps(decision) == ([("stop", ONE)] if stops else [])
    cause = NeverHeardOf(up_seconds=120.0)
    failure = Failure(count=1, last_seconds=NOW, cause=cause, ended=True)
    assert decision.memory.units.failures == ({ONE: failure} if stops else {})
    unheard_of = NoHeartbeatYet(key=ONE)
    assert said(decision, ClampCode.UNRESPONSIVE) == [unheard_of]
    assert sentence(unheard_of) == (
        "@1 is up, but has sent no heartbeat yet while others do: it does not count as capacity"
    )


@pytest.mark.parametrize("why_not", [{"writable": False}, {"writable": None}, {"terms": HELD}], ids=str)
def test_no_instance_is_ended_while_its_jobs_could_not_be_pushed_back(why_not: dict[str, bool]) -> None:
    assert steps(ended(unheard(900.0), {1: unit()}, **why_not)) == []  # type: ignore[arg-type]


def test_a_hung_scheduler_is_stopped_to_be_started_again() -> None:
    decision = ended(silent(SCHEDULER), {}, scheduler=unit())
    assert steps(decision) == [("stop", SCHEDULER)]
    assert decision.memory.scheduler_handover


def boots(
    *, begun: float | None = 0.0, first: float | None = None, deaths: int = 0, sub: str = "start"
) -> tuple[HostMemory, dict[int, UnitFacts]]:
    """@1 has been booting for `begun` seconds, and without a heartbeat for `first`. Boots usually take 40 s."""
    watch = Watch(
        invocation_id="",
        begun_seconds=None if begun is None else NOW - begun,
        first_boot_seconds=None if first is None else NOW - first,
        first_boot_restarts=7,
    )
    memory = structs.replace(watching({ONE: watch}), boot_seconds={"default-first": 40.0})
    own = structs.replace(unit("activating", age=1.0), restarts=7 + deaths, sub_state=sub)
    return memory, {1: own}


@pytest.mark.parametrize(("age", "stops"), [(160.0, False), (161.0, True)])
def test_a_boot_that_takes_over_four_times_the_usual_is_ended(age: float, stops: bool) -> None:
    decision = ended(*boots(begun=age))
    assert steps(decision) == ([("stop", ONE)] if stops else [])
    causes = [f.cause for f in decision.memory.units.failures.values()]
    assert causes == ([BootTooLong(seconds=161.0)] if stops else [])


@pytest.mark.parametrize(("first", "stops"), [(160.0, False), (161.0, True)])
def test_boots_that_together_take_over_four_times_the_usual_are_ended(first: float, stops: bool) -> None:
    expected = [("stop", ONE)] if stops else []
    assert steps(ended(*boots(begun=5.0, first=first, deaths=1))) == expected
    assert steps(ended(*boots(begun=None, first=first, deaths=1, sub="auto-restart"))) == expected


@pytest.mark.parametrize(
    ("deaths", "first", "stops"),
    [(2, 70.0, False), (3, 60.0, False), (3, 61.0, True)],
    ids=["too few", "systemd may still give up", "enough"],
)
def test_an_instance_that_keeps_dying_before_its_first_heartbeat_is_ended(
    deaths: int, first: float, stops: bool
) -> None:
    decision = ended(*boots(first=first, deaths=deaths))
    cause = DiedTooOften(deaths=3, seconds=61.0)
    assert sentence(cause) == "died 3 times in 61 s, never came to a heartbeat"
    assert [(s.verb, s.key, s.why) for s in decision.steps] == (
        [("stop", ONE, EndedAsFailed(cause=cause))] if stops else []
    )
    causes = [f.cause for f in decision.memory.units.failures.values()]
    assert causes == ([cause] if stops else [])


def test_a_boot_whose_usual_time_is_unknown_is_left_to_systemd() -> None:
    memory, units = boots(begun=9000.0, first=9000.0)
    assert steps(ended(structs.replace(memory, boot_seconds={}), units)) == []


def test_a_boot_that_is_being_stopped_is_not_stopped_again() -> None:
    memory, units = boots(begun=900.0)
    assert steps(ended(structs.replace(memory, drains={ONE: STOPPING}), units)) == []


@pytest.mark.parametrize("why_not", [{"redis": False}, {"terms": HELD}], ids=["unknown", "held"])
def test_no_boot_is_ended_when_redis_is_unknown_or_all_is_held(why_not: dict[str, bool]) -> None:
    assert steps(ended(*boots(begun=900.0), **why_not)) == []  # type: ignore[arg-type]
