"""From demand to the count wanted of each profile: tolerance, hold window, pins, min and max.

Law 3 lives here: with the latency unknown nothing is wanted but what runs, or `min`; a queue that can't be read, or an
instance that runs without a heartbeat, keeps its profiles from shrinking: what waits or is at work there is unknown and
not zero. So does law 6: what a person stopped or quieted is not replaced by another number, unless `min` would be
broken, and what a person started is not made up for by ending another.

The hold window is the highest want of the last minutes, so that a fleet goes down slower than up: the stabilisation
window of the Kubernetes HPA (autoscaling/v2, `behavior.scaleDown`).
"""

from __future__ import annotations

import math

from fleetd.core.demand.needed import Demand
from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import ClampCode, Clamps
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import PacePolicy, Policy, Profile

#: Readings further apart than this many ticks leave a gap, in which nobody watched what was wanted.
GAP_TICKS = 6
#: What was started stays for so many hold windows: a boot is dear, and the next wave often comes soon.
SETTLES_HOLDS = 2.0


def running(policy: Policy, instances: tuple[InstanceView, ...], terms: HostConstraints) -> dict[str, int]:
    """Instances of each profile that are capacity, now or soon; a spare and the one it replaces are one."""
    counting = [v.profile for v in instances if v.is_capacity]
    return {p.name: max(0, counting.count(p.name) - (terms.doubled == p.name)) for p in policy.profiles}


def want(
    policy: Policy,
    instances: tuple[InstanceView, ...],
    demanded: Demand | None,
    windows: dict[str, HoldWindow],
    now_seconds: float,
    terms: HostConstraints,
    clamps: Clamps,
) -> tuple[dict[str, int], dict[str, HoldWindow]]:
    """Wanted counts and the new windows. `demanded` None: the latency is unknown.

    Then no window is handed back: it begins anew, so nothing goes down right after an outage.
    """
    current = running(policy, instances, terms)
    wanted: dict[str, int] = {}
    new_windows: dict[str, HoldWindow] = {}
    for profile in policy.profiles:
        have, name = current[profile.name], profile.name
        if terms.held is not None:
            raw = demanded.needed_instances[name] if demanded else have
            clamps.say(terms.held.code, terms.held.sentence, name, wanted=raw, granted=have)
            wanted[name] = have
        elif name in terms.sets:
            wanted[name] = _as_set(profile, demanded, have, terms.sets[name], clamps)
        elif demanded is None:
            sentence = "queue latency is unknown: nothing stops, nothing grows above min"
            clamps.say(ClampCode.LATENCY_UNKNOWN, sentence, name)
            wanted[name] = _at_least_min(profile, have, clamps)
        else:
            have += terms.away == name  # it comes back: no reason to do with one less
            wanted[name], new_windows[name] = _by_demand(
                policy, profile, instances, demanded, have, windows.get(name), now_seconds, clamps
            )
    return wanted, new_windows


def _as_set(profile: Profile, demanded: Demand | None, have: int, set_to: int, clamps: Clamps) -> int:
    """A person's count; but while Redis is unknown nothing stops, because a drain could not be watched."""
    raw = demanded.needed_instances[profile.name] if demanded else have
    clamps.say(ClampCode.SET, f"set to {set_to} by fleetctl", profile.name, wanted=raw, granted=set_to)
    if demanded is None and set_to < have:
        sentence = "queue latency is unknown: nothing stops"
        clamps.say(ClampCode.LATENCY_UNKNOWN, sentence, profile.name, wanted=set_to, granted=have)
        return have
    return set_to


