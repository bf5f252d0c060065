"""Every clamp has a sentence (law 8): each code is produced once, with its sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest
from msgspec import structs

from fleetd.core.capacity.admission import ScarcityMemory
from fleetd.core.carry_out import carry_out
from fleetd.core.demand.needed import DemandMemory
from fleetd.core.evidence.weigh import EvidenceMemory
from fleetd.core.fleet.view import Share
from fleetd.core.instances.assess import assess
from fleetd.core.instances.host_memory import Failure, HostMemory, UnitMemory, Watch
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostDecision
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.scheduler import SchedulerDecision, decide_scheduler
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import Clamp, Clamps, Plan
from fleetd.core.model.facts import ProcessFacts, RunningJob, Snapshot, SystemdFacts, UnfitUnit, Unknown
from fleetd.core.model.identity import TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import (
    AddedByHand,
    AtMax,
    ClientsRefused,
    CodeChanged,
    CoresShort,
    HoldReason,
    OomHold,
    Paused,
    TakenAwayByHand,
    TargetStopped,
    UnderMaintenance,
    UnitUnfit,
)
from fleetd.core.model.reasons.fleet import OtherHostsSeen
from fleetd.core.model.reasons.scheduler import SchedulerHeld, SchedulerNeverHere
from fleetd.core.model.reasons.sharing import NoHostTakesMore, NotTaken
from fleetd.core.model.reasons.units import MoreThanAdmitted, PinKind, SystemdResult
from fleetd.core.plan import FleetMemory, plan
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import NOW, ROOMY, decide, pinned, planned, watched
from tests.support.builders.fleets import fleet_view
from tests.support.builders.readings import (
    MIB,
    bouncer,
    database,
    fleet,
    machine,
    process,
    queue,
    sidekiq,
    snapshot,
    systemd,
    tag,
    tick_of,
    unit,
)
from tests.support.world.ports import policy, strict


def done(
    count: int,
    *,
    running: int = 1,
    rules: Policy | None = None,
    hosts: HostMemory | None = None,
    shot: Snapshot | None = None,
    wanted: Plan | None = None,
) -> tuple[Clamp, ...]:
    """The host's clamps when `count` are planned."""
    rules, hosts = rules or policy(), hosts or HostMemory()
    units, beats = fleet(running)
    shot = shot or snapshot(rules, now=NOW, redis=sidekiq(processes=beats), units=units)
    nothing = SchedulerDecision(state=SchedulerNeverHere())
    return tuple(carry_out(tick_of(rules, shot, hosts), wanted or planned(count), nothing, hosts).clamps)


def scheduler(
    *beats: ProcessFacts,
    redis: bool = True,
    units: SystemdFacts | None = None,
) -> tuple[Clamp, ...]:
    """The scheduler's clamps on a host that may take over."""
    rules = policy(scheduler=SchedulerPolicy(place="auto"))
    found = sidekiq(processes=beats)
    shot = snapshot(rules, redis=found if redis else None, units=units or systemd())
    decision, _ = decide_scheduler(tick_of(rules, shot), HostMemory(), within_budget=True)
    return () if decision.clamp is None else (decision.clamp,)


def without_machine(rules: Policy) -> tuple[Clamp, ...]:
    units, beats = fleet(1)
    reading = sidekiq(queue("default", busy=40), processes=beats)
    shot = snapshot(rules, redis=reading, postgres=ROOMY, units=units)
    shot = msgspec.structs.replace(shot, machine=Unknown(why="/proc is gone"))
    return plan(tick_of(rules, shot), FleetMemory()).clamps


def draining(*, since: float, sent: float) -> HostMemory:
    """@1 drains. The arguments are the ages of the orders, in seconds."""
    cause = MoreThanAdmitted(profile="default-first")
    drain = Drain(since_seconds=NOW - since, quiet_sent_seconds=NOW - sent, cause=cause)
    return HostMemory().with_drain(InstanceKey(1), drain)


def past_its_deadline() -> tuple[Clamp, ...]:
    rules = policy()
    hosts = draining(since=601.0, sent=601.0)
    beat = process(tag(1), busy=3, quiet=True, pid=101)
    redis = sidekiq(processes=(beat,), writable=False)
    shot = snapshot(rules, now=NOW, redis=redis, units=systemd({1: unit(pid=101)}))
    return done(0, hosts=hosts, shot=shot)


