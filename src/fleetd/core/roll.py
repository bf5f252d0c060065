"""Rolling replacement: outdated settings, too much memory, or `fleetctl restart`; one at a time, capacity kept.

Where the budget carries one more, a fresh instance starts on a free number first, and the old one is drained once the
new one's heartbeat is there; else the old one goes first, and only while all others of its profile serve. A
replacement that does not come up ends the roll: what still runs is left alone, whatever it was started with. An
instance is replaced at most once per digest, so a setting that never takes effect makes no loop.

The scheduler is last, and replaced only by stop, gone, start (law 1).
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.decision import SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceState
from fleetd.core.facts import HostFacts, Known, Snapshot
from fleetd.core.host_memory import HostMemory, Roll, unit_name
from fleetd.core.lifecycle import InstanceView, Replace
from fleetd.core.policy import Policy, Profile
from fleetd.core.settings import instance_digest, scheduler_digest

#: Over its memory limit for this long before it is replaced.
HEAVY_SECONDS = 300.0
#: Interval jobs begin anew at each boot of the scheduler: one that boots oftener never runs its slower ones.
SCHEDULER_AGE_SECONDS_MIN = 600.0
#: How long the end of a roll is shown, and keeps a failed one from being tried again by itself.
TOLD_SECONDS = 3600.0


def replace_reasons(
    policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...], memory: HostMemory
) -> dict[str, Replace]:
    """Which instances are to be replaced, and why. What a person pinned to run is left alone, except by `restart`."""
    machine = snapshot.machine.value if isinstance(snapshot.machine, Known) else None
    found: dict[str, Replace] = {}
    roll, never_here = memory.roll, policy.scheduler.place == "elsewhere"
    for view in instances:
        if view.unit is None or not view.ready or (view.number == "scheduler" and never_here):
            continue  # a scheduler that a person started where it belongs elsewhere would not be started again
        key = str(view.number)
        watch = memory.watches.get(key)
        if watch is None:
            continue
        heavy = watch.heavy_since_seconds
        if (
            roll is not None
            and roll.cause == "restart"
            and not roll.ended
            and key in (*roll.left, roll.current)
        ):
            found[key] = "restart"
        elif machine is not None and outdated_for(policy, view, machine, memory):
            found[key] = "outdated"
        elif machine is None or heavy is None:
            continue  # what it weighs now is unknown (law 3)
        elif snapshot.now_seconds - heavy >= HEAVY_SECONDS:
            found[key] = "memory"
    return found


def outdated_for(policy: Policy, view: InstanceView, machine: HostFacts, memory: HostMemory) -> str:
    """The digest that this instance should run with and does not; "": it does, or that can't be said.

    Configuration that is not what is rendered is a hold: nothing is replaced by what would be outdated again.
    """
    key, watch = str(view.number), memory.watches.get(str(view.number))
    if view.number == "scheduler":
        rendered, configured, file = (
            machine.scheduler_digest,
            scheduler_digest(policy.scheduler),
            SCHEDULER_UNIT,
        )
    else:
        settings, profile = machine.rendered.get(view.number), policy.profile_of(view.number)
        if settings is None or profile is None or settings.profile != profile.name:
            return ""
        rendered, configured, file = settings.digest, instance_digest(profile), TEMPLATE_UNIT
    unit_digest = machine.unit_digests.get(file, "")
    if rendered != configured or watch is None or view.unit is None:
        return ""
    started_by = watch.unit_digest or unit_digest
    unit_changed = bool(unit_digest) and unit_digest != started_by and not view.unit.need_daemon_reload
    if not unit_changed and view.digest in {"", rendered}:
        return ""
    target = f"{rendered} {unit_digest}"
    return "" if memory.replaced.get(key) == target else target


def remember_roll(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: HostMemory,
    *,
    held: bool,
) -> tuple[HostMemory, list[str]]:
    """How far the roll is, and what comes next; begins one where something is to be replaced."""
    if instances is None:
        return memory, []
    now, roll = snapshot.now_seconds, memory.roll
    if roll is not None and roll.ended:
        if now - roll.ended_seconds > TOLD_SECONDS:
            return structs.replace(memory, roll=None), []
        if roll.ended == "given_up":
            return memory, []
        roll = None
    if roll is None:
        begun = None if held else _begin(policy, snapshot, instances)
        return (structs.replace(memory, roll=begun), []) if begun is not None else (memory, [])
    before = roll
    roll = _progress(instances, roll, handover=memory.scheduler_handover)
    if _has_failed(policy, memory, before):
        return _give_up(policy, snapshot, instances, memory, roll)
    if not roll.current and roll.left and not roll.away:
        key = next(iter(roll.left))
        roll = structs.replace(roll, current=key, spare="", waits="")
        memory = _mark_replaced(policy, snapshot, instances, memory, key)
    said = []
    if not roll.current and not roll.left and not roll.away:
        roll = structs.replace(roll, ended="done", ended_seconds=now, waits="")
        said = [f"{roll.cause}: {roll.done} of {roll.total} replaced"]
    return (memory if roll == before else structs.replace(memory, roll=roll)), said


def _begin(policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...]) -> Roll | None:
    """A roll of our own: all that is outdated, the least important first, or the heaviest one."""
    due = [v for v in instances if v.replace and v.counts and v.pinned != "run"]
    old = [v for v in due if v.replace == "outdated"]
    heavy = [v for v in due if v.replace == "memory"]
    if old:
        return begin(policy, old, "outdated", snapshot.now_seconds)
    if heavy:
        heaviest = max(heavy, key=lambda v: v.resident_bytes or 0)
        return begin(policy, [heaviest], "memory", snapshot.now_seconds)
    return None


def begin(policy: Policy, chosen: list[InstanceView], cause: Replace, now_seconds: float) -> Roll | None:
    """A roll of these: the least important profile is the canary, the scheduler comes last."""
    if cause == "" or not chosen:
        return None
    rank = {p.name: index for index, p in enumerate(policy.profiles)}
    order = sorted(chosen, key=lambda v: (v.profile == "", -rank.get(v.profile, 0), str(v.number).zfill(5)))
    left = {str(v.number): v.unit.invocation_id if v.unit is not None else "" for v in order}
    return Roll(cause=cause, left=left, total=len(left), since_seconds=now_seconds)


def _has_failed(policy: Policy, memory: HostMemory, roll: Roll) -> bool:
    """Whether something of the profiles it concerns has failed since it began: replacements don't come up."""
    names = {p.name for p in policy.profiles for n in p.numbers if str(n) in (*roll.left, roll.current)}
    names.add(roll.away)
    numbers = {str(n) for p in policy.profiles if p.name in names for n in p.numbers}
    numbers |= {"scheduler"} & set(roll.left)
    return any(f.last_seconds > roll.since_seconds for key, f in memory.failures.items() if key in numbers)