def _by_demand(
    policy: Policy,
    profile: Profile,
    instances: tuple[InstanceView, ...],
    demanded: Demand,
    have: int,
    before: HoldWindow | None,
    now_seconds: float,
    clamps: Clamps,
) -> tuple[int, HoldWindow]:
    pace = policy.pace
    asked = _in_tolerance(pace, profile, demanded, have, clamps)
    asked = _at_least_min(profile, asked, clamps)
    own = [v for v in instances if v.profile == profile.name]
    mute = [f"@{v.number}" for v in own if v.lacks_heartbeat]
    asked = _readable(profile, asked, demanded, mute, have, clamps)
    asked = _understood(profile, asked, demanded, have, clamps)
    asked = _in_time(profile, asked, demanded, have, clamps)
    window = keep_highest(before, asked, now_seconds, pace.hold_down_seconds, GAP_TICKS * pace.tick_seconds)
    held = _within_hold_window(pace, profile, asked, have, window, now_seconds, clamps)
    pins = [v.pinned for v in own if v.pinned]
    left = _not_replaced(profile, held, have, len(pins) - pins.count("run"), clamps)
    left = _at_most_max(profile, left, clamps)
    return _not_made_up_for(profile, left, have, pins.count("run"), clamps), window


def _in_tolerance(pace: PacePolicy, profile: Profile, demanded: Demand, have: int, clamps: Clamps) -> int:
    """Within the band around the present size nothing moves."""
    raw = demanded.needed_instances[profile.name]
    load = demanded.profile_threads[profile.name] / (profile.threads * pace.utilisation)
    if raw > have and load <= have * (1 + pace.tolerance):
        sentence = f"no more than {pace.tolerance:.0%} above what runs"
        clamps.say(ClampCode.TOLERANCE, sentence, profile.name, wanted=raw, granted=have)
        return have
    if raw > have:
        return raw
    # A load that falls counts at once, a peak in a steady one does not.
    steady = demanded.steady_threads[profile.name] / (profile.threads * pace.utilisation)
    roomy = math.ceil(min(load, steady) * (1 + pace.tolerance) - 1e-9)
    started_again = math.ceil(
        load / (1 + pace.tolerance) - 1e-9
    )  # with less than this, the next tick would start one
    roomy = min(have, max(roomy, started_again))
    if roomy != raw:
        sentence = f"going down, the mean of the last minutes and {pace.tolerance:.0%} above it count"
        clamps.say(ClampCode.TOLERANCE, sentence, profile.name, wanted=raw, granted=roomy)
    return roomy


def _readable(
    profile: Profile, wanted: int, demanded: Demand, mute: list[str], have: int, clamps: Clamps
) -> int:
    if wanted >= have:
        return wanted
    unread = sorted(q for q, _ in profile.queues if q in demanded.unread_queues)
    if not (unread or mute):
        return wanted
    what = f"{', '.join(unread)} can't be read" if unread else f"{', '.join(mute)} sent no heartbeat to Redis"
    sentence = f"nothing of it stops while {what}"
    clamps.say(ClampCode.LATENCY_UNKNOWN, sentence, profile.name, wanted=wanted, granted=have)
    return have


def _understood(profile: Profile, wanted: int, demanded: Demand, have: int, clamps: Clamps) -> int:
    """A process whose heartbeat is garbage may carry half the work, or none: nothing moves but up to min."""
    kept = max(have, profile.min_instances)
    if demanded.complete or wanted == kept:
        return wanted
    sentence = "a process's heartbeat in Redis can't be understood, so what it does is unknown"
    clamps.say(ClampCode.LATENCY_UNKNOWN, sentence, profile.name, wanted=wanted, granted=kept)
    return kept


def _in_time(profile: Profile, wanted: int, demanded: Demand, have: int, clamps: Clamps) -> int:
    """What helps a queue that waits too long is not let go, however small its need looks."""
    if wanted >= have:
        return wanted
    late = [queue for queue, _ in profile.queues if queue in demanded.late_queues]
    if not late:
        return wanted
    sentence = f"nothing of it stops while {', '.join(late)} waits longer than its target"
    clamps.say(ClampCode.HOLD_WINDOW, sentence, profile.name, wanted=wanted, granted=have)
    return have