def in_all_numbers() -> tuple[Clamp, ...]:
    rules = policy(strict(numbers="1-2"))
    quiet = process(tag(2), quiet=True, busy=1, pid=102)
    redis = sidekiq(processes=(process(tag(1), pid=101), quiet))
    units = systemd({1: unit(pid=101), 2: unit(pid=102)})
    return done(2, rules=rules, shot=snapshot(rules, now=NOW, redis=redis, units=units))


STOCK = process("", queues="default scheduler", hostname="main")
NOTHING_RENDERED = snapshot(
    policy(), now=NOW, redis=sidekiq(), units=systemd(), host=machine(policy(), without=set(range(10)))
)

ALL_MASKED = snapshot(
    policy(),
    now=NOW,
    redis=sidekiq(),
    units=systemd(),
    host=structs.replace(machine(policy()), masked_units=("mastodon-sidekiq@.service",)),
)

FAILED = Failure(count=1, last_seconds=NOW - 5.0, cause=SystemdResult(result="start-limit-hit"))


def under(constraints: HostConstraints, *, busy: int = 40) -> tuple[Clamp, ...]:
    """The plan's clamps under these constraints: one of six instances runs, and there is work for more."""
    rules = policy()
    units, beats = fleet(1)
    reading = sidekiq(queue("default", busy=busy), processes=beats)
    shot = snapshot(rules, redis=reading, postgres=ROOMY, units=units)
    return plan(tick_of(rules, shot, constraints=constraints), FleetMemory()).clamps


def unconfirmed() -> tuple[Clamp, ...]:
    """@1 was first told to quiet 40 s ago, but goes on beating as if it had not been."""
    rules = policy()
    hosts = draining(since=40.0, sent=10.0)
    units, beats = fleet(1)
    return done(0, hosts=hosts, shot=snapshot(rules, now=NOW, redis=sidekiq(processes=beats), units=units))


def hung() -> tuple[Clamp, ...]:
    """@1 beats. @2 has not for a long time."""
    watch = Watch(invocation_id="", served=True, silent_seconds=61.0)
    rules = policy()
    units, beats = fleet(2)
    hosts = HostMemory(units=UnitMemory(watches={InstanceKey(2): watch}))
    shot = snapshot(rules, now=NOW, redis=sidekiq(processes=beats[:1], writable=True), units=units)
    return done(2, hosts=hosts, shot=shot)


def endless() -> tuple[Clamp, ...]:
    """All threads of @2 are in jobs that began 50 minutes ago."""
    rules = policy()
    units, (first, second) = fleet(2)
    jobs = tuple(RunningJob(jid=f"a{n}", run_age_seconds=3000.0, job_class="LinkCrawlWorker") for n in range(5))
    second = msgspec.structs.replace(second, busy_threads=5, jobs=jobs, busy_by_queue={"default": 5})
    shot = snapshot(rules, now=NOW, redis=sidekiq(processes=(first, second)), units=units)
    seen = EvidenceMemory(at_seconds=NOW - 5.0, useless_seconds={second.identity: 120.0})
    tick = assess(rules, shot, HostMemory(evidence=seen)).tick
    decision = HostDecision(HostMemory())
    end_stuck(tick, decision)
    return tuple(decision.clamps)


def never_ending() -> tuple[Clamp, ...]:
    rules = policy()
    hosts = draining(since=601.0, sent=601.0).with_pushed_back(frozenset({"a1"}), NOW - 3600.0)
    job = RunningJob(jid="a1", run_age_seconds=600.0)
    beat = msgspec.structs.replace(process(tag(1), busy=1, quiet=True, pid=101), jobs=(job,))
    redis = sidekiq(processes=(beat,), writable=True)
    return done(0, hosts=hosts, shot=snapshot(rules, now=NOW, redis=redis, units=systemd({1: unit(pid=101)})))


def held(reason: HoldReason) -> HostConstraints:
    return HostConstraints(holds=(Hold(reason=reason),))


