"""All hosts as one: each instance and each process counts exactly once, and the one-host rules work on it unchanged."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.demand.desired import desired_instances
from fleetd.core.demand.needed import DemandMemory, Needed, needed_instances, remember
from fleetd.core.fleet.calls import Told
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostTick
from fleetd.core.model.decision import Clamps, InstanceState
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.counts import HeartbeatsMissing, Paused
from fleetd.core.model.reasons.units import PinKind
from fleetd.core.sharing.merged import FleetTick, fleet_tick, there
from fleetd.core.sharing.report import HostReport, InstanceReport, report_of, written
from tests.support.builders.hosts import QUEUES, beat, tick, told
from tests.support.builders.readings import AWAY, process, queue
from tests.support.world.ports import policy, strict, weighted

CLOCK = 5_000.0
BUSY = (queue("default", busy=40), *(queue(q) for q in QUEUES[1:]))


def merged(at: HostTick, *others: HostReport, maintenance: frozenset[str] = frozenset()) -> FleetTick:
    own = report_of(at, HostMemory())
    return fleet_tick(at, own, {r.host: r for r in others}, CLOCK, maintenance)


def leading(running: int = 1, w2: int = 0, w3: int = 0, rules: Policy | None = None) -> HostTick:
    """The leader w1, which reads the heartbeats of the others' instances too; 40 threads are busy."""
    found = tuple(beat(h, n) for h, count in (("w2", w2), ("w3", w3)) for n in range(1, count + 1))
    return tick("w1", running, rules, queues=BUSY, others=found)


def need(fleet: FleetTick) -> Needed:
    at = fleet.tick
    assert at.sidekiq is not None
    memory = remember(at.policy, DemandMemory(), at.sidekiq, at.now_seconds)
    return needed_instances(at, at.sidekiq, memory)


def test_one_host_alone_is_itself() -> None:
    at = leading(3)
    fleet = merged(at)
    alone = structs.replace(at.policy.profiles[0], numbers=(), db_pool=7)
    assert fleet.tick.policy.profiles == (alone,)
    assert fleet.tick.running == at.running
    assert fleet.tick.now_seconds == CLOCK
    assert need(fleet).instances == {"default-first": 10}  # 40 / (5 × 0.8)


def test_every_host_s_instances_are_the_fleet_s() -> None:
    fleet = merged(leading(2, 3, 1), told("w2", 3), told("w3", 1))
    own = fleet.tick.policy.profiles[0]
    assert (own.min_instances, own.max_instances) == (3, 18)
    assert fleet.tick.running == {"default-first": 6}
    keys = [v.key for v in fleet.tick.active]
    assert len(set(keys)) == 6
    assert [fleet.worker(key) for key in keys][-2:] == ["mastodon-sidekiq@3.w2", "mastodon-sidekiq@1.w3"]
    assert all(v.serves and not v.lacks_heartbeat for v in fleet.tick.active)
    found, windows = desired_instances(fleet.tick, need(fleet), {}, Clamps())
    assert found == {"default-first": 10}
    assert windows["default-first"].since_seconds == CLOCK


def test_shape_decides_and_not_the_name() -> None:
    rules = policy(strict(), weighted("light", "7-10"))
    other = policy(weighted("heavy", "1-2"), strict("all", "3-6"), strict("mail", "7-8", queues="mailers"))
    fleet = merged(leading(1, rules=rules), told("w2", 2, other))
    assert [p.name for p in fleet.profiles] == ["default-first", "light", "mail"]
    assert [p.places for p in fleet.profiles] == [{"w1": 0, "w2": 1}, {"w1": 1, "w2": 0}, {"w2": 2}]
    assert fleet.tick.running == {"default-first": 1, "light": 2, "mail": 0}
    assert [p.min_instances for p in fleet.tick.policy.profiles] == [2, 2, 1]


def test_weights_in_another_order_are_one_shape_and_other_threads_are_another() -> None:
    one = policy(weighted(weights="default:4 push:2"))
    other = policy(weighted(weights="push:2 default:4"), weighted("more", "1-4", weights="push:2 default:4", threads=9))
    fleet = merged(leading(1, rules=one), told("w2", 0, other))
    assert [p.places for p in fleet.profiles] == [{"w1": 0, "w2": 0}, {"w2": 1}]


