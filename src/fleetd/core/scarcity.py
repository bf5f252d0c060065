"""Scarcity: when not everyone can have what they want, queues in order of importance win, slowly.

A profile starves while a queue it is there for waits longer than its target and connections or memory refuse it one
more. After a minute of that the least important profile that has more than its min gives one instance up, and one more
every two minutes. Meanwhile none that is less important grows, or what was freed would go back and forth.
"""

from __future__ import annotations

from fleetd.core.decision import ClampCode
from fleetd.core.demand import Demand, home
from fleetd.core.facts import Value
from fleetd.core.policy import Policy, Profile

STARVING_SECONDS = 60.0
YIELD_EVERY_SECONDS = 120.0

#: What another instance gives back.
SCARCE = frozenset({ClampCode.CONNECTIONS, ClampCode.OTHERS_UNATTRIBUTABLE, ClampCode.MEMORY})


class ScarcityMemory(Value, frozen=True, kw_only=True):
    """Who starves, since when, and when another last gave way for it."""

    profile: str = ""
    since_seconds: float = 0.0
    yielded_seconds: float | None = None


def remember_starving(memory: ScarcityMemory, profile: str, now_seconds: float) -> ScarcityMemory:
    """Fold in who starves now ("": nobody). Over a step back of the clock it begins anew."""
    if profile == memory.profile and now_seconds >= memory.since_seconds:
        return memory
    return ScarcityMemory(profile=profile, since_seconds=now_seconds, yielded_seconds=memory.yielded_seconds)


def may_yield(memory: ScarcityMemory, now_seconds: float) -> bool:
    """Whether it is time for another profile to give one up."""
    if not memory.profile or now_seconds - memory.since_seconds < STARVING_SECONDS:
        return False
    last = memory.yielded_seconds
    return last is None or not 0.0 <= now_seconds - last < YIELD_EVERY_SECONDS


def waits_too_long(policy: Policy, profile: Profile, demanded: Demand | None) -> bool:
    """Whether a queue that this profile serves best is late."""
    return demanded is not None and any(home(policy, q).name == profile.name for q in demanded.late_queues)


def yielding(
    policy: Policy, starving: Profile, granted: dict[str, int], current: dict[str, int], fixed: frozenset[str]
) -> list[Profile]:
    """Profiles that could give one up for it, the least important first. `fixed`: whose counts people have set."""
    below = policy.profiles[policy.profiles.index(starving) + 1 :]
    return [
        p
        for p in reversed(below)
        if p.name not in fixed and min(granted[p.name], current[p.name]) > p.min_instances
    ]