def unattributable() -> tuple[Clamp, ...]:
    """A stock process of 30 threads beside ours. 22 connections may be web's or its own."""
    stock = process("", threads=30, queues="pull", hostname="main")
    rules = policy()
    units, beats = fleet(1)
    reading = sidekiq(queue("default", busy=40), processes=(*beats, stock))
    shot = snapshot(rules, redis=reading, postgres=database(maximum=80, clients=30), units=units)
    return plan(tick_of(rules, shot), FleetMemory()).clamps


def yields() -> tuple[Clamp, ...]:
    """Two profiles. The more important one is late, and has been refused an instance for a minute."""
    rules = policy(strict(numbers="1-4"), strict("bulk", "5-8", queues="pull", low=0))
    units = systemd({n: unit(pid=100 + n) for n in (1, 5, 6)})
    beats = tuple(process(tag(n), pid=100 + n, busy=5) for n in (1, 5, 6))
    reading = sidekiq(queue("default", 900, busy=5, age=60.0), queue("pull", busy=10), processes=beats)
    shot = snapshot(rules, now=NOW, redis=reading, postgres=database(maximum=40, clients=7), units=units)
    hungry = ScarcityMemory(profile="default-first", since_seconds=NOW - 61.0)
    return plan(tick_of(rules, shot), FleetMemory(scarcity=hungry)).clamps


def pool_is_full() -> tuple[Clamp, ...]:
    rules = policy()
    units, beats = fleet(1)
    reading = sidekiq(queue("default", busy=40), processes=beats)
    shot = snapshot(rules, redis=reading, postgres=ROOMY, units=units, pgbouncer=bouncer(waiting=3))
    return plan(tick_of(rules, shot), FleetMemory()).clamps


def by_the_leader() -> tuple[Clamp, ...]:
    """The leader wants more than any host has, and more than this host's max."""
    clamp = Clamp(reason=NoHostTakesMore(missing_instances=2, hosts=(NotTaken(host="w2", why="max"),), more_hosts=0))
    share = Share(needed_instances=11, desired_instances=9, clamps=(clamp,))
    shot = snapshot(policy(), redis=sidekiq(), postgres=ROOMY, units=systemd())
    view = structs.replace(fleet_view(), shares={"default-first": share})
    return plan(structs.replace(tick_of(policy(), shot), fleet=view), FleetMemory()).clamps


BUSY = CoresShort(share=0.9, limit=0.8)

