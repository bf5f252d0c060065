"""Law 1, in examples: one scheduler in the whole fleet."""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec import structs

from fleetd.core.evidence.weigh import weigh
from fleetd.core.instances.host_memory import AbsenceMemory, Failure, HostMemory, PeoplesOrders, UnitMemory
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.instances.scheduler import GHOST_SECONDS, SchedulerDecision, decide_scheduler
from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import PacePolicy, Policy, SchedulerPolicy
from fleetd.core.model.reasons.scheduler import (
    SchedulerHeld,
    SchedulerKeptStopped,
    SchedulerNeverHere,
    SchedulerOverBudget,
    SchedulerQuiet,
    SchedulerUnreadable,
)
from fleetd.core.model.reasons.units import PinKind, SchedulerSurplus, ServingProcess, StartFailed, SystemdResult
from fleetd.words.reasons import sentence
from tests.support.builders.readings import machine, process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

STOCK = process("", queues="default scheduler", hostname="main", started=900.0)


def rules(place: str = "auto", **pace: float) -> Policy:
    return policy(
        scheduler=SchedulerPolicy(place=place, takeover_seconds=300.0),  # type: ignore[arg-type]
        pace=PacePolicy(**pace),  # type: ignore[arg-type]
    )


def ours(**changes: object) -> ProcessFacts:
    """The heartbeat of this host's unit, if that has pid 9."""
    return process(tag(SCHEDULER), queues="scheduler", pid=9, **changes)  # type: ignore[arg-type]


class Watch:
    """One host's decisions over several readings."""

    def __init__(self, policy_: Policy) -> None:
        self.policy = policy_
        self.memory = HostMemory()

    def look(
        self,
        at: float,
        *beats: ProcessFacts,
        own_unit: UnitFacts | None = None,
        redis: SidekiqFacts | None = None,
        away: bool = False,
        systemd_known: bool = True,
        budget: bool = True,
    ) -> SchedulerDecision:
        shot = snapshot(
            self.policy,
            now=at,
            redis=None if away else structs.replace(redis or sidekiq(processes=beats), now_seconds=at),
            units=systemd(scheduler=own_unit) if systemd_known else None,
        )
        weighed = weigh(self.policy, shot, self.memory.evidence)
        self.memory = structs.replace(self.memory, evidence=weighed.memory)
        tick = tick_of(self.policy, weighed.snapshot, self.memory, evidence=weighed.evidence)
        decision, self.memory = decide_scheduler(tick, self.memory, within_budget=budget)
        return decision

    def ends_ours(self, *beats: ProcessFacts, own_unit: UnitFacts) -> bool:
        """Whether the first look ends our scheduler."""
        return self.look(0.0, *beats, own_unit=own_unit).surplus is not None

    def absent(self, begin: float, end: float) -> SchedulerDecision:
        """Healthy looks every 5 s that find no scheduler."""
        decision = self.look(begin)
        at = begin
        while at < end:
            at = min(end, at + 5.0)
            decision = self.look(at)
        return decision


def test_takeover_waits_for_its_time_of_healthy_readings() -> None:
    watch = Watch(rules())
    assert not watch.absent(0.0, 299.0).start
    assert watch.look(300.0).start


def test_the_named_host_starts_after_two_beats() -> None:
    watch = Watch(rules("here"))
    assert not watch.absent(0.0, 19.0).start
    assert watch.look(20.0).start


def test_a_scheduler_that_belongs_elsewhere_is_never_started_here() -> None:
    watch = Watch(rules("elsewhere"))
    assert not watch.absent(0.0, 5000.0).start
    state = watch.look(5005.0).state
    assert state == SchedulerNeverHere()
    assert sentence(state) == "NONE RUNS; this host is configured never to start it"


def test_a_restarting_stock_unit_resets_the_count() -> None:
    watch = Watch(rules())
    watch.absent(0.0, 295.0)
    assert not watch.look(300.0, STOCK).start
    assert not watch.absent(305.0, 600.0).start
    assert watch.look(605.0).start


