"""From needed to desired counts: tolerance, hold window, pins, min and max.

Law 3 is kept here: while the latency is unknown, the desired count is what runs, or `min` if that is more. A queue that
can't be read, or an instance that runs without a heartbeat, keeps its profiles from shrinking: the work there is
unknown, not zero. Law 6 is kept here too: an instance that a person stopped or quieted is not replaced by another,
unless the count would fall below `min`, and one that a person started does not make another one stop.

The hold window keeps the highest count desired in the last minutes, so that a fleet shrinks more slowly than it grows.
It is the stabilisation window of the Kubernetes HPA (autoscaling/v2, `behavior.scaleDown`).
"""

from __future__ import annotations

import math

from fleetd.core.demand.needed import Needed
from fleetd.core.fleet.orders import set_heard
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamps
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import PacePolicy, Profile

#: Readings further apart than this many ticks leave a gap: what was desired meanwhile is unknown.
GAP_TICKS = 6
#: A profile that has grown does not shrink for this many hold windows: a boot is expensive, and the next wave often
#: comes soon.
SETTLES_HOLDS = 2.0
#: Entries kept of a window. It is a monotonic queue of falling counts, so it rarely has more than a few.
WINDOW_ENTRIES_MAX = 64


class HoldWindow(Value, frozen=True, kw_only=True):
    """Falling counts, each with the time it was last desired, newest last."""

    since_seconds: float  # when the window began
    entries: tuple[tuple[float, int], ...]  # (time, count)
    grew_seconds: float | None = None  # when the profile last grew

    @property
    def highest(self) -> int:
        return self.entries[0][1]

    def covers(self, now_seconds: float, window_seconds: float) -> bool:
        """Whether a whole window has been watched."""
        return now_seconds - self.since_seconds >= window_seconds

    def seconds_left(self, now_seconds: float, window_seconds: float, held: int) -> float:
        """Seconds until the count may fall below `held`."""
        last = max((at for at, count in self.entries if count >= held), default=self.since_seconds)
        return max(0.0, max(last, self.since_seconds) + window_seconds - now_seconds)


def keep_highest(
    window: HoldWindow | None, count: int, now_seconds: float, window_seconds: float, gap_seconds_max: float
) -> HoldWindow:
    """Add a count, and drop entries that are older than the window or no higher than the count.

    After a gap (the host froze, an outage) or a step back of the clock the window begins anew: what was desired
    meanwhile is unknown, and unknown is not low (law 3).
    """
    if window is None or not 0.0 <= now_seconds - window.entries[-1][0] <= gap_seconds_max:
        return HoldWindow(since_seconds=now_seconds, entries=((now_seconds, count),))
    kept = [e for e in window.entries if now_seconds - e[0] < window_seconds and e[1] > count]
    kept = kept[: WINDOW_ENTRIES_MAX - 1]  # keeps the highest
    return HoldWindow(
        since_seconds=window.since_seconds, entries=(*kept, (now_seconds, count)), grew_seconds=window.grew_seconds
    )


def desired_instances(
    tick: HostTick, needed: Needed | None, windows: dict[str, HoldWindow], clamps: Clamps
) -> tuple[dict[str, int], dict[str, HoldWindow]]:
    """The desired counts and the new hold windows, by profile. `needed` None: the latency is unknown.

    A profile that is not decided by its need (held, set by a person, latency unknown) gets no window. So the window
    begins anew, and nothing shrinks right after an outage.
    """
    constraints = tick.constraints
    desired: dict[str, int] = {}
    new_windows: dict[str, HoldWindow] = {}
    for profile in tick.policy.profiles:
        name, running = profile.name, tick.running[profile.name]
        if constraints.held is not None:
            before = needed.instances[name] if needed else running
            clamps.add(constraints.held.reason, name, before=before, after=running)
            desired[name] = running
        elif constraints.maintenance is not None:
            desired[name] = _left(tick, profile, needed, running, clamps)
        elif name in constraints.set_instances:
            wanted = reasons.SetByPeople(
                instances=constraints.set_instances[name],
                person=constraints.set_by.get(name),
                whole=name in constraints.set_on_all,
            )
            desired[name] = _as_set(profile, needed, running, wanted, clamps)
        elif tick.policy.observes:  # nothing of its own accord but the replacement of what was let go first
            desired[name] = running + (constraints.unavailable_in == name)
        elif needed is None:
            clamps.add(reasons.LatencyUnknown(), name)
            desired[name] = _Count(profile, running, running, clamps).at_least_min(_least(tick, profile)).count
        elif not tick.fleet.alone:
            desired[name] = _as_planned(tick, profile, needed, running, clamps)
        else:
            running += constraints.unavailable_in == name  # its replacement will come, so it counts as running
            desired[name], new_windows[name] = _by_need(tick, profile, needed, running, windows.get(name), clamps)
    return desired, new_windows


