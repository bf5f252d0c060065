"""Realistic statuses of what happens to instances: holds, orders, a rollout under way, failures."""

from __future__ import annotations

from msgspec.structs import replace

from fleetd.core.model.facts import HostPressure
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.units import ReplaceCause
from fleetd.core.model.status import ClampStatus, Event, HoldStatus, OverrideStatus, RolloutStatus, Status, WouldStatus
from tests.support.builders.status_healthy import healthy, instance, queue

HOUR = 3600.0


def paused() -> Status:
    """Somebody works on the database and has paused the fleet. Two more orders are in force as well."""
    base = healthy()
    sentence = "paused by root (sudo alice): moving the database; `fleetctl resume` ends it"
    clamps = tuple(
        ClampStatus(
            code=ClampCode.PAUSED,
            profile=p.name,
            before_instances=n,
            after_instances=p.running_instances,
            sentence=sentence,
        )
        for p, n in zip(base.profiles, (4, 1), strict=True)
    )
    return replace(
        base,
        holds=(HoldStatus(kind="pause", sentence=sentence, seconds_left=1.8 * HOUR),),
        overrides=(
            OverrideStatus(kind="pause", what="fleet", sentence="moving the database", seconds_left=1.8 * HOUR),
            OverrideStatus(kind="set", what="pull-first", sentence="2 instances", seconds_left=2500.0),
            OverrideStatus(kind="pin", what="@3", sentence="started by hand", seconds_left=3.2 * HOUR),
            OverrideStatus(kind="pin", what="@6", sentence="stopped by hand", seconds_left=3.9 * HOUR),
        ),
        profiles=tuple(
            replace(p, needed_instances=c.before_instances, clamps=(c,))
            for p, c in zip(base.profiles, clamps, strict=True)
        ),
        instances=(
            *base.instances[:2],
            instance(3, "default-first", 29, state="pinned", note="started by hand, kept 3.2 h more"),
            *base.instances[3:5],
            instance(
                6,
                "default-first",
                None,
                state="pinned",
                megabytes=None,
                age=300.0,
                note="stopped by hand, kept 3.9 h more",
            ),
            *base.instances[6:],
        ),
        clamps=clamps,
        mastodon_version="4.5.2",
        next_sentence="holds until the pause ends in 1.8 h",
    )


def maintenance() -> Status:
    """Somebody has stopped all workers for a while, with the target."""
    base = healthy()
    sentence = (
        "all workers of this host were stopped 12 min ago, with mastodon-sidekiq.target: nothing starts until "
        "`systemctl start mastodon-sidekiq.target`"
    )
    clamps = tuple(
        ClampStatus(code=ClampCode.STOPPED, profile=p.name, before_instances=n, after_instances=0, sentence=sentence)
        for p, n in zip(base.profiles, (4, 1), strict=True)
    )
    return replace(
        base,
        holds=(HoldStatus(kind="stopped", sentence=sentence),),
        profiles=tuple(
            replace(
                p,
                running_instances=0,
                serving_instances=0,
                admitted_instances=0,
                needed_instances=c.before_instances,
                clamps=(c,),
            )
            for p, c in zip(base.profiles, clamps, strict=True)
        ),
        instances=tuple(
            instance(i.number, i.profile, None, state="stopped", megabytes=None, age=None) for i in base.instances
        ),
        clamps=clamps,
        scheduler=replace(
            base.scheduler,
            processes=0,
            where=(),
            unit_state="stopped",
            sentence=f"NO SCHEDULER RUNS, and none is started: {sentence}",
        ),
        next_sentence=f"nothing: {sentence}",
    )


def left_over() -> Status:
    """A reload took a number and a whole profile away; what runs of them finishes its jobs."""
    base, note = healthy(), "fleetd.toml names it no more; "
    leaves = f"{note}3 jobs left, stop at the latest in 540 s"
    return replace(
        base,
        profiles=(replace(base.profiles[0], max_instances=4), *base.profiles[1:]),
        instances=(
            *base.instances[:3],
            replace(
                instance(5, "default-first", 3, state="draining", note=leaves),
                configured=False,
            ),
            *(i for i in base.instances if i.profile != "default-first"),
            replace(instance(21, "relay", 8, state="outdated", note=f"{note}to be drained"), configured=False),
            replace(instance(22, "relay", None, state="stopping", note=f"{note}to be drained"), configured=False),
        ),
    )


