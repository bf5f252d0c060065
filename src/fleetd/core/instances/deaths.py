"""Ends of our processes that nobody ordered: how many, since when, and what ended them.

systemd restarts what ends by itself and never what it was told to stop, and counts these restarts from the last start
that somebody ordered. So the count tells a death from a stop or restart by fleetd or a person, and has those between
two ticks and those while fleetd was down. Only of the last of them is it known how the process ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from fleetd.core.instances.host_memory import DeathMemory, HostMemory, Life, RecentDeaths
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import EndCause, Ending, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.units import Died, OomKilled
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE

#: How long a death is shown.
RECENT_SECONDS = 3600.0
#: Most deaths of one instance that are remembered (law 7).
RECENT_MAX = 100


def remember_deaths(
    tick: HostTick, memory: HostMemory, looked: HostMemory, killed: Sequence[OomKilled]
) -> tuple[HostMemory, list[Died]]:
    """Fold this tick's deaths into the memory. Returns the memory, and one reason for all that died alike.

    `looked`: the memory before this tick. `killed`: those that health.py knows to be OOM kills, and which it tells.
    """
    if tick.systemd is None:
        return memory, []
    names = {p.name for p in tick.policy.profiles} | {SCHEDULER_PROFILE}
    totals = {name: dict(counts) for name, counts in memory.deaths.totals.items() if name in names}
    recent = _still_recent(memory.deaths.recent, tick.now_seconds)
    lives: dict[InstanceKey, Life] = {}
    alike: dict[tuple[Ending, int], list[InstanceKey]] = {}
    oom = {reason.key for reason in killed}
    for key, unit in sorted(tick.systemd.units.items(), key=_place):
        profile = tick.policy.profile_of(key)
        left_over = memory.left_over.get(key)
        if profile is None and key != SCHEDULER and left_over is None:
            continue
        life = memory.deaths.lives.get(key)
        before = _counted(life, unit, was_down=_was_down(key, memory, looked))
        deaths = max(0, _ended(unit) - before)
        lives[key] = _life(life, unit, before + deaths)
        if not deaths:
            continue
        ending = Ending(cause=EndCause.OOM) if key in oom else unit.ending or Ending(cause=EndCause.UNKNOWN)
        name = profile.name if profile is not None else left_over.profile if left_over else SCHEDULER_PROFILE
        if name in names:  # that of one that is left over may be gone
            _count(totals.setdefault(name, {}), deaths, ending)
        _add(recent, key, deaths, ending, max(0.0, tick.now_seconds - unit.state_age_seconds))
        if key not in oom or deaths > 1:
            alike.setdefault((ending, deaths), []).append(key)
    died = [Died(keys=tuple(keys), deaths=deaths, last=last) for (last, deaths), keys in alike.items()]
    found = DeathMemory(lives=lives, recent=_still_recent(recent, tick.now_seconds), totals=totals)
    return structs.replace(memory, deaths=found), died


def _place(item: tuple[InstanceKey, UnitFacts]) -> tuple[bool, int]:
    """By number, the scheduler last: systemd lists units in no order (law 9)."""
    return item[0] == SCHEDULER, item[0]


def _was_down(key: InstanceKey, memory: HostMemory, looked: HostMemory) -> bool:
    """Whether a unit of which nothing was counted did not run when we last looked, so that all of its count is new."""
    rebooted = looked.boot_id not in ("", memory.boot_id)
    return rebooted or looked.units.seen.get(key) == "inactive"


def _counted(life: Life | None, unit: UnitFacts, *, was_down: bool) -> int:
    """How many deaths were counted before this tick, of the life that the unit is in now."""
    if life is None:
        return 0 if was_down else unit.restarts  # it runs at our first look: nobody knows when those were
    # A process that systemd started by itself has counted. One that has not was ordered.
    same = unit.invocation_id == life.invocation_id or unit.restarts > life.restarts
    return life.deaths if same and unit.restarts >= life.restarts else 0


def _life(life: Life | None, unit: UnitFacts, deaths: int) -> Life:
    if life is not None and life.invocation_id == unit.invocation_id:
        return structs.replace(life, deaths=deaths, restarts=min(life.restarts, unit.restarts))
    # Once systemd has queued a restart it counts it, but the invocation is still that of the process before.
    queued = bool(unit.job) and unit.sub_state in ("auto-restart", "dead")
    return Life(invocation_id=unit.invocation_id, restarts=max(0, unit.restarts - queued), deaths=deaths)


def _ended(unit: UnitFacts) -> int:
    """How many processes of this life have ended by themselves."""
    waits = unit.active_state == "activating" and unit.sub_state == "auto-restart" and not unit.job
    return unit.restarts + int(waits)


def _count(totals: dict[EndCause, int], deaths: int, last: Ending) -> None:
    totals[last.cause] = totals.get(last.cause, 0) + 1
    if deaths > 1:
        totals[EndCause.UNKNOWN] = totals.get(EndCause.UNKNOWN, 0) + deaths - 1


def _add(
    recent: dict[InstanceKey, RecentDeaths], key: InstanceKey, deaths: int, last: Ending, at_seconds: float
) -> None:
    deaths -= last.clean  # no job was lost, and its own program or somebody's `kill` wanted it
    if deaths:
        known = recent.get(key)
        at = ((*known.at_seconds,) if known is not None else ()) + (at_seconds,) * min(deaths, RECENT_MAX)
        recent[key] = RecentDeaths(at_seconds=at[-RECENT_MAX:], last=last)


def _still_recent(recent: dict[InstanceKey, RecentDeaths], now_seconds: float) -> dict[InstanceKey, RecentDeaths]:
    found = {}
    for key, deaths in recent.items():
        at = tuple(a for a in deaths.at_seconds if now_seconds - a < RECENT_SECONDS)
        if at:
            found[key] = structs.replace(deaths, at_seconds=at)
    return found