THEIRS = UnfitUnit(unit=TEMPLATE_UNIT, file=f"/etc/systemd/system/{TEMPLATE_UNIT}", foreign=True, faults=())
PRODUCED: dict[ClampCode, tuple[Callable[[], Iterable[Clamp]], str]] = {
    ClampCode.MIN: (lambda: decide(policy(strict(low=2)), running=1).clamps, "min is 2"),
    ClampCode.MAX: (lambda: decide(policy(), busy=40).clamps, "max is 6"),
    ClampCode.TOLERANCE: (
        lambda: decide(policy(), running=2, busy=8, memory=nearly()).clamps,
        "the threads it needs are within 10% of those it has, so nothing changes",
    ),
    ClampCode.HOLD_WINDOW: (
        lambda: decide(policy(), running=4, memory=watched(4)).clamps,
        "needed within the last 300 s: kept for another 295 s",
    ),
    ClampCode.PACE: (lambda: done(6), "at most 2 starts a tick and 4 booting at once"),
    ClampCode.CONNECTIONS: (
        lambda: decide(policy(), busy=40, postgres=database(maximum=50, clients=10)).clamps,
        "one more needs 7 connections, 0 are left: limit 47 (50 − 3 reserved for superusers) − reserve 10 − others 9 − "
        "claimed 28",
    ),
    ClampCode.MEMORY: (
        lambda: decide(policy(), busy=40, available=1024 * MIB).clamps,
        "no memory left for one more instance",
    ),
    ClampCode.LATENCY_UNKNOWN: (
        lambda: decide(policy(), no_redis=True).clamps,
        "queue latency is unknown: nothing stops, nothing grows above min",
    ),
    ClampCode.HEADROOM_UNKNOWN: (
        lambda: decide(policy(), busy=40, postgres=None).clamps,
        "connection headroom is unknown: nothing grows above min (Postgres can't be read: no answer)",
    ),
    ClampCode.SYSTEMD_UNKNOWN: (
        lambda: plan(tick_of(policy(), snapshot(policy())), FleetMemory()).clamps,
        "systemd can't be read: nothing starts or stops",
    ),
    ClampCode.MEMORY_UNKNOWN: (
        lambda: without_machine(policy()),
        "this host's memory can't be read: nothing grows above min",
    ),
    ClampCode.PINNED: (
        lambda: done(6, hosts=pinned({2: PinKind.STOPPED})),
        "@2 stopped by people and left so",
    ),
    ClampCode.NOT_RENDERED: (
        lambda: done(1, shot=NOTHING_RENDERED),
        "@1, @2, @3, @4, @5, @6 not rendered as configured: run `systemctl start fleetd-render`",
    ),
    ClampCode.MASKED: (
        lambda: done(1, shot=ALL_MASKED),
        "mastodon-sidekiq@ is masked, so systemd does not start @1, @2, @3, @4, @5, @6: "
        "systemctl unmask mastodon-sidekiq@",
    ),
    ClampCode.FLEET: (
        lambda: under(HostConstraints(refusal=OtherHostsSeen(hosts=("w2",)))),
        "workers of w2 are seen, but this host shares no ledger with them, so nothing grows: set "
        'fleet.ledger = "redis" on every host, and let its Redis user write fleetd:ledger',
    ),
    ClampCode.SHARED: (by_the_leader, "the plan of w2, which leads the fleet, is for another min or max of this host"),
    ClampCode.MAINTENANCE: (
        lambda: under(HostConstraints(maintenance=Hold(reason=UnderMaintenance(host="w1", note=None)))),
        "w1 is in maintenance, by fleetctl: its work moves to other hosts, nothing starts here; "
        "`fleetctl maintenance w1 --end` ends it",
    ),
    ClampCode.NO_HOST: (by_the_leader, "2 more are wanted, and no host takes it: w2 (at its max)"),
    ClampCode.NO_NUMBER_FREE: (in_all_numbers, "every other number is in use or draining"),
    ClampCode.START_FAILED: (
        lambda: done(6, hosts=HostMemory().with_failures({InstanceKey(2): FAILED})),
        "@2 failed once: died at once, too often (start-limit-hit); @2 is tried again in 10 s",
    ),
    ClampCode.REDIS_NOT_WRITABLE: (
        past_its_deadline,
        "@1 is past its drain deadline, but Redis takes no writes, so its jobs would be lost: it waits",
    ),
    ClampCode.SCHEDULER_LIVE: (
        lambda: scheduler(STOCK),
        "served by process 0 on main, so none is started here",
    ),
    ClampCode.SCHEDULER_TAKEOVER: (
        scheduler,
        "none seen for 0 s; this host starts it after 300 s without one",
    ),
    ClampCode.SCHEDULER_SURPLUS: (
        lambda: scheduler(STOCK, units=systemd(scheduler=unit())),
        "process 0 on main serves the scheduler queue: ours is stopped",
    ),
    ClampCode.SCHEDULER_UNKNOWN: (
        lambda: scheduler(redis=False),
        "Redis can't be read, so a live scheduler elsewhere can't be ruled out: left as it is",
    ),
    ClampCode.PLAN_EXPIRED: (
        lambda: done(3, wanted=planned(3, expires=NOW)),
        "no valid plan: nothing changes except back up to min",
    ),
    ClampCode.PAUSED: (
        lambda: under(held(Paused(note="moving the database"))),
        "paused by fleetctl: moving the database; `fleetctl resume` ends it",
    ),
    ClampCode.STOPPED: (
        lambda: under(held(TargetStopped(stopped_seconds=720.0))),
        "all workers of this host were stopped 12 min ago, with mastodon-sidekiq.target: nothing starts until "
        "`systemctl start mastodon-sidekiq.target`",
    ),
    ClampCode.UPGRADE: (
        lambda: under(held(CodeChanged(version="4.5.3"))),
        "Mastodon's code on disk (4.5.3) is not what runs: nothing starts or stops until `fleetctl restart` "
        "(one at a time) or `fleetctl resume`",
    ),
    ClampCode.FOREIGN_UNIT: (
        lambda: under(held(UnitUnfit(unfit=THEIRS))),
        "/etc/systemd/system/mastodon-sidekiq@.service is not fleetd's mastodon-sidekiq@.service but somebody else's, "
        "and fleetd starts, ends and replaces nothing by it. `sudo fleetctl check-config` says what it lacks, and "
        "the lines that put ours there",
    ),
    ClampCode.SET: (
        lambda: under(HostConstraints(set_instances={"default-first": 2})),
        "set to 2 by fleetctl",
    ),
    ClampCode.ROLLING: (
        lambda: under(HostConstraints(spare_for="default-first", refusal=BUSY), busy=3),
        "replaced by stop, then start, because work waited for a core 90% of the last minute (pressure.cpu_max 80%)",
    ),
    ClampCode.UNDRAINABLE: (
        unconfirmed,
        "@1 was told to quiet, but its heartbeat does not say so: does its ExecStart pass signals on?",
    ),
    ClampCode.STALLED: (endless, "@2 has finished nothing for 50 min: 5 × LinkCrawlWorker"),
    ClampCode.UNRESPONSIVE: (hung, "@2 has sent no heartbeat for 121 s while others do"),
    ClampCode.HOST_PRESSURE: (
        lambda: under(HostConstraints(refusal=BUSY)),
        "work waited for a core 90% of the last minute (pressure.cpu_max 80%)",
    ),
    ClampCode.OOM_KILLED: (
        lambda: under(HostConstraints(refusal=OomHold(left_seconds=1740.0))),
        "an instance was killed for memory: nothing is added on this host for 1740 s",
    ),
    ClampCode.OTHERS_UNATTRIBUTABLE: (
        unattributable,
        "others can't be told from a Sidekiq process that fleetd did not render (main): up to 61 are taken to be "
        "others', at least 32 are. Declare what web and streaming may take under "
        "[[connections.claims]] in fleetd.toml (docs/operations.md has the lines)",
    ),
    ClampCode.YIELD: (yields, "default-first is more important and late: one of bulk gives way to it"),
    ClampCode.DATABASE_SATURATED: (
        pool_is_full,
        "more workers would not help: 3 clients wait for one of the 20 connections of PgBouncer's pool, "
        "the longest for 0.0 s",
    ),
    ClampCode.LONG_JOB: (
        never_ending,
        "@1 is past its drain deadline, but runs a job that was pushed back before, so it may finish; `systemctl stop "
        "mastodon-sidekiq@1` ends it now, and what it runs starts over once more",
    ),
}


