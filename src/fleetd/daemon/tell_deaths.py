"""Tell of deaths: which instances died lately, and how many died of what."""

from __future__ import annotations

from fleetd.core.instances.deaths import RECENT_MAX
from fleetd.core.model.facts import EndCause
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.status import DeathCount, DeathsStatus
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE
from fleetd.daemon.tick import TickResult


def died_lately(key: InstanceKey, result: TickResult) -> DeathsStatus | None:
    """The recent deaths of one instance; None: there were none."""
    recent = result.host.memory.deaths.recent.get(key)
    if recent is None:
        return None
    return DeathsStatus(
        deaths=len(recent.at_seconds),
        at_least=len(recent.at_seconds) >= RECENT_MAX,
        last_age_seconds=max(0.0, result.tick.now_seconds - recent.at_seconds[-1]),
        last=recent.last,
    )


def death_counts(result: TickResult) -> tuple[DeathCount, ...]:
    """Every cause of every profile, so that a rate sees the first one."""
    totals = result.host.memory.deaths.totals
    profiles = (*(p.name for p in result.tick.policy.profiles), SCHEDULER_PROFILE)
    return tuple(
        DeathCount(profile=profile, cause=cause, deaths=totals.get(profile, {}).get(cause, 0))
        for profile in profiles
        for cause in EndCause
    )
