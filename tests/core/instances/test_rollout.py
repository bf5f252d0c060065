"""What is replaced, in which order, and who goes first where one is too many."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.carry_out import carry_out
from fleetd.core.instances.host_memory import HostMemory, Watch
from fleetd.core.instances.lifecycle import InstanceView, Replace
from fleetd.core.instances.rollout import begin, outdated_for, replace_reasons
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.core.model.decision import TEMPLATE_UNIT
from fleetd.core.model.facts import HostFacts, RunningJob, UnitFacts
from fleetd.core.model.policy import PacePolicy, SchedulerPolicy
from fleetd.core.model.worker_settings import instance_digest
from tests.support.builders.decisions import planned
from tests.support.builders.readings import machine, process, seen, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict, weighted

NOW = 10_000.0
RULES = policy(strict(numbers="1-8"), pace=PacePolicy(drains_per_tick=8))
DIGEST = instance_digest(RULES.profiles[0])


# -- victims


def victim(
    number: int, *, busy: int = 0, replace: Replace = "", jobs: tuple[RunningJob, ...] = ()
) -> InstanceView:
    beat = structs.replace(
        process(tag(number), pid=number, busy=busy),
        jobs=jobs,
        oldest_run_age_seconds=max((j.run_age_seconds for j in jobs), default=None),
    )
    shot = snapshot(RULES, redis=sidekiq(processes=(beat,)), units=systemd({number: unit(pid=number)}))
    return structs.replace(next(v for v in seen(RULES, shot) if v.number == number), replace=replace)


def test_the_one_whose_loss_costs_least_goes_first() -> None:
    old, young = RunningJob(jid="export", run_age_seconds=7000.0), RunningJob(jid="new", run_age_seconds=3.0)
    boots = snapshot(RULES, redis=sidekiq(), units=systemd({1: unit("activating", age=5.0)}))
    views = (
        next(v for v in seen(RULES, boots) if v.number == 1),
        victim(2, busy=1, jobs=(RunningJob(jid="again", run_age_seconds=5.0),)),
        victim(3, busy=1, jobs=(old,)),
        victim(4, busy=3, jobs=(young,)),
        victim(5, busy=1, jobs=(young,)),
        victim(6, busy=5, replace="memory"),
        victim(7, busy=5, replace="outdated"),
    )
    memory = HostMemory(pushed_back={"again": NOW - 3600.0})
    shot = snapshot(RULES, now=NOW, redis=sidekiq(), units=systemd({}))
    decision = carry_out(RULES, shot, views, planned(0), SchedulerDecision(), memory)
    assert [s.number for s in decision.steps] == [1, 7, 6, 5, 4, 3, 2]


def test_after_a_day_a_job_is_a_job_again() -> None:
    again = RunningJob(jid="again", run_age_seconds=5.0)
    views = (victim(1, busy=2), victim(2, busy=1, jobs=(again,)))
    memory = HostMemory(pushed_back={"again": NOW - 86_401.0})
    shot = snapshot(RULES, now=NOW, redis=sidekiq(), units=systemd({}))
    decision = carry_out(RULES, shot, views, planned(1), SchedulerDecision(), memory)
    assert [s.number for s in decision.steps] == [2]


# -- order of a roll


def test_the_least_important_is_the_canary_and_the_scheduler_comes_last() -> None:
    rules = policy(strict(numbers="1-2"), weighted(numbers="7-8"), scheduler=SchedulerPolicy(place="here"))
    units = systemd({n: unit(pid=n) for n in (1, 2, 7, 8)}, unit(pid=9))
    views = list(seen(rules, snapshot(rules, redis=sidekiq(), units=units)))
    roll = begin(rules, views, "restart", NOW)
    assert roll is not None
    assert list(roll.left) == ["7", "8", "1", "2", "scheduler"]
    assert begin(rules, [], "restart", NOW) is None


# -- outdated


def host(*, unit_digest: str = "u1", rendered: str = DIGEST) -> HostFacts:
    facts = machine(RULES)
    settings = {n: structs.replace(r, digest=rendered) for n, r in facts.rendered.items()}
    return structs.replace(facts, unit_digests={TEMPLATE_UNIT: unit_digest}, rendered=settings)


def started_with(digest: str, own: UnitFacts | None = None) -> InstanceView:
    view = victim(1)
    return structs.replace(view, digest=digest, unit=own or view.unit)


WATCHED = HostMemory(watches={"1": Watch(invocation_id="", unit_digest="u1", served=True)})


@pytest.mark.parametrize(
    ("digest", "facts", "outdated"),
    [
        (DIGEST, host(), False),
        ("0ld0ld00", host(), True),
        ("", host(), False),  # no heartbeat: what it runs with is unknown
        (DIGEST, host(unit_digest="u2"), True),
        (DIGEST, host(unit_digest=""), False),  # the file can't be read
        ("0ld0ld00", host(rendered="0ther000"), False),  # not rendered as configured
    ],
)
def test_outdated(digest: str, facts: HostFacts, outdated: bool) -> None:
    assert bool(outdated_for(RULES, started_with(digest), facts, WATCHED)) == outdated


def test_a_unit_file_that_systemd_has_not_read_yet_is_no_reason() -> None:
    unread = structs.replace(unit(pid=1), need_daemon_reload=True)
    assert outdated_for(RULES, started_with(DIGEST, unread), host(unit_digest="u2"), WATCHED) == ""


def test_once_per_digest() -> None:
    target = outdated_for(RULES, started_with("0ld0ld00"), host(), WATCHED)
    done = structs.replace(WATCHED, replaced={"1": target})
    assert outdated_for(RULES, started_with("0ld0ld00"), host(), done) == ""
    assert outdated_for(RULES, started_with("0ld0ld00"), host(unit_digest="u2"), done) != ""


def test_heavy_for_five_minutes_is_a_reason_and_an_unknown_host_is_none() -> None:
    watch = Watch(invocation_id="", unit_digest="u1", heavy_since_seconds=NOW - 300.0)
    memory = HostMemory(watches={"1": watch})
    shot = snapshot(RULES, now=NOW, redis=sidekiq(), units=systemd({}), host=host())
    assert replace_reasons(RULES, shot, (started_with(DIGEST),), memory) == {"1": "memory"}
    later = structs.replace(watch, heavy_since_seconds=NOW - 299.0)
    assert replace_reasons(RULES, shot, (started_with(DIGEST),), HostMemory(watches={"1": later})) == {}