def _as_planned(tick: HostTick, profile: Profile, needed: Needed, running: int, clamps: Clamps) -> int:
    """What the leader wants here. Without its plan only `min` is restored (law 3).

    Law 6: less than `min` where a person set how many all hosts are to have together.
    """
    share, leader = (tick.fleet.shares or {}).get(profile.name), tick.fleet.leader
    before = needed.instances[profile.name]
    if share is None:
        after = max(running, _least(tick, profile))
        reply = tick.fleet.reply
        why: reasons.ClampReason = reasons.PlanMissing(leader=leader, fault=tick.fleet.plan_fault)
        if reply is not None and reply.gathering is not None:
            why = reasons.FleetGathers(waits_for=tuple(host for host in reply.gathering if host))
        clamps.add(why, profile.name, before=before, after=after)
        return after
    for clamp in share.clamps:
        clamps.add(clamp.reason, profile.name, before=clamp.before_instances, after=clamp.after_instances)
    is_set = any(isinstance(c.reason, reasons.SetByPeople) and c.reason.whole for c in share.clamps)
    low = 0 if is_set else profile.min_instances
    after, planned = min(max(share.desired_instances, low), profile.max_instances), share
    if after != planned.desired_instances:
        why = reasons.PlannedByLeader(leader=leader)
        clamps.add(why, profile.name, before=planned.desired_instances, after=after)
    return after


def _least(tick: HostTick, profile: Profile) -> int:
    """What this host starts without a plan: `min`, unless a person wants fewer on all hosts together."""
    on_all = set_heard(tick.fleet, profile.name, "", tick.now_seconds)
    return profile.min_instances if on_all is None else min(profile.min_instances, on_all.order.instances or 0)


def _left(tick: HostTick, profile: Profile, needed: Needed | None, running: int, clamps: Clamps) -> int:
    """What stays of a host in maintenance: what the leader's plan leaves, what people pinned; never more than runs.

    Without a plan nothing ends (law 3), but where this host is the only one and a person said so.
    """
    maintenance = tick.constraints.maintenance
    share = (tick.fleet.shares or {}).get(profile.name)
    before, after = needed.instances[profile.name] if needed is not None else running, running
    if share is not None and not tick.fleet.alone and needed is not None:
        for clamp in share.clamps:
            clamps.add(clamp.reason, profile.name, before=clamp.before_instances, after=clamp.after_instances)
        before, after = share.desired_instances, share.desired_instances
    elif tick.fleet.alone and tick.constraints.last_may_go and needed is not None and not tick.policy.observes:
        after = 0
    after = min(running, max(after, tick.kept_by_hand[profile.name]))
    if maintenance is not None and after != before:
        clamps.add(maintenance.reason, profile.name, before=before, after=after)
    return after


def _as_set(profile: Profile, needed: Needed | None, running: int, wanted: reasons.SetByPeople, clamps: Clamps) -> int:
    """A person's count; but while Redis is unknown nothing stops, because a drain could not be watched."""
    before, set_to = needed.instances[profile.name] if needed else running, wanted.instances
    clamps.add(wanted, profile.name, before=before, after=set_to)
    if needed is None and set_to < running:
        clamps.add(reasons.SetWhileLatencyUnknown(), profile.name, before=set_to, after=running)
        return running
    return set_to


def _by_need(
    tick: HostTick, profile: Profile, needed: Needed, running: int, before: HoldWindow | None, clamps: Clamps
) -> tuple[int, HoldWindow]:
    pace, now = tick.policy.pace, tick.now_seconds
    own = [v for v in tick.active if v.profile == profile.name]
    silent = tuple(v.key for v in own if v.lacks_heartbeat)
    pins = [v.pinned for v in own if v.pinned is not None]
    count = _Count(profile, needed.instances[profile.name], running, clamps)
    count.within_tolerance(pace, needed).at_least_min()
    count.known(needed, silent).in_time(needed)
    gap = GAP_TICKS * pace.tick_seconds
    window = keep_highest(before, count.count, now, pace.hold_down_seconds, gap)
    count.held_down(pace, window, now)
    count.not_replaced(len(pins) - pins.count(reasons.PinKind.RUN)).at_most_max()
    count.not_made_up_for(pins.count(reasons.PinKind.RUN))
    return count.count, window


