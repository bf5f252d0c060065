"""From the counts wanted to the counts granted: database connections, memory, who is more important (laws 2 and 3).

Law 2: a count never rises above what the budget known at this moment affords, not even to `min`; when the budget is
below the claims, the counts fall at once, the least important profile first, down to `min`. Law 3: with the headroom
unknown nothing grows above `min`; with the latency unknown nothing stops, for the budget's sake neither, because a
drain could not be watched.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.budget import NAMES
from fleetd.core.clamps import Clamps
from fleetd.core.decision import ClampCode
from fleetd.core.demand import Demand
from fleetd.core.facts import Known, Snapshot, Value
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy, Profile
from fleetd.core.room import Means, Room
from fleetd.core.scarcity import (
    SCARCE,
    ScarcityMemory,
    may_yield,
    remember_starving,
    waits_too_long,
    yielding,
)
from fleetd.core.terms import HostTerms
from fleetd.core.want import running


class Granted(Value, frozen=True, kw_only=True):
    """Counts, the profile that gets a spare for start-before-stop ("": none), and who starved."""

    counts: dict[str, int]
    spare: str
    scarcity: ScarcityMemory
    stepped_back: bool = False  # one was let go because the database is the bottleneck


def afford(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    wanted: dict[str, int],
    demanded: Demand | None,
    means: Means,
    scarcity: ScarcityMemory,
    clamps: Clamps,
) -> Granted:
    """One instance at a time, first every profile's min, then by importance, while there is room; the spare last."""
    terms, bottleneck = means.terms, means.bottleneck
    current = running(policy, instances, terms)
    granted = {name: min(current[name], goal) for name, goal in wanted.items()}
    room = Room(policy, snapshot, instances, means)
    back = policy.profile(terms.due)  # first of all what was there a moment ago
    if back is not None and granted[back.name] < wanted[back.name]:
        granted[back.name] += room.take_back(back, granted[back.name])
    starving = _grow(policy, wanted, current, granted, demanded, room, terms, clamps)
    scarcity = remember_starving(scarcity, starving, snapshot.now_seconds)
    watched = isinstance(snapshot.sidekiq, Known)  # a drain that can't be watched is not begun
    stepped_back = False
    if watched:
        _give_way(policy, means, instances, current, granted, clamps)
    if watched and terms.held is None:
        if terms.shed:
            sentence = f"{terms.shed}, and that for a minute and more: the least important goes"
            _let_one_go(policy, granted, current, ClampCode.HOST_PRESSURE, sentence, clamps)
        if bottleneck.step_back:
            sentence = f"{bottleneck.sentence}: the least important goes"
            code = ClampCode.DATABASE_BOTTLENECK
            stepped_back = _let_one_go(policy, granted, current, code, sentence, clamps)
        if may_yield(scarcity, snapshot.now_seconds):
            scarcity = _yield_one(policy, snapshot.now_seconds, scarcity, granted, current, terms, clamps)
    spare = policy.profile(terms.spare_for)
    if spare is None or terms.held is not None or granted[spare.name] != current[spare.name]:
        carried = False
    else:
        carried = room.carries_spare(spare, clamps)
    name = spare.name if carried and spare is not None else ""
    return Granted(counts=granted, spare=name, scarcity=scarcity, stepped_back=stepped_back)


def _grow(
    policy: Policy,
    wanted: dict[str, int],
    current: dict[str, int],
    granted: dict[str, int],
    demanded: Demand | None,
    room: Room,
    terms: HostTerms,
    clamps: Clamps,
) -> str:
    """Every profile's min, then the rest by importance; the most important that starves ("": none)."""
    starving: Profile | None = None
    for floor in (True, False):
        for profile in policy.profiles:
            name = profile.name
            goal = min(wanted[name], profile.min_instances) if floor else wanted[name]
            while granted[name] < goal:
                if starving is not None and not floor and granted[name] >= current[name]:
                    sentence = (
                        f"what room there is is kept for {starving.name}, which is more important and late"
                    )
                    clamps.say(ClampCode.YIELD, sentence, name, wanted=wanted[name], granted=granted[name])
                    break
                refused = room.take(profile, granted[name], wanted[name], clamps)
                if refused is None:
                    granted[name] += 1
                    continue
                hungry = not floor and starving is None and refused in SCARCE
                if hungry and waits_too_long(policy, profile, demanded):
                    others = yielding(policy, profile, granted, current, frozenset(terms.sets))
                    starving = profile if _could_help(profile, others, granted, room) else None
                break
    return starving.name if starving is not None else ""


def _could_help(profile: Profile, others: list[Profile], granted: dict[str, int], room: Room) -> bool:
    """Whether all that less important ones could give back would carry one more of this."""
    connections = room.connections
    if connections is None:
        return bool(others)
    given = sum((granted[p.name] - p.min_instances) * p.claim_connections for p in others)
    return bool(others) and connections + given >= profile.claim_connections


def _yield_one(
    policy: Policy,
    now_seconds: float,
    scarcity: ScarcityMemory,
    granted: dict[str, int],
    current: dict[str, int],
    terms: HostTerms,
    clamps: Clamps,
) -> ScarcityMemory:
    starving = policy.profile(scarcity.profile)
    if starving is None or any(granted[name] < current[name] for name in granted):
        return scarcity  # one is on its way already
    for profile in yielding(policy, starving, granted, current, frozenset(terms.sets)):
        before = granted[profile.name]
        sentence = f"{starving.name} is more important and late: one of {profile.name} gives way to it"
        clamps.say(ClampCode.YIELD, sentence, profile.name, wanted=before, granted=before - 1)
        granted[profile.name] = before - 1
        return structs.replace(scarcity, yielded_seconds=now_seconds)
    return scarcity


def _let_one_go(
    policy: Policy,
    granted: dict[str, int],
    current: dict[str, int],
    code: ClampCode,
    sentence: str,
    clamps: Clamps,
) -> bool:
    """The least important instance goes, where none is going already."""
    if any(granted[name] < current[name] for name in granted):
        return False
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        if before > profile.min_instances:
            granted[profile.name] = before - 1
            clamps.say(code, sentence, profile.name, wanted=before, granted=before - 1)
            return True
    return False


def _give_way(
    policy: Policy,
    means: Means,
    instances: tuple[InstanceView, ...],
    current: dict[str, int],
    granted: dict[str, int],
    clamps: Clamps,
) -> None:
    """Claims above the budget: let go of the least important until those that stay fit, but keep min."""
    budget, claims = means.budget, means.claims
    total = claims.total_connections
    if budget.excess_connections(total, total) <= 0:
        return  # they fit even if all of them stay
    staying = claims.staying_connections(policy, instances)
    for profile in policy.profiles:
        going = max(0, current[profile.name] - granted[profile.name])
        staying -= going * profile.claim_connections
    for profile in reversed(policy.profiles):
        before = granted[profile.name]
        while budget.excess_connections(total, staying) > 0 and granted[profile.name] > profile.min_instances:
            granted[profile.name] -= 1
            staying -= profile.claim_connections
        if granted[profile.name] < before:
            source = budget.tightest(total)
            where = "" if source is None or source.source == "postgres" else f" of {NAMES[source.source]}"
            left = source.budget_connections if source is not None else 0
            sentence = f"all claims are {total} connections, the budget{where} is {left}: giving way"
            clamps.say(
                ClampCode.CONNECTIONS, sentence, profile.name, wanted=before, granted=granted[profile.name]
            )