@pytest.mark.parametrize(
    "doubt",
    [
        {"away": True},
        {"redis": sidekiq(complete=False)},
        {"redis": sidekiq(run_id="run-2")},
    ],
    ids=["outage", "unreadable heartbeat", "another Redis"],
)
def test_doubt_resets_the_count(doubt: dict[str, object]) -> None:
    watch = Watch(rules())
    watch.absent(0.0, 295.0)
    assert not watch.look(300.0, **doubt).start  # type: ignore[arg-type]
    assert not watch.absent(305.0, 600.0).start
    assert watch.absent(605.0, 610.0).start


def test_time_in_which_fleetd_was_frozen_does_not_count() -> None:
    watch = Watch(rules())
    watch.look(0.0)
    assert not watch.look(4000.0).start
    assert watch.absent(4005.0, 4300.0).start


def test_ticks_configured_far_apart_are_no_freeze() -> None:
    watch = Watch(rules("auto", tick_seconds=60.0))
    for at in range(0, 300, 60):
        assert not watch.look(float(at)).start
    assert watch.look(300.0).start


def test_an_old_heartbeat_of_ours_counts_as_live_while_our_unit_is_down() -> None:
    # A cloned host would have our name and tag as well. So we wait for a minute.
    watch = Watch(rules("here"))
    for at in range(0, 60, 5):
        assert not watch.look(float(at), ours()).start
    assert watch.absent(60.0, 80.0).start


def test_ours_beside_a_stock_unit_is_ended() -> None:
    decision = Watch(rules("here")).look(0.0, STOCK, ours(), own_unit=unit(pid=9))
    assert decision.surplus == SchedulerSurplus(host="main", process=ServingProcess(host="main", pid=0))
    assert decision.state == decision.surplus
    assert decision.live_processes == 2
    assert decision.hosts == ("main", "w1")


def test_of_two_fleetd_schedulers_the_younger_yields() -> None:
    other = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", started=100.0)
    older, younger = ours(started=200.0), ours(started=50.0)
    assert not Watch(rules()).ends_ours(other, older, own_unit=unit(pid=9))
    assert Watch(rules()).ends_ours(other, younger, own_unit=unit(pid=9))


def test_of_twins_exactly_one_yields() -> None:
    here = ours(started=100.0)
    there = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", pid=9, started=100.0)
    on_w1 = Watch(rules()).ends_ours(there, here, own_unit=unit(pid=9))
    on_w2 = Watch(structs.replace(rules(), host="w2")).ends_ours(here, there, own_unit=unit(pid=9))
    assert on_w1 != on_w2


def test_ours_without_a_heartbeat_yet_yields() -> None:
    assert Watch(rules()).ends_ours(STOCK, own_unit=unit("activating", age=3.0))


def test_the_old_heartbeat_after_our_own_restart_is_no_rival() -> None:
    ghost = ours(started=700.0)
    alive = process(tag(SCHEDULER), queues="scheduler", pid=10, started=8.0)
    assert not Watch(rules()).ends_ours(ghost, alive, own_unit=unit(age=10.0, pid=10))


def test_a_cloned_hosts_scheduler_is_a_rival() -> None:
    clone = process(tag(SCHEDULER), queues="scheduler", pid=77, hostname="w1", started=800.0)
    alive = process(tag(SCHEDULER), queues="scheduler", pid=10, started=GHOST_SECONDS + 5.0)
    own_unit = unit(age=GHOST_SECONDS + 1.0, pid=10)
    assert Watch(rules()).ends_ours(clone, alive, own_unit=own_unit)


def test_nothing_is_ended_while_redis_is_unknown() -> None:
    decision = Watch(rules()).look(0.0, away=True, own_unit=unit())
    assert decision == SchedulerDecision(state=SchedulerUnreadable(what="redis"))


def test_no_scheduler_is_started_over_the_budget() -> None:
    watch = Watch(rules("here"))
    watch.absent(0.0, 30.0)
    decision = watch.look(35.0, budget=False)
    assert not decision.start
    assert decision.state == SchedulerOverBudget()
    assert "no connections for it" in sentence(decision.state)
    assert watch.look(40.0).start


def test_an_outage_of_systemd_decides_nothing_and_resets_the_count() -> None:
    watch = Watch(rules("here"))
    watch.absent(0.0, 15.0)
    decision = watch.look(20.0, systemd_known=False)
    assert decision == SchedulerDecision(state=SchedulerUnreadable(what="systemd"))
    assert watch.memory.scheduler == AbsenceMemory(redis_run_id="run-1")


