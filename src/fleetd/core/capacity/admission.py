"""From desired to admitted counts: what connections, memory and the database allow, and which profile goes first.

Law 2: a count never rises above what the budget known now allows, not even to `min`. When claims exceed the budget, the
counts fall at once, the least important profile first, down to `min`. Law 3: while the headroom is unknown nothing
grows above `min`. While the latency is unknown nothing stops, not even to fit the budget, because a drain could not be
watched. Law 8: every refusal has a reason.

When there is not enough for all, the more important profile wins, but slowly. A profile starves while a queue whose
home it is waits longer than its target, and connections or memory refuse it another instance. After 60 s of that, the
least important profile above its `min` gives up one instance, then one more every 120 s. Meanwhile no less important
profile grows, or the freed resources would go back and forth.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.capacity.budget import ConnectionBudget, SourceBudget, memory_left_bytes
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.saturation import Saturation
from fleetd.core.demand.needed import Needed, home
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.left_over import orphans
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamps, InstanceState
from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Policy, Profile

#: An instance is assumed to have grown to its full size this long after its start.
GROWN_SECONDS = 600.0
#: How long a profile starves before another one gives up an instance, and how long until the next.
STARVING_SECONDS = 60.0
YIELD_EVERY_SECONDS = 120.0
#: Workers that one reason names.
NAMELESS_MAX = 3
#: Refusals for lack of something that another instance could give back.
_SCARCE = frozenset({reasons.ClampCode.CONNECTIONS, reasons.ClampCode.OTHERS_UNATTRIBUTABLE, reasons.ClampCode.MEMORY})


class Limits(Value, frozen=True, kw_only=True):
    """The limits on growth, besides the host's own constraints."""

    budget: ConnectionBudget
    claims: Claims
    saturation: Saturation


class ScarcityMemory(Value, frozen=True, kw_only=True):
    """Which profile starves, since when, and when another profile last gave up an instance."""

    profile: str | None = None
    since_seconds: float = 0.0
    yielded_seconds: float | None = None


class Admitted(Value, frozen=True, kw_only=True):
    """The admitted counts, and the profile that may start a spare."""

    counts: dict[str, int]
    spare: str | None
    scarcity: ScarcityMemory
    stepped_back: bool  # one was let go because the database is saturated
    gives_back: dict[str, int] = {}  # by removed profile: how many of its left over instances go for the budget


def admit(
    tick: HostTick,
    desired: dict[str, int],
    needed: Needed | None,
    limits: Limits,
    scarcity: ScarcityMemory,
    clamps: Clamps,
) -> Admitted:
    """Admit one instance at a time: first every profile's `min`, then the rest by importance, the spare last."""
    constraints, saturation = tick.constraints, limits.saturation
    admission = _Admission(tick, desired, limits, clamps)
    back = tick.policy.profile(constraints.replacement_due_in or "")  # a missing replacement comes before all growth
    if back is not None and admission.counts[back.name] < desired[back.name]:
        admission.counts[back.name] += admission.take_back(back)
    starving = admission.grow(needed)
    scarcity = remember_starving(scarcity, starving, tick.now_seconds)
    stepped_back = False
    lets_go = tick.sidekiq is not None and not tick.policy.observes  # without Redis a drain could not be watched
    if lets_go:
        admission.give_way()
    if lets_go and tick.held is None:
        if constraints.shed is not None:
            admission.let_one_go(reasons.ShedForMemory(shortage=constraints.shed))
        why = saturation.holds or saturation.sign
        if saturation.step_back and why is not None:
            stepped_back = admission.let_one_go(reasons.SteppedBack(saturated=why))
        if may_yield(scarcity, tick.now_seconds) and admission.yield_one(scarcity.profile or ""):
            scarcity = structs.replace(scarcity, yielded_seconds=tick.now_seconds)
    return Admitted(
        counts=admission.counts,
        spare=admission.spare(),
        scarcity=scarcity,
        stepped_back=stepped_back,
        gives_back=admission.gives_back,
    )


def remember_starving(memory: ScarcityMemory, profile: str | None, now_seconds: float) -> ScarcityMemory:
    """Fold in which profile starves now. If the clock has stepped back, its time begins anew."""
    if profile == memory.profile and now_seconds >= memory.since_seconds:
        return memory
    return ScarcityMemory(profile=profile, since_seconds=now_seconds, yielded_seconds=memory.yielded_seconds)


def may_yield(memory: ScarcityMemory, now_seconds: float) -> bool:
    """Whether it is time for another profile to give up an instance."""
    if memory.profile is None or now_seconds - memory.since_seconds < STARVING_SECONDS:
        return False
    last = memory.yielded_seconds
    return last is None or not 0.0 <= now_seconds - last < YIELD_EVERY_SECONDS


def unattributable(source: SourceBudget, budget: ConnectionBudget) -> reasons.OthersUnattributable:
    """Why others' connections can't be told from the workers'."""
    return reasons.OthersUnattributable(
        source=source.source,
        foreign_hosts=budget.foreign_hosts,
        nameless=budget.nameless[:NAMELESS_MAX],
        bound_connections=source.bound_connections,
        others_connections=source.others_connections,
    )


