"""A scheduler whose own unit saw another host's and did not start: no failure, no death, nobody's order (laws 1, 6)."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.evidence.weigh import weigh
from fleetd.core.instances.deaths import remember_deaths
from fleetd.core.instances.host_memory import AbsenceMemory, HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.instances.manual_changes import remember_units
from fleetd.core.instances.scheduler import SchedulerDecision, decide_scheduler
from fleetd.core.model.facts import SKIPPED, EndCause, Ending, ProcessFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.scheduler import SchedulerElsewhere, SchedulerRefused, SchedulerSkipped
from fleetd.core.model.reasons.units import PinKind
from fleetd.words.reasons import sentence
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

OTHERS = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", pid=12)


def skipped(age: float, *, restarts: int = 0, ending: Ending | None = None) -> UnitFacts:
    return structs.replace(unit("inactive", age=age), result=SKIPPED, restarts=restarts, ending=ending)


class Host:
    """Ticks of one host, as far as its scheduler is concerned."""

    def __init__(self, place: str = "here") -> None:
        self.rules = policy(scheduler=SchedulerPolicy(place=place, takeover_seconds=300.0))  # type: ignore[arg-type]
        self.memory = HostMemory(boot_id="boot-1", since_seconds=0.0)
        self.noticed: list[Reason] = []

    def tick(self, at: float, own: UnitFacts | None = None, *beats: ProcessFacts) -> SchedulerDecision:
        redis = structs.replace(sidekiq(processes=beats), now_seconds=at)
        shot = snapshot(self.rules, now=at, redis=redis, units=systemd(scheduler=own))
        weighed = weigh(self.rules, shot, self.memory.evidence)
        shot, looked = weighed.snapshot, structs.replace(self.memory, evidence=weighed.memory)
        self.memory = looked
        self.memory, self.noticed = remember_units(HostTick(policy=self.rules, snapshot=shot), self.memory)
        self.memory, _ = remember_deaths(HostTick(policy=self.rules, snapshot=shot), self.memory, looked, [])
        tick = tick_of(self.rules, shot, self.memory, evidence=weighed.evidence)
        decision, self.memory = decide_scheduler(tick, self.memory, within_budget=True)
        if decision.start:
            self.memory = self.memory.with_start(SCHEDULER, at)
        self.memory = structs.replace(self.memory, ticked_seconds=at)
        return decision

    def due(self, at: float) -> None:
        """The next healthy look finds that no scheduler was seen for long enough."""
        absent = AbsenceMemory(at_seconds=at - 1.0, absent_seconds=1000.0, redis_run_id=sidekiq().redis_run_id)
        self.memory = structs.replace(self.memory, scheduler=absent)

    def pin(self) -> PinKind | None:
        pin = self.memory.people.pins.get(SCHEDULER)
        return None if pin is None else pin.wants


def test_our_start_that_was_refused_is_no_failure_and_is_not_repeated_each_tick() -> None:
    host = Host()
    host.tick(999.0)
    host.due(1000.0)
    assert host.tick(1000.0).start
    decision = host.tick(1001.0, skipped(0.5))
    assert not decision.start
    assert host.noticed == [SchedulerSkipped()]
    assert host.memory.units.failures == {}
    assert host.memory.starts == {}
    starts = [at for at in range(1002, 1042) if host.tick(float(at), skipped(at - 1000.5)).start]
    assert starts == [1021]
    assert host.noticed == []


def test_while_the_other_is_seen_it_is_named_and_nothing_is_tried() -> None:
    host = Host()
    host.tick(999.0)
    host.due(1000.0)
    assert host.tick(1000.0).start
    for at in range(1001, 1100):
        decision = host.tick(float(at), skipped(at - 1000.5), OTHERS)
        assert not decision.start
        assert isinstance(decision.state, SchedulerElsewhere)


def test_an_unseen_one_is_said_with_what_comes_next() -> None:
    host = Host(place="auto")
    host.tick(999.0)
    host.due(1000.0)
    host.tick(1000.0)
    state = host.tick(1004.0, skipped(3.5)).state
    assert state == SchedulerRefused(ago_seconds=3.5, left_seconds=300.0)
    assert sentence(state).startswith("its unit saw another host's 4 s ago and did not start: ")


def test_a_skip_from_before_our_order_says_nothing_of_it() -> None:
    host = Host()
    host.tick(999.0, skipped(500.0))
    host.due(1000.0)
    assert host.tick(1000.0, skipped(501.0)).start
    assert not host.tick(1001.0, skipped(502.0)).start
    assert host.memory.starts == {SCHEDULER: 1000.0}  # systemd may show it yet


def test_one_that_died_and_may_not_come_back_was_not_stopped_by_a_person() -> None:
    host = Host()
    killed = Ending(cause=EndCause.OOM)
    host.tick(1000.0, unit(age=500.0, pid=9))
    host.tick(1005.0, skipped(1.0, restarts=1, ending=killed), OTHERS)
    assert host.pin() is None
    assert host.noticed == [SchedulerSkipped()]
    assert host.memory.deaths.totals["scheduler"] == {EndCause.OOM: 1}  # that it died is said as ever
    host.tick(1010.0, skipped(6.0, restarts=1, ending=killed), OTHERS)
    assert host.memory.deaths.totals["scheduler"] == {EndCause.OOM: 1}


@pytest.mark.parametrize("seen_starting", [True, False])
@pytest.mark.parametrize("wants", [None, PinKind.RUN, PinKind.STOPPED])
def test_a_persons_start_that_was_refused_leaves_no_pin(wants: PinKind | None, seen_starting: bool) -> None:
    host = Host()
    host.tick(1000.0)
    if wants is not None:
        host.memory = host.memory.with_pins({SCHEDULER: Pin(wants=wants, since_seconds=500.0, until_seconds=9000.0)})
    if seen_starting:
        host.tick(1001.0, unit("activating", age=0.5), OTHERS)
    host.tick(1002.0, skipped(0.5), OTHERS)
    assert host.pin() is None
    assert host.memory.units.failures == {}


def test_an_order_given_with_fleetctl_stays() -> None:
    host = Host()
    host.tick(1000.0)
    kept = Pin(wants=PinKind.STOPPED, since_seconds=500.0, until_seconds=9000.0, by="fleetctl")
    host.memory = host.memory.with_pins({SCHEDULER: kept})
    host.tick(1002.0, skipped(0.5), OTHERS)
    assert host.pin() == PinKind.STOPPED


def test_a_unit_that_is_still_asking_is_not_stopped_as_a_surplus() -> None:
    host = Host()
    host.tick(1000.0, None, OTHERS)
    asks = structs.replace(unit("activating", age=0.5), sub_state="condition")
    assert host.tick(1001.0, asks, OTHERS).surplus is None
    boots = structs.replace(unit("activating", age=0.5), sub_state="start")
    assert host.tick(1002.0, boots, OTHERS).surplus is not None


def test_a_restart_by_hand_that_was_refused_is_no_stop() -> None:
    host = Host()
    host.tick(1000.0, unit(age=500.0, pid=9))
    host.tick(1001.0, unit("deactivating", age=0.5, job="restart"))
    host.tick(1002.0, skipped(0.5), OTHERS)
    assert host.pin() is None


def test_a_stop_by_hand_stays_one() -> None:
    host = Host()
    host.tick(1000.0, unit(age=500.0, pid=9))
    host.tick(1005.0, None)
    assert host.pin() == PinKind.STOPPED