def test_a_heartbeat_that_never_expires_does_not_end_the_real_scheduler() -> None:
    """A day old, without an expiry: it counts as live for 90 s, ends nothing, and is then known to be a ghost."""
    watch, since = Watch(rules("here")), 0.0
    running = unit(pid=9)
    for at in range(0, 200, 5):
        ghost = process("", queues="scheduler", hostname="old-main", beat=86_400.0 + at)
        decision = watch.look(float(at), ghost, ours(beat=at % 10), own_unit=running)
        assert decision.surplus is None
        since = since if decision.live_processes == 2 else since or float(at)
    assert since == 90.0
    assert (decision.live_processes, decision.hosts) == (1, ("w1",))


def test_a_ghost_is_no_reason_to_start_none() -> None:
    watch = Watch(rules("here"))
    for at in range(0, 200, 5):
        ghost = process("", queues="scheduler", hostname="old-main", beat=86_400.0 + at)
        if watch.look(float(at), ghost).start:
            break
    assert at == 110, "90 s until it is a ghost, then two beats without any scheduler"


@pytest.mark.parametrize("writable", [False, None], ids=["Redis refuses writes", "no proof of writes"])
def test_absence_counts_only_while_others_could_write(writable: bool | None) -> None:
    watch = Watch(rules())
    watch.absent(0.0, 290.0)
    for at in range(295, 2000, 5):
        assert not watch.look(float(at), redis=sidekiq(writable=writable)).start
    assert watch.absent(2000.0, 2015.0).start


def test_a_scheduler_that_is_quiet_is_none() -> None:
    watch = Watch(rules())
    quiet = process("", queues="default scheduler", hostname="main", quiet=True)
    for at in range(0, 300, 5):
        assert not watch.look(float(at), structs.replace(quiet, beat_age_seconds=float(at % 10))).start
    assert watch.look(300.0, quiet).start


def test_our_own_quiet_scheduler_is_reported_and_not_counted() -> None:
    decision = Watch(rules("here")).look(0.0, ours(quiet=True), own_unit=unit(pid=9))
    assert decision.state == SchedulerQuiet(host="w1")
    assert (decision.live_processes, decision.start, decision.surplus) == (0, False, None)


def test_our_own_quiet_scheduler_beside_another_one_is_not_counted() -> None:
    decision = Watch(rules("here")).look(0.0, ours(quiet=True), STOCK, own_unit=unit(pid=9))
    assert (decision.live_processes, decision.hosts) == (1, ("main",))


def test_our_own_unit_without_its_tag_is_no_stranger() -> None:
    bare = process("", queues="scheduler", pid=9, started=5005.0)
    decision = Watch(rules("here")).look(0.0, bare, own_unit=unit(pid=9))
    assert (decision.surplus, decision.live_processes) == (None, 1)
    stranger = structs.replace(bare, hostname="w2", identity="w2:9:")
    assert Watch(rules("here")).ends_ours(stranger, own_unit=unit(pid=9))


def test_both_hosts_find_the_same_older_scheduler_whatever_they_take_its_clock_to_be() -> None:
    """Each host corrects the other's clock by its own estimate; by the corrected ages both could stay, or both go."""
    own, own_unit = ours(started=100.0), unit(pid=9)
    rival = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", pid=3, started=101.0)
    for estimate in (-5.0, 5.0):
        corrected = structs.replace(rival, started_age_seconds=101.0 + estimate, clock_ahead_seconds=estimate)
        tick = tick_of(
            rules(), snapshot(rules(), redis=sidekiq(processes=(own, corrected)), units=systemd(scheduler=own_unit))
        )
        decision, _ = decide_scheduler(tick, HostMemory(), within_budget=True)
        assert decision.surplus is not None


def test_a_drain_that_has_ended_elsewhere_begins_the_count_anew() -> None:
    """The other host's fleetd restarts its scheduler: it was quiet for long, and boots now."""
    watch = Watch(rules())
    for at in range(0, 285, 5):
        drained = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", quiet=True, beat=float(at % 10))
        assert not watch.look(float(at), drained).start
    assert not watch.absent(285.0, 580.0).start
    assert watch.look(585.0).start


