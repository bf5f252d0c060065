"""The leader's part of a tick in one call."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.demand.desired import HoldWindow
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model import reasons
from fleetd.core.model.facts import Known
from fleetd.core.model.policy_tables import Policy
from fleetd.core.sharing.fleet_plan import clamps_of, read, written
from fleetd.core.sharing.leading import FleetShared, SharingMemory, plan_fleet
from fleetd.core.sharing.report import HostReport, report_of
from fleetd.words.reasons import sentence
from tests.support.builders.hosts import QUEUES, beat, tick, told
from tests.support.builders.readings import AWAY, queue
from tests.support.world.ports import policy, strict

CLOCK = 5_000.0


def leading(busy: int, running: int, *others: HostReport, rules: Policy | None = None) -> HostTick:
    found = tuple(beat(r.host, i.key) for r in others for i in r.instances)
    queues = (queue("default", busy=busy), *(queue(q) for q in QUEUES[1:]))
    return tick("w1", running, rules, queues=queues, others=found)


def planned(
    at: HostTick, *others: HostReport, memory: SharingMemory | None = None, clock: float = CLOCK
) -> FleetShared:
    told_by = {r.host: r for r in others}
    own = report_of(at, HostMemory())
    return plan_fleet(at, own, told_by, memory or SharingMemory(), None, clock_seconds=clock)


def test_a_surge_is_shared_out() -> None:
    w2, w3 = told("w2"), told("w3")
    done = planned(leading(36, 1, w2, w3), w2, w3)  # 36 / 4 = 9
    plan = done.plan
    assert {host: plan.desired_instances(host)["default-first"] for host in plan.hosts} == {"w1": 3, "w2": 3, "w3": 3}
    counts = plan.profiles[0]
    assert (counts.needed_instances, counts.desired_instances, counts.shared_instances) == (9, 9, 9)
    assert isinstance(counts.need, reasons.KeepsBusy)
    assert read(written(plan)) == plan
    assert sentence(clamps_of(plan, "w2")[0].reason) == (
        "9 are wanted on all hosts together; 2 more go to w2, which has room (1 runs there on 4 cores)"
    )
    assert done.memory.windows["default-first"].grew_seconds == CLOCK


def test_what_is_needed_does_not_go_to_a_host_that_has_missed_a_beat() -> None:
    w2, w3 = structs.replace(told("w2", 3), refused="silent"), told("w3", 3)
    plan = planned(leading(44, 3, w2, w3), w2, w3).plan  # 44 / 4 = 11, and 9 are there
    assert {host: plan.desired_instances(host)["default-first"] for host in plan.hosts} == {"w1": 4, "w2": 3, "w3": 4}


def test_every_host_s_chain_begins_with_the_need_of_all() -> None:
    w2 = told("w2", 3)
    done = planned(leading(0, 3, w2), w2)
    for host in ("w1", "w2"):
        found = clamps_of(done.plan, host)
        assert found[0].before_instances == 0
        assert [c.before_instances for c in found[1:]] == [c.after_instances for c in found[:-1]]
        assert found[-1].after_instances == 3
        assert isinstance(found[-1].reason, reasons.KeepsItsOwn)


def test_the_hold_window_outlives_its_leader() -> None:
    w2 = told("w2", 3)
    window = HoldWindow(since_seconds=CLOCK - 1000.0, entries=((CLOCK - 5.0, 5),))
    memory = SharingMemory(windows={"default-first": window})
    done = planned(leading(0, 3, w2), w2, memory=memory)
    assert done.plan.profiles[0].desired_instances == 5
    other = tick("w2", 3, others=tuple(beat("w1", n) for n in (1, 2, 3)))
    taken = plan_fleet(
        other, report_of(other, HostMemory()), {"w1": told("w1", 3)}, memory, done.plan, clock_seconds=CLOCK
    )
    assert taken.plan.profiles[0].desired_instances == 5
    assert taken.plan.hosts == done.plan.hosts


def test_without_redis_everybody_keeps_what_runs() -> None:
    w2 = told("w2", 3)
    at = leading(40, 2, w2)
    done = planned(structs.replace(at, snapshot=structs.replace(at.snapshot, sidekiq=AWAY)), w2)
    assert done.needed is None
    assert {h: done.plan.desired_instances(h)["default-first"] for h in done.plan.hosts} == {"w1": 2, "w2": 3}
    assert isinstance(done.plan.profiles[0].clamps[0].reason, reasons.LatencyUnknown)


def test_workers_without_a_heartbeat_are_named_with_their_host() -> None:
    w2 = told("w2", 2)
    mute = structs.replace(w2, instances=tuple(structs.replace(i, flags="r-") for i in w2.instances))
    done = planned(leading(0, 3), mute)
    missing = [c.reason for c in clamps_of(done.plan, "w1") if isinstance(c.reason, reasons.HeartbeatsMissingThere)]
    assert missing[0].workers == ("mastodon-sidekiq@1.w2", "mastodon-sidekiq@2.w2")
    assert read(written(done.plan)) == done.plan


def test_a_leader_that_can_not_read_systemd_plans_for_the_others() -> None:
    w2 = told("w2", 1)
    at = structs.replace(leading(36, 3, w2), instances=None, active=(), running={})
    done = planned(at, w2)
    assert list(done.plan.hosts) == ["w2"]
    assert done.plan.desired_instances("w2") == {"default-first": 6}  # 9 less the three that beat on w1


def test_settings_that_differ_are_named() -> None:
    other = structs.replace(policy(), targets_seconds={"default": 1.0})
    done = planned(leading(0, 1), told("w2", 1, other))
    assert [(d.host, d.setting) for d in done.plan.differences] == [
        ("w2", "targets.default"),
        ("w2", "targets.pull"),
        ("w2", "targets.push"),
    ]


def test_a_queue_that_no_host_serves_is_told_for_the_fleet() -> None:
    rules = policy(strict(queues="default"))
    at = tick("w1", 1, rules, queues=(queue("default"), queue("own", 5), queue("mailers", 5)))
    w2 = told("w2", 0, policy(strict(queues="mailers")))
    memory = planned(at, w2).memory
    for second in range(1, 26):
        done = planned(at, w2, memory=memory, clock=CLOCK + 5.0 * second)
        memory = done.memory
    assert done.unserved is not None
    assert [one.queue for one in done.unserved.queues] == ["own"]


def test_a_backlog_of_any_size_leaves_a_plan_that_can_be_read() -> None:
    w2 = told("w2", 1)
    at = leading(0, 1, w2)
    redis = at.sidekiq
    assert redis is not None
    huge = structs.replace(redis.queues["default"], length_jobs=2**32 - 1, latency_seconds=1e6, busy_threads=10**7)
    facts = structs.replace(redis, queues={**redis.queues, "default": huge})
    at = structs.replace(at, snapshot=structs.replace(at.snapshot, sidekiq=Known(value=facts)))
    done = planned(at, w2)
    plan = read(written(done.plan))
    assert plan is not None
    assert plan == done.plan
    assert plan.profiles[0].needed_instances > 10**6