def nearly() -> FleetMemory:
    return FleetMemory(demand=DemandMemory(at_seconds=NOW, busy_mean_threads={"default": 8.5}))


@pytest.mark.parametrize("code", list(ClampCode), ids=lambda code: code.value)
def test_every_code_is_produced_with_its_sentence(code: ClampCode) -> None:
    produce, said = PRODUCED[code]
    assert said in [sentence(clamp.reason) for clamp in produce() if clamp.code == code]


def test_a_held_scheduler_is_counted_under_the_code_of_its_hold() -> None:
    clamp = Clamp(reason=SchedulerHeld(hold=Paused(note=None)))
    assert clamp.code == ClampCode.PAUSED


def test_consecutive_clamps_with_the_same_code_are_merged() -> None:
    clamps = Clamps()
    clamps.add(ClientsRefused(source="postgres"), "a", before=9, after=5)
    clamps.add(ClientsRefused(source="postgres"), "b", before=3, after=2)
    clamps.add(ClientsRefused(source="replica"), "a", before=5, after=4)
    found = [c for c in tuple(clamps) if c.profile == "a"]
    last = ClientsRefused(source="replica")
    assert [(c.reason, c.before_instances, c.after_instances) for c in found] == [(last, 9, 4)]


def test_clamps_with_the_same_code_are_not_merged_across_another() -> None:
    clamps = Clamps()
    clamps.add(TakenAwayByHand(instances=4), "a", before=9, after=5)
    clamps.add(AtMax(max_instances=2), "a", before=5, after=2)
    clamps.add(AddedByHand(instances=1), "a", before=2, after=3)
    assert [c.after_instances for c in tuple(clamps)] == [5, 2, 3]