def free_bytes(tick: HostTick) -> int | None:
    """Memory of this host for new instances, less what young ones will still grow to; None: unknown."""
    if tick.machine is None:
        return None
    to_come = [
        max(0, tick.grown_bytes(v.profile) - (v.resident_bytes or 0))
        for v in tick.active
        if v.profile is not None and v.is_capacity
        if v.state == InstanceState.STARTING or v.state_age_seconds < GROWN_SECONDS
    ]
    return memory_left_bytes(tick.policy, tick.machine, to_come)


class _Admission:
    """The counts admitted so far, and the connections, memory and pool still left."""

    def __init__(self, tick: HostTick, desired: dict[str, int], limits: Limits, clamps: Clamps) -> None:
        self.tick = tick
        self.policy: Policy = tick.policy
        self.desired = desired
        self.running = tick.running
        self.counts = {name: min(tick.running[name], goal) for name, goal in desired.items()}
        self.gives_back: dict[str, int] = {}
        self._clamps = clamps
        self._budget, self._claims = limits.budget, limits.claims
        self._saturation = limits.saturation
        self._claimed = limits.claims.total_connections
        self._trial, self._pool_trial = limits.saturation.trial, limits.saturation.pool_trial
        self._pool_left = limits.saturation.pool_left_connections
        self._grown_bytes = {p.name: tick.grown_bytes(p.name) for p in tick.policy.profiles}
        self._left_bytes = free_bytes(tick)

    def grow(self, needed: Needed | None) -> str | None:
        """Grow every profile to `min`, then the rest by importance. Returns the most important profile that starves."""
        starving: Profile | None = None
        for to_min in (True, False):
            for profile in self.policy.profiles:
                name, desired = profile.name, self.desired[profile.name]
                goal = min(desired, profile.min_instances) if to_min else desired
                while self.counts[name] < goal:
                    grows = self.counts[name] >= self.running[name]
                    if starving is not None and not to_min and grows:
                        self._cut(reasons.RoomKeptFor(profile=starving.name), name, desired, self.counts[name])
                        break
                    refused = self._take(profile)
                    if refused is None:
                        self.counts[name] += 1
                        continue
                    if not to_min and starving is None and refused in _SCARCE:
                        starving = profile if self._starves(profile, needed) else None
                    break
        return starving.name if starving is not None else None

    def _cut(self, reason: reasons.ClampReason, name: str, before: int, after: int) -> None:
        self._clamps.add(reason, name, before=before, after=after)

    def _take(self, profile: Profile) -> reasons.ClampCode | None:
        """Set aside what one more instance takes. Returns the code of the refusal; None: it was admitted."""
        count, name = self.counts[profile.name], profile.name
        refusal = self._refusal(profile, below_min=count < profile.min_instances)
        if refusal is None:
            self._taken(profile)
            return None
        self._cut(refusal, name, self.desired[name], count)
        return refusal.code

    def _taken(self, profile: Profile) -> None:
        self._claimed += profile.claim_connections
        self._trial = False
        if self._left_bytes is not None:
            self._left_bytes -= self._grown_bytes[profile.name]
        if self._pool_left is not None:
            self._pool_left -= profile.threads * self._saturation.servers_per_thread
            self._pool_trial = False

    def take_back(self, profile: Profile) -> bool:
        """Set aside what a replacement takes. It is no growth, so memory and cores are not checked."""
        unknown = bool(self._budget.unread) and self.counts[profile.name] >= profile.min_instances
        if unknown or self._lacks_connections(profile):
            return False  # `grow` records the reason when it comes to this profile
        self._taken(profile)
        return True

    def spare(self) -> str | None:
        """The profile that may run one more until the instance it replaces is drained; None: none may."""
        spare = self.policy.profile(self.tick.constraints.spare_for or "")
        if spare is None or self.tick.starts_held is not None:
            return None
        if self.counts[spare.name] != self.running[spare.name]:
            return None
        refusal = self._refusal(spare, below_min=False)
        if refusal is None:
            return spare.name
        self._clamps.add(reasons.NoSpare(refusal=refusal))
        return None

    def _headroom(self) -> int | None:
        return self._budget.headroom_connections(self._claimed)

    def _lacks_connections(self, profile: Profile) -> bool:
        left = self._headroom()
        return left is not None and left < profile.claim_connections

    def _refusal(self, profile: Profile, *, below_min: bool) -> reasons.ClampReason | None:
        if self._lacks_connections(profile):
            return self._short_of_connections(profile, below_min=below_min)
        if below_min:
            return None
        if self._budget.unread:
            return reasons.HeadroomUnknown(unread=self._budget.unread)
        if self._left_bytes is None:
            return reasons.HostMemoryUnknown()
        if self._left_bytes < self._grown_bytes[profile.name]:
            return reasons.NoMemoryLeft()
        return self.tick.constraints.refusal or self._saturated(profile)

    def _saturated(self, profile: Profile) -> reasons.ClampReason | None:
        saturation = self._saturation
        if saturation.holds is not None:
            return saturation.holds
        if saturation.careful is not None and not self._trial:
            return saturation.careful
        if self._pool_left is None:
            return None
        threads = profile.threads * saturation.servers_per_thread
        if self._pool_left >= (threads / 2.0 if self._pool_trial else threads):
            return None
        return reasons.PoolNearlyAtWork(
            pool_connections=saturation.pool_connections,
            needed_connections=threads,
            left_connections=max(0.0, self._pool_left),
        )

    def _short_of_connections(self, profile: Profile, *, below_min: bool) -> reasons.ClampReason | None:
        source = self._budget.tightest(self._claimed)
        if source is None:
            return None
        if source.refused:
            return reasons.ClientsRefused(source=source.source)
        surely = source.budget_connections - self._claimed
        if surely >= profile.claim_connections:  # only the upper bound of others refuses it, which `min` ignores
            return None if below_min else unattributable(source, self._budget)
        return reasons.NoConnectionsLeft(
            source=source.source,
            needed_connections=profile.claim_connections,
            left_connections=max(0, surely),
            limit_connections=source.limit_connections,
            limit_set=source.limit_set,
            reserve_connections=source.reserve_connections,
            others_connections=source.others_connections,
            claimed_connections=self._claimed,
        )

    def _starves(self, profile: Profile, needed: Needed | None) -> bool:
        """Whether a queue whose home it is is late, and less important profiles could free enough connections."""
        late = needed.late_queues if needed is not None else frozenset[str]()
        others = self._yielding(profile)
        if not others or not any(home(self.policy, q).name == profile.name for q in late):
            return False
        given = sum((self.counts[p.name] - p.min_instances) * p.claim_connections for p in others)
        left = self._headroom()
        return left is None or left + given >= profile.claim_connections

    def _yielding(self, starving: Profile) -> list[Profile]:
        """Less important profiles that could give up an instance, the least important first; none set by a person."""
        fixed = self.tick.constraints.set_instances
        below = self.policy.profiles[self.policy.profiles.index(starving) + 1 :]
        return [
            p
            for p in reversed(below)
            if p.name not in fixed and min(self.counts[p.name], self.running[p.name]) > p.min_instances
        ]

    def _one_goes_already(self) -> bool:
        return any(self.counts[name] < self.running[name] for name in self.counts)

    def yield_one(self, name: str) -> bool:
        """Let the least important profile give up an instance for the starving one. Returns whether one does."""
        starving = self.policy.profile(name)
        yielding = self._yielding(starving) if starving is not None else []
        if not yielding or self._one_goes_already():
            return False
        self._let_go(yielding[0], reasons.GivesWay(profile=yielding[0].name, to_profile=name))
        return True

    def let_one_go(self, reason: reasons.ClampReason) -> bool:
        """Let the least important instance go, unless one is going already. Returns whether it does."""
        above = [p for p in reversed(self.policy.profiles) if self.counts[p.name] > p.min_instances]
        if not above or self._one_goes_already():
            return False
        self._let_go(above[0], reason)
        return True

    def _let_go(self, profile: Profile, reason: reasons.ClampReason) -> None:
        before = self.counts[profile.name]
        self.counts[profile.name] = before - 1
        self._cut(reason, profile.name, before, before - 1)

    def give_way(self) -> None:
        """If claims exceed the budget, let the least important instances go until the rest fits, down to `min`.

        First those left over of a profile that was removed: they are nobody's `min`.
        """
        total = self._claims.total_connections
        if self._budget.excess_connections(total, total) <= 0:
            return
        staying = self._claims.staying_connections(self.tick)
        for profile in self.policy.profiles:
            going = max(0, self.running[profile.name] - self.counts[profile.name])
            staying -= going * profile.claim_connections
        staying = self._give_back(total, staying)
        for profile in reversed(self.policy.profiles):
            before, name = self.counts[profile.name], profile.name
            while self._budget.excess_connections(total, staying) > 0 and self.counts[name] > profile.min_instances:
                self.counts[name] -= 1
                staying -= profile.claim_connections
            reason = self._above_budget(total)
            if self.counts[name] < before and reason is not None:
                self._cut(reason, name, before, self.counts[name])

    def _give_back(self, total: int, staying: int) -> int:
        """Let orphans go until the rest fits; none that people keep. Returns the claims that stay then."""
        for view in reversed(orphans(self.tick)):
            if self._budget.excess_connections(total, staying) <= 0:
                break
            name = view.profile or ""
            self.gives_back[name] = self.gives_back.get(name, 0) + 1
            staying -= view.claim_connections
        reason = self._above_budget(total)
        if self.gives_back and reason is not None:
            self._clamps.add(reason)
        return staying

    def _above_budget(self, total: int) -> reasons.ClaimsAboveBudget | None:
        source = self._budget.tightest(total)
        if source is None:
            return None
        return reasons.ClaimsAboveBudget(
            source=source.source, claimed_connections=total, budget_connections=source.budget_connections
        )