def _within_hold_window(
    pace: PacePolicy,
    profile: Profile,
    wanted: int,
    have: int,
    window: HoldWindow,
    now_seconds: float,
    clamps: Clamps,
) -> int:
    if wanted >= have:
        return wanted
    grew = window.grew_seconds
    if grew is not None and 0.0 <= now_seconds - grew <= SETTLES_HOLDS * pace.hold_down_seconds:
        left = SETTLES_HOLDS * pace.hold_down_seconds - (now_seconds - grew)
        sentence = f"it has just grown: nothing of it stops for {left:.0f} s"
        clamps.say(ClampCode.HOLD_WINDOW, sentence, profile.name, wanted=wanted, granted=have)
        return have
    held = min(have, window.highest) if window.covers(now_seconds, pace.hold_down_seconds) else have
    if held > wanted:
        left = window.seconds_left(now_seconds, pace.hold_down_seconds, held)
        sentence = f"needed within the hold window of {pace.hold_down_seconds:.0f} s, {left:.0f} s left"
        clamps.say(ClampCode.HOLD_WINDOW, sentence, profile.name, wanted=wanted, granted=held)
    return held


def _not_replaced(profile: Profile, wanted: int, have: int, by_hand: int, clamps: Clamps) -> int:
    """What people took away is not replaced; what still runs is not taken away for it either."""
    if not by_hand or wanted <= have:
        return wanted
    left = max(have, profile.min_instances, wanted - by_hand)
    if left == wanted:
        return wanted
    sentence = f"{by_hand} stopped or quieted by hand: kept so and not replaced"
    clamps.say(ClampCode.PINNED, sentence, profile.name, wanted=wanted, granted=left)
    return left


def _not_made_up_for(profile: Profile, wanted: int, have: int, by_hand: int, clamps: Clamps) -> int:
    """What people started comes on top of what is needed."""
    kept = min(have, wanted + by_hand)
    if kept <= wanted:
        return wanted
    sentence = f"{by_hand} started by hand: kept so, and no other ends for it"
    clamps.say(ClampCode.PINNED, sentence, profile.name, wanted=wanted, granted=kept)
    return kept


def _at_least_min(profile: Profile, wanted: int, clamps: Clamps) -> int:
    low = profile.min_instances
    if wanted >= low:
        return wanted
    clamps.say(ClampCode.MIN, f"min is {low}", profile.name, wanted=wanted, granted=low)
    return low


def _at_most_max(profile: Profile, wanted: int, clamps: Clamps) -> int:
    high = profile.max_instances
    if wanted <= high:
        return wanted
    clamps.say(ClampCode.MAX, f"max is {high}", profile.name, wanted=wanted, granted=high)
    return high


#: Entries kept; a monotonic queue of falling wants, so it is rarely longer than a few.
WINDOW_ENTRIES_MAX = 64


class HoldWindow(Value, frozen=True, kw_only=True):
    """Falling wants with the time each was last seen, newest last, and since when the window watches."""

    since_seconds: float
    entries: tuple[tuple[float, int], ...]
    grew_seconds: float | None = None  # when it was last to grow

    @property
    def highest(self) -> int:
        return self.entries[0][1]

    def covers(self, now_seconds: float, window_seconds: float) -> bool:
        """Whether a whole window has been watched."""
        return now_seconds - self.since_seconds >= window_seconds

    def seconds_left(self, now_seconds: float, window_seconds: float, held: int) -> float:
        """Until the want may fall below `held`."""
        last = max((at for at, want in self.entries if want >= held), default=self.since_seconds)
        return max(0.0, max(last, self.since_seconds) + window_seconds - now_seconds)


def keep_highest(
    window: HoldWindow | None, want: int, now_seconds: float, window_seconds: float, gap_seconds_max: float
) -> HoldWindow:
    """Add one want; forget those older than the window or no higher than it.

    After a gap (a freeze of the host, an outage) or a step back of the clock the window begins anew: what was wanted
    meanwhile is unknown, and unknown is not low (law 3).
    """
    if window is None or not 0.0 <= now_seconds - window.entries[-1][0] <= gap_seconds_max:
        return HoldWindow(since_seconds=now_seconds, entries=((now_seconds, want),))
    kept = [e for e in window.entries if now_seconds - e[0] < window_seconds and e[1] > want]
    kept = kept[: WINDOW_ENTRIES_MAX - 1]  # the highest stay
    return HoldWindow(
        since_seconds=window.since_seconds,
        entries=(*kept, (now_seconds, want)),
        grew_seconds=window.grew_seconds,
    )
