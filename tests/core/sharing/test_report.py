"""What a host tells: all that the leader needs, within the ledger's bound; and nothing else is read as a report."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.fleet.sizes import RECORD_BYTES_MAX
from fleetd.core.fleet.view import FleetKnown, RestartKnown
from fleetd.core.instances.host_memory import HostMemory, PeoplesOrders, Rollout, RolloutPhase, UnitMemory
from fleetd.core.instances.host_tick import Hold, HostConstraints
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import CodeStamp, Known
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Profile, SchedulerPolicy
from fleetd.core.model.reasons.counts import CoresShort, Paused
from fleetd.core.model.reasons.units import PinKind, ReplaceCause
from fleetd.core.sharing.differences import differences
from fleetd.core.sharing.report import HostReport, InstanceReport, RestartReport, read, report_of, written
from fleetd.words.reasons import sentence
from tests.support.builders.hosts import beat, tick, told
from tests.support.builders.readings import AWAY, MIB, process, systemd, tick_of, unit
from tests.support.world.ports import policy, strict, weighted


def test_how_far_restarts_are_is_told_from_the_rollout_and_not_from_what_was_told_before() -> None:
    waits, begun = RestartKnown(until_ms=7), RestartKnown(until_ms=9, phase="under_way", total_instances=3)
    known = FleetKnown(restarts={"restart w1": begun, "restart": waits})
    rolls = Rollout(
        cause=ReplaceCause.RESTART,
        left={InstanceKey(2): "x"},
        total_instances=3,
        done_instances=2,
        since_seconds=0.0,
        current=InstanceKey(2),
        spare=InstanceKey(4),
        order=9,
    )
    at = tick("w1", 0, policy(strict()))
    for rollout, phase, done, current in (
        (rolls, "under_way", 2, 2),
        (structs.replace(rolls, spare=None), "under_way", 2, None),  # it waits for another host
        (structs.replace(rolls, phase=RolloutPhase.GIVEN_UP), "given_up", 2, None),
        (structs.replace(rolls, order=8), "done", 0, None),  # another one's, so ours is over
        (None, "done", 0, None),  # a reboot has started everything anew
    ):
        report = report_of(at, HostMemory(fleet=known, rollout=rollout))
        assert report.restarts == (
            RestartReport(until_ms=7, whole=True, phase="waits"),
            RestartReport(until_ms=9, whole=False, phase=phase, done=done, total=3, at=current),
        )
        assert read(written(report), "w1") == report


def large(instances: int, queues: int, name: int = 20, profiles: int = 4) -> HostReport:
    """A host with this many instances and queues, of names this long, in so many profiles."""
    names = [f"{'q' * (name - 4)}_{n:03}" for n in range(queues)]
    each = instances // profiles
    tables = tuple(
        Profile(
            name=f"{'p' * 28}{place:03}",
            order="weighted",
            queues=tuple((queue, 100) for queue in names),
            threads=25,
            db_pool=30,
            numbers=tuple(InstanceKey(1000 + place * each + n) for n in range(each)),
            min_instances=1,
            max_instances=each,
        )
        for place in range(profiles)
    )
    targets: dict[str, float | None] = dict.fromkeys(names, 1234.5)
    rules = structs.replace(policy(*tables), targets_seconds=targets)
    keys = [key for table in tables for key in table.numbers]
    units = systemd({key: unit(pid=key, age=123456.7) for key in keys})
    at = tick("w" * 60, 0, rules)
    assert isinstance(at.snapshot.sidekiq, Known)
    shot = structs.replace(at.snapshot, systemd=Known(value=units))
    return report_of(tick_of(at.policy, shot), HostMemory(), "0.3.0")


def test_a_report_says_what_runs_and_what_could() -> None:
    report = report_of(tick(running=2, available=3 * 1024 * MIB), HostMemory(), "0.3.0")
    own = report.profiles[0]
    assert (own.running, own.free_numbers, own.min_instances, own.max_instances) == (2, 4, 1, 6)
    assert (report.host, report.cores, report.fits(own), report.present) == ("w1", 4, 2, 2)
    assert report.queues_of(own)[:2] == (("default", 1), ("push", 1))
    assert (report.held, report.refused, report.systemd_known) == ("", "", True)
    assert [(i.key, i.state, i.threads, i.beats, i.is_ready) for i in report.instances] == [
        (1, InstanceState.SERVING, 5, True, True),
        (2, InstanceState.SERVING, 5, True, True),
    ]
    assert read(written(report), "w1") == report


def test_pins_sets_holds_and_what_keeps_it_from_growing_are_told() -> None:
    pin = Pin(wants=PinKind.STOPPED, since_seconds=0.0, until_seconds=20_000.0)
    memory = HostMemory(people=PeoplesOrders(pins={InstanceKey(3): pin}))
    limits = HostConstraints(
        holds=(Hold(reason=Paused(note=None)),),
        set_instances={"default-first": 4},
        boot_seconds={"default-first": 17.26},
        refusal=CoresShort(share=0.9, limit=0.8),
        unavailable_in="default-first",
    )
    report = report_of(tick(running=2, constraints=limits, memory=memory), memory, refused={"default-first": "memory"})
    own = report.profiles[0]
    assert (report.held, report.refused, own.refused) == ("paused", "host_pressure", "memory")
    assert (own.set_instances, own.boot_seconds, own.free_numbers) == (4, 17.3, 3)
    assert own.running == 3  # with the one whose replacement is still to come
    assert [(i.key, i.pinned) for i in report.instances if i.pinned] == [(3, PinKind.STOPPED)]
    assert report.present == 2
    assert read(written(report), "w1") == report


def test_unknown_is_told_as_such() -> None:
    at = tick()
    blind = structs.replace(at, snapshot=structs.replace(at.snapshot, machine=AWAY))
    report = report_of(blind, HostMemory())
    assert (report.cores, report.memory_left_mib, report.refused) == (None, None, "memory_unknown")
    assert report.fits(report.profiles[0]) == 0
    assert not report_of(structs.replace(at, instances=None, active=()), HostMemory()).systemd_known


def test_the_scheduler_may_start_where_nothing_keeps_it() -> None:
    rules = policy(scheduler=SchedulerPolicy(place="here"))
    at = tick(rules=rules)
    assert report_of(at, HostMemory()).scheduler.may_start
    assert report_of(at, HostMemory()).scheduler.place == "here"
    assert at.machine is not None
    bare = structs.replace(at.machine, rendered={})
    at = structs.replace(at, snapshot=structs.replace(at.snapshot, machine=Known(value=bare)))
    assert not report_of(at, HostMemory(units=UnitMemory())).scheduler.may_start


def test_processes_without_a_tag_that_are_its_own_are_named() -> None:
    own = structs.replace(process("", pid=101), own_key=InstanceKey(1))
    scheduler = structs.replace(process("", pid=102), own_key=SCHEDULER)
    report = report_of(tick(others=(own, scheduler, process("", pid=103))), HostMemory())
    assert report.untagged == ((own.identity, 1),)


def test_sixteen_instances_and_fifty_queues_fit_uncut() -> None:
    report = large(16, 50)
    assert len(report.instances) == 16
    assert read(written(report), report.host) == report


def test_the_largest_host_fits_uncut_with_usual_names() -> None:
    report = large(64, 50, name=12)
    assert len(report.instances) == 64
    assert read(written(report), report.host) == report


def test_what_does_not_fit_is_cut_in_the_stated_order() -> None:
    report = structs.replace(large(64, 64, name=60), untagged=(("i" * 200, 1),) * 16)
    less = read(written(report), report.host)
    assert less is not None
    assert (less.untagged, less.settings, less.digest) == ((), None, report.digest)
    report = large(64, 64, name=64, profiles=32)
    fewer = read(written(report), report.host)
    assert fewer is not None
    assert fewer.cut
    kept = len(fewer.profiles)
    assert 0 < kept < 32
    assert [p.name for p in fewer.profiles] == [p.name for p in report.profiles[:kept]]
    assert {i.profile for i in fewer.instances} == set(range(kept))
    assert fewer.queues_of(fewer.profiles[-1]) == report.queues_of(report.profiles[kept - 1])


@settings(max_examples=30, deadline=None)
@given(instances=st.integers(1, 64), queues=st.integers(1, 64), name=st.integers(8, 64), profiles=st.integers(1, 64))
def test_any_record_is_within_the_bound(instances: int, queues: int, name: int, profiles: int) -> None:
    report = large(max(instances, profiles), queues, name, profiles)
    assert len(written(report).encode()) <= RECORD_BYTES_MAX
    assert read(written(report), report.host) is not None


@given(st.one_of(st.binary(), st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_garbage_is_no_report(garbage: str | bytes) -> None:
    assert read(garbage, "w1") is None


def test_another_version_s_report_is_none() -> None:
    text = written(told("w1"))
    document = json.loads(text)
    assert read(text, "w2") is None
    assert read(json.dumps({**document, "format": 2}), "w1") is None
    assert read(json.dumps({**document, "instances": [{"key": 1}]}), "w1") is None
    assert read(json.dumps({**document, "later": 1}), "w1") == told("w1")  # a field that a later one adds
    assert read("[" * 100_000, "w1") is None


def test_numbers_that_no_fleetd_writes_make_none() -> None:
    document = json.loads(written(told("w1", 2)))
    for where, what in (("cores", 0), ("cores", 10**30), ("memory_left_mib", -1), ("tick_seconds", 1e300)):
        assert read(json.dumps({**document, where: what}), "w1") is None, where
    own = document["profiles"][0]
    for wrong in ({"queues": [[99, 1]]}, {"threads": 0}, {"max_instances": 65}, {"min_instances": 7}):
        assert read(json.dumps({**document, "profiles": [{**own, **wrong}]}), "w1") is None, wrong
    assert read(json.dumps({**document, "profiles": [own, own]}), "w1") is None
    one = document["instances"][0]
    assert read(json.dumps({**document, "instances": [one, one]}), "w1") is None
    assert read(json.dumps({**document, "instances": [[1, 5, *one[2:]]]}), "w1") is None


def test_flags_are_read_as_written() -> None:
    one = InstanceReport(key=1, profile=0, state=InstanceState.PINNED, age_seconds=0.0, threads=5, flags="-brun")
    assert (one.is_ready, one.beats, one.pinned) == (False, True, PinKind.RUN)
    assert InstanceReport(key=1, profile=0, state=InstanceState.PINNED, age_seconds=0.0, threads=5).pinned is None


def test_each_difference_of_settings_is_named() -> None:
    rules = policy(strict(), weighted())
    other = structs.replace(
        rules,
        profiles=tuple(reversed(rules.profiles)),
        targets_seconds={"default": 5.0, "push": None, "pull": 300.0, "own": 7.0},
        pace=structs.replace(rules.pace, tolerance=0.2),
    )
    found = differences(told("w1", 1, rules), told("w2", 1, other))
    assert [(one.setting, one.value, one.leader_value) for one in found] == [
        ("pace.tolerance", "0.2", "0.1"),
        ("targets.own", "7", "60"),
        ("targets.push", "none", "30"),
        ("profiles", "weighted, default-first", "default-first, weighted"),
    ]
    assert sentence(found[0]) == "pace.tolerance is 0.2 on w2 and 0.1 on w1, which leads: w1's holds"
    assert differences(told("w1"), told("w2")) == ()
    cut = structs.replace(told("w2", 1, other), settings=None)
    assert [one.setting for one in differences(told("w1", 1, rules), cut)] == ["", "profiles"]


def test_the_digest_is_of_the_settings_alone() -> None:
    one, other = told("w1", 3, policy()), told("w2", 1, policy(weighted()))
    assert one.digest == other.digest


def test_versions_are_told() -> None:
    at = tick(others=(beat("w2", 1),))
    assert at.machine is not None
    stamped = structs.replace(at.machine, code=CodeStamp(digest="abc", version="4.5.3"))
    at = structs.replace(at, snapshot=structs.replace(at.snapshot, machine=Known(value=stamped)))
    report = report_of(at, HostMemory(), "0.3.0")
    assert (report.fleetd, report.code_version, report.code_digest) == ("0.3.0", "4.5.3", "abc")
