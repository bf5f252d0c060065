"""Which instances are to be replaced, and why: settings, unit file or code of before, too much memory, a restart."""

from __future__ import annotations

from fleetd.core.instances.host_memory import HostMemory, Rollout
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.facts import HostFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import instance_digest, scheduler_digest

#: An instance is replaced once it is over its memory limit for this long.
HEAVY_SECONDS = 300.0


def replace_causes(tick: HostTick, memory: HostMemory) -> dict[InstanceKey, reasons.ReplaceCause]:
    """Which instances are to be replaced, and why."""
    found: dict[InstanceKey, reasons.ReplaceCause] = {}
    rollout, never_here = memory.rollout_under_way, tick.policy.scheduler.place == "elsewhere"
    turn = _whose_turn(tick, rollout)
    restart = rollout if rollout is not None and rollout.cause == reasons.ReplaceCause.RESTART else None
    for view in tick.active:
        watch = memory.units.watches.get(view.key)
        if memory.unfit(view.key) is not None or tick.can_not_return(view):
            continue
        if not view.is_ready or watch is None or (view.key == SCHEDULER and never_here):
            continue  # with place = "elsewhere", a scheduler that a person started would not be started again
        heavy = watch.heavy_since_seconds
        if restart is not None and view.key in (*restart.left, restart.current):
            found[view.key] = reasons.ReplaceCause.RESTART
        elif view.left_over:
            found[view.key] = reasons.ReplaceCause.UNCONFIGURED
        elif view.key == turn or (
            tick.machine is not None and outdated_for(tick.policy, view, tick.machine, memory) is not None
        ):
            found[view.key] = reasons.ReplaceCause.OUTDATED
        elif tick.machine is None or heavy is None:
            continue  # within its memory limit, or its memory is unknown (law 3)
        elif tick.now_seconds - heavy >= HEAVY_SECONDS:
            found[view.key] = reasons.ReplaceCause.MEMORY
    return found


def _whose_turn(tick: HostTick, rollout: Rollout | None) -> InstanceKey | None:
    """The instance that is being replaced for its settings, and is outdated until it is gone; None: none is."""
    view = tick.view(rollout.current) if rollout is not None else None
    if rollout is None or view is None or view.unit is None or rollout.cause != reasons.ReplaceCause.OUTDATED:
        return None
    return view.key if view.unit.invocation_id == rollout.left.get(view.key) else None


def others_are_due(tick: HostTick, rollout: Rollout) -> bool:
    """Whether others are to be replaced by now, while only the scheduler is left and waits until it is old enough."""
    waits = rollout.current == SCHEDULER and isinstance(rollout.waits, reasons.SchedulerTooYoung)
    due = {reasons.ReplaceCause.OUTDATED, reasons.ReplaceCause.UNCONFIGURED}
    own = (v for v in tick.active if v.key != SCHEDULER and v.is_capacity and v.pinned != reasons.PinKind.RUN)
    return waits and tick.starts_held is None and any(v.replace in due for v in own)


def rolls_elsewhere(tick: HostTick, rollout: Rollout | None) -> reasons.RollsElsewhere | None:
    """Why this host does not replace the next instance yet: of several hosts one at a time does, by the leader's plan.

    Without a plan what was begun goes on, and nothing begins.
    """
    fleet, own = tick.fleet, tick.policy.host
    if fleet.alone or fleet.rolls_host == own:
        return None
    begun = rollout is not None and rollout.done_instances > 0
    return None if fleet.shares is None and begun else reasons.RollsElsewhere(host=fleet.rolls_host or "")


def outdated_for(policy: Policy, view: InstanceView, machine: HostFacts, memory: HostMemory) -> str | None:
    """The digest that this instance should run with and does not; None: it does, or that is unknown.

    None as well for one that is left over: nothing else is rendered for it.
    Nothing is outdated while its rendered settings are not as configured: a replacement would be outdated again.
    """
    watch, settings, profile = (
        memory.units.watches.get(view.key),
        machine.rendered.get(view.key),
        policy.profile_of(view.key),
    )
    if view.left_over or settings is None or (profile is not None and settings.profile != profile.name):
        return None
    configured = instance_digest(profile) if profile is not None else scheduler_digest(policy.scheduler)
    unit_digest = machine.unit_digests.get(TEMPLATE_UNIT if profile is not None else SCHEDULER_UNIT, "")
    if settings.digest != configured or watch is None or not changes_of(policy, view, machine, memory):
        return None
    target = f"{settings.digest} {unit_digest}"
    return None if memory.units.replaced.get(view.key) == target else target


def changes_of(
    policy: Policy, view: InstanceView, machine: HostFacts | None, memory: HostMemory
) -> tuple[reasons.Change, ...]:
    """What this instance was started with and is another on disk now; empty: nothing, or that is unknown."""
    watch, profile = memory.units.watches.get(view.key), policy.profile_of(view.key)
    if machine is None or watch is None or view.unit is None:
        return ()
    found: list[reasons.Change] = []
    settings = machine.rendered.get(view.key)
    if settings is not None and view.digest not in {None, settings.digest}:
        wanted = profile or policy.scheduler
        only_pool = view.db_pool not in {None, wanted.db_pool} and view.threads == wanted.threads
        found.append(reasons.Change.POOL if only_pool else reasons.Change.CONFIGURATION)
    unit = TEMPLATE_UNIT if profile is not None else SCHEDULER_UNIT
    now, file = machine.unit_digests.get(unit, ""), machine.file_digests.get(unit, "")
    if now and watch.unit_digest not in {"", now} and not view.unit.need_daemon_reload:
        if not (file and watch.file_digest):
            found.append(reasons.Change.UNIT)
        else:
            found.append(reasons.Change.DROP_IN if file == watch.file_digest else reasons.Change.UNIT_FILE)
    return tuple(found)