def _progress(instances: tuple[InstanceView, ...], roll: Roll, *, handover: bool) -> Roll:
    """Take off what has gone or was started afresh, by us or by whomever; our scheduler once it is back.

    And what a person has pinned since: the later order holds.
    """
    there = {str(v.number): v for v in instances if v.there}
    left = dict(roll.left)
    done, total = roll.done, roll.total
    for key, invocation in roll.left.items():
        view = there.get(key)
        fresh = view is None or view.unit is None or view.unit.invocation_id != invocation
        if fresh and not (key == "scheduler" and handover):
            del left[key]
            done += 1
        elif view is not None and view.pinned in {"run", "quiet"}:
            del left[key]
            total -= 1
    current = roll.current if roll.current in left else ""
    spare = roll.spare if current else ""
    return structs.replace(roll, left=left, done=done, total=total, current=current, spare=spare)


def _mark_replaced(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    memory: HostMemory,
    key: str,
) -> HostMemory:
    view = next((v for v in instances if str(v.number) == key), None)
    if view is None or not isinstance(snapshot.machine, Known):
        return memory
    target = outdated_for(policy, view, snapshot.machine.value, memory)
    return structs.replace(memory, replaced={**memory.replaced, key: target}) if target else memory


def _give_up(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    memory: HostMemory,
    roll: Roll,
) -> tuple[HostMemory, list[str]]:
    for key in roll.left:
        memory = _mark_replaced(policy, snapshot, instances, memory, key)
    worst = max(memory.failures.items(), key=lambda item: item[1].last_seconds)
    sentence = (
        f"{unit_name(worst[0])} {worst[1].why or 'failed'}: the others run on as they are; "
        "cure it, then `fleetctl restart`"
    )
    if roll.cause == "restart" and roll.code_before:  # new code that does not boot: hold again
        memory = structs.replace(memory, code=roll.code_before)
    ended = structs.replace(
        roll, ended="given_up", ended_seconds=snapshot.now_seconds, current="", waits=sentence
    )
    return structs.replace(memory, roll=ended), [
        f"{roll.cause} given up after {roll.done} of {roll.total}: {sentence}"
    ]


def current_profile(policy: Policy, memory: HostMemory) -> Profile | None:
    """The profile of the one that is being replaced; None: nothing is, or it is the scheduler."""
    roll = memory.roll
    if roll is None or roll.ended or not roll.current.isdecimal():
        return None
    return policy.profile_of(int(roll.current))


def spare_for(policy: Policy, instances: tuple[InstanceView, ...] | None, memory: HostMemory) -> str:
    """The profile that could use one more instance now, and has a number free for it."""
    profile, roll = current_profile(policy, memory), memory.roll
    if profile is None or roll is None or roll.spare or roll.current in memory.drains:
        return ""
    own = [v for v in instances or () if v.profile == profile.name]
    free = [v for v in own if v.state == InstanceState.STOPPED and str(v.number) not in memory.failures]
    return profile.name if free else ""


def doubled(policy: Policy, instances: tuple[InstanceView, ...] | None, memory: HostMemory) -> str:
    """The profile in which a spare runs, or boots, beside the one that it replaces."""
    profile, roll = current_profile(policy, memory), memory.roll
    if profile is None or roll is None or not roll.spare or roll.current in memory.drains:
        return ""
    return profile.name if any(str(v.number) == roll.spare and v.counts for v in instances or ()) else ""


def away(memory: HostMemory) -> str:
    """The profile of which one was let go before its replacement, which does not serve yet."""
    roll = memory.roll
    return roll.away if roll is not None and not roll.ended else ""


def due(memory: HostMemory) -> str:
    """The same, once the one that was let go has ended: starting its replacement is no growth."""
    roll = memory.roll
    return away(memory) if roll is not None and not roll.current else ""