def upgrade() -> Status:
    """Mastodon's code was replaced under the running workers, while a queue becomes late."""
    base = healthy()
    sentence = (
        "Mastodon's code on disk (4.5.3) is not what runs: nothing starts or stops until `fleetctl restart` (one at"
        " a time) or `fleetctl resume`"
    )
    clamp = ClampStatus(
        code=ClampCode.UPGRADE,
        profile="default-first",
        before_instances=5,
        after_instances=3,
        sentence=sentence,
    )
    return replace(
        base,
        holds=(HoldStatus(kind="upgrade", sentence=sentence),),
        queues=(queue("default", 21.0, 15, 2_120, 178, 240.0), *base.queues[1:]),
        profiles=(replace(base.profiles[0], needed_instances=5, clamps=(clamp,)), base.profiles[1]),
        clamps=(clamp,),
        mastodon_version="4.5.3",
        next_sentence="waits for fleetctl restart or fleetctl resume",
    )


def rolling() -> Status:
    """`fleetctl restart` is at the third of five instances, with a spare beside it; one is still outdated."""
    base = healthy()
    return replace(
        base,
        rollout=RolloutStatus(
            cause=ReplaceCause.RESTART,
            total_instances=5,
            done_instances=2,
            current="@2",
            sentence="drains, 3 jobs left; stopped in 9 min at the latest",
        ),
        instances=(
            instance(1, "default-first", 34, state="outdated", megabytes=1812, note="runs older settings"),
            instance(2, "default-first", 3, state="draining", note="3 jobs left, stop at the latest in 540 s"),
            instance(3, "default-first", 29, megabytes=424, age=240.0),
            instance(4, "default-first", 31, megabytes=310, age=40.0),
            *base.instances[4:],
        ),
        clamps=(
            ClampStatus(code=ClampCode.ROLLING, sentence="mastodon-sidekiq@2 is being replaced: restart"),
            *base.clamps,
        ),
        mastodon_version="4.5.3",
        last_events=(Event(age_seconds=40.0, sentence="Started mastodon-sidekiq@4 in place of @2."),),
        next_sentence="stops mastodon-sidekiq@2 once its 3 jobs are done",
    )


def sick() -> Status:
    """A bad deployment on a starved host: one instance fails at each start, one is silent, one won't quiet."""
    base = healthy()
    clamps = (
        ClampStatus(
            code=ClampCode.START_FAILED,
            profile="default-first",
            before_instances=4,
            after_instances=3,
            sentence="@4 failed 3 times: tried again in 8 min",
        ),
        ClampStatus(
            code=ClampCode.HOST_PRESSURE,
            profile="pull-first",
            before_instances=3,
            after_instances=2,
            sentence="this host stood still for memory 14% of the last minute (pressure.memory_max 10%)",
        ),
    )
    return replace(
        base,
        profiles=(
            replace(base.profiles[0], admitted_instances=4, needed_instances=4, clamps=clamps[:1]),
            replace(base.profiles[1], needed_instances=3, clamps=clamps[1:]),
        ),
        instances=(
            instance(1, "default-first", 34, megabytes=812),
            instance(
                2,
                "default-first",
                31,
                state="undrainable",
                note="it was told to quiet three beats ago, and goes on",
            ),
            instance(
                3,
                "default-first",
                None,
                state="unresponsive",
                age=420.0,
                note="no heartbeat for 7 min while the others beat; stopped once Redis takes writes",
            ),
            instance(
                4,
                "default-first",
                None,
                state="failed",
                megabytes=None,
                age=70.0,
                note="exit status 1, 3 times in a row; tried again in 8 min",
            ),
            *base.instances[4:],
        ),
        rollout=RolloutStatus(
            cause=ReplaceCause.RESTART,
            total_instances=5,
            done_instances=1,
            current="",
            sentence="mastodon-sidekiq@4 failed: the others are left as they are; mend it, then `fleetctl restart`",
            ended="given_up",
        ),
        clamps=clamps,
        pressure=HostPressure(memory_stalled_share=0.14, cpu_waiting_share=0.66),
        next_sentence="tries mastodon-sidekiq@4 again in 8 min",
    )


def observing() -> Status:
    """fleetd only observes, beside a fleet that is too small."""
    base = healthy()
    first, second = base.profiles
    return replace(
        base,
        mode="observe",
        profiles=(replace(first, running_instances=2, serving_instances=2), second),
        would=(
            WouldStatus(
                verb="start",
                keys=(InstanceKey(3), InstanceKey(4)),
                why="default-first has 2 of 4 wanted",
                profile="default-first",
            ),
            WouldStatus(verb="replace", keys=(InstanceKey(1),), why="its settings changed; one at a time"),
        ),
        next_sentence="only observes, and would start more of default-first: 2 of 4 run",
    )


def rolled() -> Status:
    """A restart that ended well a while ago."""
    return replace(
        healthy(),
        rollout=RolloutStatus(
            cause=ReplaceCause.RESTART,
            total_instances=5,
            done_instances=5,
            current="",
            sentence="all run Mastodon 4.5.3",
            ended="done",
        ),
        mastodon_version="4.5.3",
    )