def test_a_unit_without_a_tag_that_restarts_is_no_second_scheduler() -> None:
    """systemd has the new process already, while the heartbeat of the old one is still there."""
    watch = Watch(rules(place="here"))
    old = process("", queues="scheduler", hostname="w1", pid=9, started=100.0)
    assert watch.look(0.0, old, own_unit=unit(pid=9, age=100.0)).surplus is None
    for own_unit in (unit("deactivating", pid=9, age=0.5, job="restart"), unit("activating", pid=0, age=0.2)):
        restarting = watch.look(1.0, old, own_unit=own_unit)
        assert restarting.surplus is None
        assert not restarting.start
    assert watch.look(2.0, structs.replace(old, identity="w1:9:another"), own_unit=unit(pid=10, age=1.0)).surplus


def test_it_is_one_once_its_unit_is_gone_or_has_run_for_longer_than_heartbeats_last() -> None:
    watch = Watch(rules(place="here"))
    old = process("", queues="scheduler", hostname="w1", pid=9, started=100.0)
    watch.look(0.0, old, own_unit=unit(pid=9, age=100.0))
    gone = watch.look(1.0, old, own_unit=unit("inactive", age=1.0))
    assert (gone.live_processes, gone.start) == (1, False)
    left_over = watch.look(2.0, old, ours(started=80.0), own_unit=unit(pid=9, age=GHOST_SECONDS + 1.0))
    assert left_over.live_processes == 2


# -- what is said while none runs and ours may not be started: what keeps it so, not that it was started


def pinned_stopped(by: Literal["hand", "fleetctl"]) -> HostMemory:
    person = Person(user="root", login="alice") if by == "fleetctl" else None
    pin = Pin(wants=PinKind.STOPPED, since_seconds=0.0, until_seconds=7300.0, by=by, person=person)
    return HostMemory(people=PeoplesOrders(pins={SCHEDULER: pin}))


FAILED = Failure(count=1, last_seconds=95.0, cause=SystemdResult(result="exit-code"))


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (
            pinned_stopped("hand"),
            "NO SCHEDULER RUNS: it was stopped by hand, for another 2.0 h; `fleetctl release scheduler` ends that",
        ),
        (
            pinned_stopped("fleetctl"),
            "NO SCHEDULER RUNS: it is kept stopped by root (sudo alice), for another 2.0 h; "
            "`fleetctl release scheduler` ends that",
        ),
        (
            HostMemory(units=UnitMemory(failures={SCHEDULER: FAILED})),
            "the scheduler failed once: its process exited with an error (exit-code); the scheduler is tried again in "
            "10 s: NO SCHEDULER RUNS",
        ),
    ],
    ids=["by hand", "fleetctl", "failed"],
)
def test_one_that_may_not_be_started_is_not_said_to_be_started(memory: HostMemory, said: str) -> None:
    watch = Watch(rules("here"))
    watch.memory = memory
    decision = watch.absent(0.0, 100.0)
    assert not decision.start
    assert isinstance(decision.state, SchedulerKeptStopped | StartFailed | SchedulerHeld)
    assert sentence(decision.state) == said
    assert decision.clamp is not None


def test_who_serves_instead_is_named_with_its_pid_and_unit() -> None:
    stock = process("", queues="scheduler", hostname="w1", pid=4242, started=900.0)
    theirs = process(tag(SCHEDULER, host="w2"), queues="scheduler", hostname="w2", pid=77)
    facts = structs.replace(machine(rules()), sidekiq_units={4242: "mastodon-sidekiq.service", 77: "wrong.service"})
    shot = snapshot(rules(), redis=sidekiq(processes=(stock, theirs)), units=systemd(), host=facts)
    decision, _ = decide_scheduler(tick_of(rules(), shot), HostMemory(), within_budget=True)
    assert sentence(decision.state) == (
        "served by process 4242 (mastodon-sidekiq.service) on w1, "
        "process 77 (mastodon-sidekiq-scheduler.service) on w2, so none is started here"
    )
    remote = structs.replace(stock, hostname="main")  # a pid of another host is no pid of ours
    shot = snapshot(rules(), redis=sidekiq(processes=(remote,)), units=systemd(), host=facts)
    decision, _ = decide_scheduler(tick_of(rules(), shot), HostMemory(), within_budget=True)
    assert sentence(decision.state) == "served by process 4242 on main, so none is started here"