class _Count:
    """The count of one profile on its way from needed to desired. Each method may change it, and adds a clamp if so."""

    def __init__(self, profile: Profile, count: int, running: int, clamps: Clamps) -> None:
        self.profile = profile
        self.count = count
        self.running = running
        self._clamps = clamps

    def _becomes(self, count: int, reason: reasons.ClampReason) -> _Count:
        if count != self.count:
            self._clamps.add(reason, self.profile.name, before=self.count, after=count)
            self.count = count
        return self

    def within_tolerance(self, pace: PacePolicy, needed: Needed) -> _Count:
        """Keep the present size while the need is within the tolerance band around it."""
        name, full = self.profile.name, self.profile.threads * pace.utilisation
        load = needed.profile_threads[name] / full
        if self.count > self.running:
            near = load <= self.running * (1 + pace.tolerance)
            after = self.running if near else self.count
            return self._becomes(after, reasons.WithinTolerance(tolerance=pace.tolerance))
        # The lower of both means decides shrinking: a falling load counts at once, a short peak does not count.
        steady = needed.steady_threads[name] / full
        roomy = math.ceil(min(load, steady) * (1 + pace.tolerance) - 1e-9)
        started_again = math.ceil(load / (1 + pace.tolerance) - 1e-9)  # with fewer, the next tick would start one
        after = min(self.running, max(roomy, started_again))
        return self._becomes(after, reasons.ShrinksByTheMean(tolerance=pace.tolerance))

    def at_least_min(self, low: int | None = None) -> _Count:
        """`low`: where it is not the profile's min."""
        low = self.profile.min_instances if low is None else low
        return self._becomes(max(self.count, low), reasons.AtMin(min_instances=low))

    def at_most_max(self) -> _Count:
        high = self.profile.max_instances
        return self._becomes(min(self.count, high), reasons.AtMax(max_instances=high))

    def known(self, needed: Needed, silent: tuple[InstanceKey, ...]) -> _Count:
        """Don't shrink while a queue or a heartbeat can't be read: the work there is unknown."""
        unread = tuple(sorted(q for q, _ in self.profile.queues if q in needed.unread_queues))
        if self.count < self.running and unread:
            self._becomes(self.running, reasons.QueuesUnreadable(queues=unread))
        elif self.count < self.running and silent:
            self._becomes(self.running, reasons.HeartbeatsMissing(keys=silent))
        if needed.complete:
            return self
        # A process whose heartbeat is garbled may do half the work, or none: nothing moves except up to min.
        return self._becomes(max(self.running, self.profile.min_instances), reasons.HeartbeatGarbled())

    def in_time(self, needed: Needed) -> _Count:
        """Don't shrink while a queue of the profile is late, however small its need looks."""
        late = tuple(queue for queue, _ in self.profile.queues if queue in needed.late_queues)
        if self.count >= self.running or not late:
            return self
        return self._becomes(self.running, reasons.QueuesLate(queues=late))

    def held_down(self, pace: PacePolicy, window: HoldWindow, now_seconds: float) -> _Count:
        """Don't shrink below what was desired within the hold window, nor soon after the profile has grown."""
        if self.count >= self.running:
            return self
        grew, settles = window.grew_seconds, SETTLES_HOLDS * pace.hold_down_seconds
        if grew is not None and 0.0 <= now_seconds - grew <= settles:
            return self._becomes(self.running, reasons.JustGrew(left_seconds=settles - (now_seconds - grew)))
        seconds = pace.hold_down_seconds
        held = min(self.running, window.highest) if window.covers(now_seconds, seconds) else self.running
        left = window.seconds_left(now_seconds, seconds, held)
        reason = reasons.WithinHoldWindow(window_seconds=seconds, left_seconds=left)
        return self._becomes(max(self.count, held), reason)

    def not_replaced(self, by_hand: int) -> _Count:
        """Don't replace instances that people stopped or quieted. Don't stop others because of them either."""
        if not by_hand or self.count <= self.running:
            return self
        after = min(self.count, max(self.running, self.profile.min_instances, self.count - by_hand))
        return self._becomes(after, reasons.TakenAwayByHand(instances=by_hand))

    def not_made_up_for(self, by_hand: int) -> _Count:
        """Add instances that people started to what is needed."""
        after = max(self.count, min(self.running, self.count + by_hand))
        return self._becomes(after, reasons.AddedByHand(instances=by_hand))