def test_two_profiles_of_one_shape_on_a_host_stay_apart_and_names_are_unique() -> None:
    rules = policy(strict("a", "1-3"), strict("b", "4-6"))
    other = policy(strict("b", "1-6", threads=9))
    fleet = merged(leading(1, rules=rules), told("w2", 0, other))
    assert [(p.name, p.places) for p in fleet.profiles] == [("a", {"w1": 0}), ("b", {"w1": 1}), ("b@w2", {"w2": 0})]


def test_what_boots_elsewhere_counts_as_coming() -> None:
    boots = [
        InstanceReport(key=n, profile=0, state=InstanceState.STARTING, age_seconds=5.0, threads=5, flags="--")
        for n in (1, 2)
    ]
    report = told("w2", 2)
    booting = structs.replace(report, instances=tuple(boots), booting=2)
    fleet = merged(leading(1), booting)
    views = [v for v in fleet.tick.active if v.state == InstanceState.STARTING]
    assert [v.is_booting for v in views] == [True, True]
    assert not any(v.serves or v.lacks_heartbeat for v in views)


def test_an_instance_without_a_heartbeat_keeps_the_fleet_from_shrinking() -> None:
    report = told("w2", 2)
    mute = structs.replace(report, instances=tuple(structs.replace(i, flags="r-") for i in report.instances))
    quiet = tick("w1", 3)
    fleet = merged(quiet, mute)
    clamps = Clamps()
    found, _ = desired_instances(fleet.tick, need(fleet), {}, clamps)
    assert found == {"default-first": 5}
    missing = next(c.reason for c in clamps if isinstance(c.reason, HeartbeatsMissing))
    assert [fleet.worker(key) for key in missing.keys] == ["mastodon-sidekiq@1.w2", "mastodon-sidekiq@2.w2"]


def test_pins_of_every_host_count() -> None:
    report = told("w2", 1)
    pinned = InstanceReport(key=9, profile=0, state=InstanceState.PINNED, age_seconds=1.0, threads=5, flags="--stopped")
    fleet = merged(leading(1), structs.replace(report, instances=(*report.instances, pinned)))
    assert [v.pinned for v in fleet.tick.active] == [None, None, PinKind.STOPPED]
    assert not fleet.tick.active[-1].is_present


def test_workers_without_a_report_are_capacity_once() -> None:
    at = leading(2, 3)  # w2's three beat
    with_report, without = merged(at, told("w2", 3)), merged(at)
    assert need(with_report).instances == {"default-first": 10}
    assert need(without).instances == {"default-first": 7}
    for fleet in (with_report, without):  # either way the same number is missing
        assert need(fleet).instances["default-first"] - fleet.tick.running["default-first"] == 5


def test_a_host_that_can_not_read_systemd_counts_by_its_heartbeats() -> None:
    blind = structs.replace(told("w2", 3), systemd_known=False)
    fleet = merged(leading(2, 3), blind)
    assert fleet.hosts == ("w1",)
    assert need(fleet).instances == {"default-first": 7}
    at = leading(2, 3)
    fleet = merged(structs.replace(at, instances=None, active=(), running={}), told("w2", 3))
    assert fleet.hosts == ("w2",)
    assert fleet.tick.running == {"default-first": 3}
    assert need(fleet).instances == {"default-first": 8}


def test_instances_that_were_cut_from_a_report_count_by_their_heartbeats() -> None:
    whole = told("w2", 3)
    cut = structs.replace(whole, instances=whole.instances[:1], cut=True)
    fleet = merged(leading(2, 3), cut)
    assert need(fleet).instances == {"default-first": 8}


def test_an_untagged_process_that_is_a_host_s_own_counts_once() -> None:
    bare = process("", pid=101, hostname="w2")
    at = tick("w1", 1, queues=BUSY, others=(bare,))
    assert need(merged(at)).instances == {"default-first": 9}
    report = structs.replace(told("w2", 1), untagged=((bare.identity, 1),))
    assert need(merged(at, report)).instances == {"default-first": 10}


def test_a_leader_without_redis_keeps_what_runs() -> None:
    at = leading(2)
    at = structs.replace(at, snapshot=structs.replace(at.snapshot, sidekiq=AWAY))
    fleet = merged(at, told("w2", 3))
    assert fleet.tick.sidekiq is None
    assert desired_instances(fleet.tick, None, {}, Clamps())[0] == {"default-first": 5}


