"""What a rollout replaces and in which order, and which instance goes first when there are too many."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.carry_out import carry_out
from fleetd.core.instances.host_memory import HostMemory, UnitMemory, Watch
from fleetd.core.instances.host_tick import HostConstraints, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.outdated import changes_of, outdated_for, replace_causes
from fleetd.core.instances.rollout import begin
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.core.model.decision import Plan
from fleetd.core.model.facts import HostFacts, RunningJob, UnitFacts
from fleetd.core.model.identity import SCHEDULER, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy, SchedulerPolicy
from fleetd.core.model.reasons.scheduler import SchedulerNeverHere
from fleetd.core.model.reasons.units import Change, ReplaceCause
from fleetd.core.model.worker_settings import instance_digest
from tests.support.builders.decisions import planned
from tests.support.builders.readings import (
    AWAY,
    machine,
    process,
    sidekiq,
    snapshot,
    systemd,
    tag,
    tick_of,
    unit,
)
from tests.support.world.ports import policy, strict, weighted

NOW = 10_000.0
RULES = policy(strict(numbers="1-8"), pace=PacePolicy(drains_per_tick=8))
ONE = InstanceKey(1)
DIGEST = instance_digest(RULES.profiles[0])


# -- victims


def victim(
    key: int, *, busy: int = 0, replace: ReplaceCause | None = None, jobs: tuple[RunningJob, ...] = ()
) -> InstanceView:
    beat = structs.replace(
        process(tag(key), pid=key, busy=busy),
        jobs=jobs,
    )
    shot = snapshot(RULES, redis=sidekiq(processes=(beat,)), units=systemd({key: unit(pid=key)}))
    return structs.replace(view_in(tick_of(RULES, shot), key), replace=replace)


def view_in(tick: HostTick, key: int) -> InstanceView:
    view = tick.view(InstanceKey(key))
    assert view is not None
    return view


def stepped(views: tuple[InstanceView, ...], plan: Plan, memory: HostMemory) -> list[InstanceKey]:
    """The keys for which steps are ordered, in order, when these are all the instances."""
    shot = snapshot(RULES, now=NOW, redis=sidekiq(), units=systemd())
    tick = HostTick(policy=RULES, snapshot=shot).seeing(views).under(HostConstraints())
    decision = carry_out(tick, plan, SchedulerDecision(state=SchedulerNeverHere()), memory)
    return [s.key for s in decision.steps]


def test_the_instance_whose_loss_costs_least_goes_first() -> None:
    old, young = RunningJob(jid="export", run_age_seconds=7000.0), RunningJob(jid="new", run_age_seconds=3.0)
    boots = snapshot(RULES, redis=sidekiq(), units=systemd({1: unit("activating", age=5.0)}))
    views = (
        view_in(tick_of(RULES, boots), 1),
        victim(2, busy=1, jobs=(RunningJob(jid="again", run_age_seconds=5.0),)),
        victim(3, busy=1, jobs=(old,)),
        victim(4, busy=3, jobs=(young,)),
        victim(5, busy=1, jobs=(young,)),
        victim(6, busy=5, replace=ReplaceCause.MEMORY),
        victim(7, busy=5, replace=ReplaceCause.OUTDATED),
    )
    memory = HostMemory(pushed_back={"again": NOW - 3600.0})
    assert stepped(views, planned(0), memory) == [1, 7, 6, 5, 4, 3, 2]


def test_after_a_day_a_pushed_back_job_counts_like_any_other() -> None:
    again = RunningJob(jid="again", run_age_seconds=5.0)
    views = (victim(1, busy=2), victim(2, busy=1, jobs=(again,)))
    memory = HostMemory(pushed_back={"again": NOW - 86_401.0})
    assert stepped(views, planned(1), memory) == [2]


# -- order of a rollout


def test_the_least_important_profile_is_the_canary_and_the_scheduler_last() -> None:
    rules = policy(strict(numbers="1-2"), weighted(numbers="7-8"), scheduler=SchedulerPolicy(place="here"))
    units = systemd({n: unit(pid=n) for n in (1, 2, 7, 8)}, unit(pid=9))
    tick = tick_of(rules, snapshot(rules, redis=sidekiq(), units=units))
    rollout = begin(rules, list(tick.active), ReplaceCause.RESTART, NOW)
    assert list(rollout.left) == [7, 8, 1, 2, SCHEDULER]


# -- outdated


def host(*, unit_digest: str = "u1", rendered: str = DIGEST) -> HostFacts:
    facts = machine(RULES)
    settings = {n: structs.replace(r, digest=rendered) for n, r in facts.rendered.items()}
    return structs.replace(facts, unit_digests={TEMPLATE_UNIT: unit_digest}, rendered=settings)


def started_with(digest: str | None, own: UnitFacts | None = None) -> InstanceView:
    view = victim(1)
    return structs.replace(view, digest=digest, unit=own or view.unit)


def watched(watch: Watch) -> HostMemory:
    return HostMemory(units=UnitMemory(watches={ONE: watch}))


WATCHED = watched(Watch(invocation_id="", unit_digest="u1", served=True))


@pytest.mark.parametrize(
    ("digest", "facts", "outdated"),
    [
        (DIGEST, host(), False),
        ("0ld0ld00", host(), True),
        (None, host(), False),  # no heartbeat: what it runs with is unknown
        (DIGEST, host(unit_digest="u2"), True),
        (DIGEST, host(unit_digest=""), False),  # the file can't be read
        ("0ld0ld00", host(rendered="0ther000"), False),  # not rendered as configured
    ],
)
def test_an_instance_is_outdated_if_it_runs_with_other_settings_than_rendered(
    digest: str | None, facts: HostFacts, outdated: bool
) -> None:
    target = outdated_for(RULES, started_with(digest), facts, WATCHED)
    assert (target is not None) == outdated


@pytest.mark.parametrize(
    ("digest", "pool", "unit_digest", "file", "started_from", "changes"),
    [
        (DIGEST, 5, "u1", "f1", "f1", ()),
        ("0ld0ld00", 5, "u1", "f1", "f1", (Change.CONFIGURATION,)),
        ("0ld0ld00", 9, "u1", "f1", "f1", (Change.POOL,)),
        (DIGEST, 5, "u2", "f2", "f1", (Change.UNIT_FILE,)),
        (DIGEST, 5, "u2", "f1", "f1", (Change.DROP_IN,)),
        (DIGEST, 5, "u2", "f2", "", (Change.UNIT,)),  # an earlier version did not note it
        ("0ld0ld00", 5, "u2", "f1", "f1", (Change.CONFIGURATION, Change.DROP_IN)),
    ],
)
def test_what_changed_is_known(
    digest: str, pool: int, unit_digest: str, file: str, started_from: str, changes: tuple[Change, ...]
) -> None:
    profile = RULES.profiles[0]
    view = structs.replace(started_with(digest), db_pool=profile.db_pool + pool - 5, threads=profile.threads)
    facts = structs.replace(host(unit_digest=unit_digest), file_digests={TEMPLATE_UNIT: file})
    memory = watched(Watch(invocation_id="", unit_digest="u1", file_digest=started_from, served=True))
    assert changes_of(RULES, view, facts, memory) == changes


def test_a_unit_file_that_systemd_has_not_read_yet_makes_nothing_outdated() -> None:
    unread = structs.replace(unit(pid=1), need_daemon_reload=True)
    assert outdated_for(RULES, started_with(DIGEST, unread), host(unit_digest="u2"), WATCHED) is None


def test_an_instance_is_outdated_only_once_for_each_digest() -> None:
    target = outdated_for(RULES, started_with("0ld0ld00"), host(), WATCHED)
    assert target is not None
    units = structs.replace(WATCHED.units, replaced={ONE: target})
    done = structs.replace(WATCHED, units=units)
    assert outdated_for(RULES, started_with("0ld0ld00"), host(), done) is None
    assert outdated_for(RULES, started_with("0ld0ld00"), host(unit_digest="u2"), done) is not None


def test_five_minutes_over_the_limit_is_a_cause_unless_the_host_is_unknown() -> None:
    def causes(heavy_seconds: float, *, host_known: bool = True) -> dict[InstanceKey, ReplaceCause]:
        since = NOW - heavy_seconds
        memory = watched(Watch(invocation_id="", unit_digest="u1", heavy_since_seconds=since))
        shot = snapshot(RULES, now=NOW, redis=sidekiq(), units=systemd(), host=host())
        shot = shot if host_known else structs.replace(shot, machine=AWAY)
        tick = HostTick(policy=RULES, snapshot=shot).seeing((started_with(DIGEST),))
        return replace_causes(tick, memory)

    assert causes(300.0) == {ONE: ReplaceCause.MEMORY}
    assert causes(299.0) == {}
    assert causes(300.0, host_known=False) == {}
