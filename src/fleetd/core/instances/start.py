"""Which numbers may be started, and what keeps the others from it.

Law 6: what a person stopped is not started. A number that failed waits with growing pauses and is given up after a
bounded number of tries; a profile whose instances all fail is held, and only one of them is tried at a time.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import RETRIES_MAX, HostMemory
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import ClampCode, InstanceState, Step
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.policy import Policy, Profile
from fleetd.core.model.worker_settings import instance_digest

Blocked = dict[ClampCode, list[int]]


def start_up_to(
    policy: Policy,
    snapshot: Snapshot,
    profile: Profile,
    own: list[InstanceView],
    current: int,
    goal: int,
    starts_left: int,
    decision: HostDecision,
) -> int:
    """Start the lowest free numbers; returns how many."""
    free, blocked = free_numbers(snapshot, profile, own, decision.memory)
    if current + len(free) < goal:
        _say_blocked(profile, blocked, goal, current + len(free), decision, snapshot.now_seconds)
    count = min(goal - current, starts_left, len(free))
    if count < min(goal - current, len(free)):
        pace = policy.pace
        sentence = f"at most {pace.starts_per_tick} starts a tick and {pace.booting_max} booting at once"
        decision.reasons.say(
            ClampCode.PACE,
            sentence,
            profile.name,
            wanted=min(goal, current + len(free)),
            granted=current + count,
        )
    stopped = tuple(blocked.get(ClampCode.PINNED, ()))
    instead = ", ".join(f"@{n}" for n in stopped)
    for number in free[:count]:
        sentence = f"{profile.name} has {current} of {goal} wanted"
        if instead and goal <= profile.min_instances:
            sentence += f"; takes over for {instead}, stopped by hand, because min is {profile.min_instances}"
            standing_in = {**decision.memory.stands_in, str(number): stopped}
            decision.memory = structs.replace(decision.memory, stands_in=standing_in)
        decision.steps.append(Step(verb="start", number=number, profile=profile.name, sentence=sentence))
        decision.memory = decision.memory.with_start(number, snapshot.now_seconds)
    return count


def free_numbers(
    snapshot: Snapshot, profile: Profile, own: list[InstanceView], memory: HostMemory
) -> tuple[list[int], Blocked]:
    """Numbers that may be started now, lowest first, and what keeps the others from it."""
    now = snapshot.now_seconds
    free: list[int] = []
    blocked: Blocked = {}
    for view in own:
        number = int(view.number)
        if (
            view.state not in {InstanceState.STOPPED, InstanceState.FAILED, InstanceState.PINNED}
            or view.present
        ):
            continue  # a start ordered a moment ago counts as starting, so it isn't given twice
        if view.pinned == "stopped":
            blocked.setdefault(ClampCode.PINNED, []).append(number)
        elif not is_rendered(snapshot, profile, number):
            blocked.setdefault(ClampCode.NOT_RENDERED, []).append(number)
        elif not memory.may_retry(number, now):
            blocked.setdefault(ClampCode.START_FAILED, []).append(number)
        else:
            free.append(number)
    if _all_fail(own, memory, now):
        one_is_tried = any(v.state == InstanceState.STARTING for v in own)
        tried = [n for n in free if str(n) in memory.failures and not one_is_tried][:1]
        blocked.setdefault(ClampCode.START_FAILED, []).extend(n for n in free if n not in tried)
        free = tried
    return free, blocked


def is_rendered(snapshot: Snapshot, profile: Profile, number: int) -> bool:
    """Whether a start would use what is configured; else it would run with old settings, or not at all."""
    if not isinstance(snapshot.machine, Known):
        return True  # systemd tells: the unit asserts that there are settings
    settings = snapshot.machine.value.rendered.get(number)
    return (
        settings is not None
        and settings.profile == profile.name
        and settings.digest == instance_digest(profile)
    )


def _all_fail(own: list[InstanceView], memory: HostMemory, now_seconds: float) -> bool:
    """Two numbers failed, and none has come up since: the next would fail as well."""
    failed = [memory.failures[str(v.number)].last_seconds for v in own if str(v.number) in memory.failures]
    if len(failed) < 2:
        return False
    return not any(v.serves and v.state_age_seconds < now_seconds - max(failed) for v in own)


def _say_blocked(
    profile: Profile, blocked: Blocked, goal: int, reachable: int, decision: HostDecision, now_seconds: float
) -> None:
    left = goal
    for code, numbers in blocked.items():
        names = ", ".join(f"@{n}" for n in sorted(numbers))
        sentences = {
            ClampCode.PINNED: "stopped by hand and kept so",
            ClampCode.NOT_RENDERED: "not rendered as configured: run `systemctl start fleetd-render`",
            ClampCode.START_FAILED: failed_sentence(numbers, decision.memory, now_seconds),
        }
        granted = max(reachable, left - len(numbers))
        decision.reasons.say(code, f"{names} {sentences[code]}", profile.name, wanted=left, granted=granted)
        left = granted
    if left > reachable:
        sentence = "every other number is in use or draining"
        decision.reasons.say(ClampCode.NO_NUMBER_FREE, sentence, profile.name, wanted=left, granted=reachable)


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def failed_sentence(numbers: list[int], memory: HostMemory, now_seconds: float) -> str:
    """Why these are not started now, and what comes next."""
    given_up = [n for n in numbers if memory.given_up(n)]
    if given_up:
        cure = f"`fleetctl release {given_up[0]}`"
        return f"failed {RETRIES_MAX} times and more, so it is given up: cure it, then {cure}"
    known = {n: f for n in numbers if (f := memory.failures.get(str(n))) is not None}
    if not known:
        return "would fail like the others: held"
    number, failure = min(known.items(), key=lambda item: item[1].retry_at_seconds)
    left = max(0.0, failure.retry_at_seconds - now_seconds)
    more = " (the others wait for it)" if len(numbers) > 1 else ""
    return f"failed {times(failure.count)}: {failure.why}; @{number} is tried again in {left:.0f} s{more}"