def test_people_s_counts_are_summed_and_where_only_some_have_one_they_are_min_and_max() -> None:
    two = HostConstraints(set_instances={"default-first": 2})
    at, report = tick("w1", 1, constraints=two), told("w2", 1)
    both = structs.replace(report, profiles=(structs.replace(report.profiles[0], set_instances=5),))
    assert merged(at, both).tick.constraints.set_instances == {"default-first": 7}
    fleet = merged(at, report)
    assert fleet.tick.constraints.set_instances == {}
    own = fleet.tick.policy.profiles[0]
    assert (own.min_instances, own.max_instances) == (3, 8)


def test_the_fleet_is_held_where_every_host_is() -> None:
    held = HostConstraints(holds=(Hold(reason=Paused(note="x")),))
    at, report = tick("w1", 1, constraints=held), told("w2", 0)
    assert merged(at, structs.replace(report, held="upgrade")).tick.held == held.held
    fleet = merged(at, report)
    assert fleet.tick.held is None
    assert fleet.tick.policy.profiles[0].min_instances == 2
    assert merged(tick(), structs.replace(report, held="paused")).tick.policy.profiles[0].min_instances == 1


def test_a_fleet_observes_where_every_host_does() -> None:
    rules = structs.replace(policy(), mode="observe")
    at = tick("w1", 1, rules)
    assert merged(at).tick.policy.observes
    assert not merged(at, told("w2")).tick.policy.observes


def test_a_host_in_maintenance_counts_with_what_runs() -> None:
    fleet = merged(leading(2), told("w2", 3), maintenance=frozenset({"w2"}))
    own = fleet.tick.policy.profiles[0]
    assert (own.min_instances, own.max_instances, fleet.tick.running["default-first"]) == (1, 6, 5)


def test_boot_seconds_are_the_mean_of_the_hosts_that_know_them() -> None:
    at, report = tick("w1", 1, constraints=HostConstraints(boot_seconds={"default-first": 10.0})), told("w2")
    own = structs.replace(report.profiles[0], boot_seconds=30.0)
    fleet = merged(at, structs.replace(report, profiles=(own,)), told("w3"))
    assert fleet.tick.constraints.boot_seconds == {"default-first": 20.0}


def test_which_reports_count() -> None:
    def one(seconds: float, *, gone: bool = False, record: str | None = None) -> Told:
        text = written(told("w2")) if record is None else record
        return Told(silent_ms=int(seconds * 1000), gone=gone, record=text, claims={})

    def refused(seconds: float, tick_seconds: float = 5.0) -> str:
        record = written(structs.replace(told("w2"), tick_seconds=tick_seconds))
        return there({"w2": one(seconds, record=record)})["w2"].refused

    assert [refused(7.4), refused(7.5), refused(19.9)] == ["", "silent", "silent"], "it has missed a beat"
    assert [refused(7.4, 1.0), refused(7.5, 1.0)] == ["", "silent"], "of quick ticks several"
    assert [refused(89.0, 60.0), refused(90.0, 60.0)] == ["", "silent"]
    assert there({"w2": one(19.0)})["w2"].held == ""
    assert there({"w2": one(20.0)})["w2"].held == "silent"
    assert there({"w2": one(59.9)})["w2"].held == "silent"
    assert there({"w2": one(60.0)}) == {}
    assert there({"w2": one(0.0, gone=True)}) == {}
    assert there({"w2": one(0.0, record="")}) == {}  # an older fleetd
    assert there({"w3": one(0.0)}) == {}  # another host's
    slow = structs.replace(told("w2"), tick_seconds=60.0)
    assert there({"w2": one(100.0, record=written(slow))})["w2"].held == ""


def test_a_silent_host_s_instances_serve_while_they_beat() -> None:
    silent = structs.replace(told("w2", 2), held="silent")
    at = leading(1, 1)  # of w2's two one beats
    fleet = merged(at, silent)
    assert [v.serves for v in fleet.tick.active] == [True, True, False]


def test_keys_never_collide() -> None:
    report = told("w2", 1)
    last = structs.replace(report.instances[0], key=InstanceKey(9999))
    fleet = merged(leading(6), structs.replace(report, instances=(last,)), told("w3", 6))
    keys = [v.key for v in fleet.tick.active]
    assert len(set(keys)) == len(keys) == 13
