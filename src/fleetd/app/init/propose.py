"""The first configuration, from what was found: a pure function, with the reason of each number as a value.

`min` fits memory and connections; where they allow it, one more instance fits above it. For that threads are lowered
first, then the scheduler's, then profiles are put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import structs

from fleetd.app.init.found import Found
from fleetd.app.init.room import Room, leaving_connections, room
from fleetd.app.init.wishes import Wish, Wishes, merged, wishes
from fleetd.config.access_tables import PROFILES_MAX
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy_tables import (
    CLAIM_MARGIN_CONNECTIONS,
    INSTANCES_MAX,
    SCHEDULER_QUEUE,
    SchedulerPolicy,
)

_THREADS_TRIED = (50, 40, 30, 25, 20, 15, 12, 10, 8, 6, 5)
#: Fewer threads in each of several profiles are worse than fewer profiles.
_THREADS_LEAST = 5
_SCHEDULER_THREADS = (SchedulerPolicy().threads, 5)
#: More instances of one profile nobody has asked for yet.
_PROFILE_INSTANCES_MAX = 16
_MEMORY_UNKNOWN_INSTANCES = 2

Place = Literal["here", "auto", "elsewhere"]
PlaceFrom = Literal["heartbeat", "unit", "alone", "nobody", "unknown"]
Bound = Literal["connections", "memory", "cores", "enough"]


class ProposedProfile(Value, frozen=True, kw_only=True):
    """`numbers`: the first and the last. One more than `max_instances`, so that a replacement can start first."""

    wish: Wish
    threads: int
    claim_connections: int
    min_instances: int
    max_instances: int
    bound: Bound  # what allows no more
    numbers: tuple[int, int]


class Proposal(Value, frozen=True, kw_only=True):
    """`growth_instances`: how many more fit above min, of the first profile."""

    host: str
    fleet_host: str | None  # None: the machine's name is one that fleetd takes
    place: Place
    place_from: PlaceFrom
    place_at: str  # the unit or the host that serves the scheduler now; "": none is known
    scheduler_threads: int
    scheduler_connections: int
    profiles: tuple[ProposedProfile, ...]
    growth_instances: int
    fits: bool  # False: not even one instance's connections are left
    lacking_connections: int  # for one more instance, or for the first one; 0: none lack
    short_connections: int  # that the old and the new workers need together, while fleetd takes over; 0: both fit
    room: Room
    wishes: Wishes
    found: Found


class _Fit(Value, frozen=True, kw_only=True):
    profiles: tuple[Wish, ...]
    threads: int
    scheduler_threads: int
    always: int  # so many profiles have min = 1
    left_connections: int  # above one instance of each profile
    pool: int | None

    def claim_connections(self, wish: Wish) -> int:
        return _claim(min(wish.threads, self.threads), self.pool)

    def limits(self, there: Room, holds: int, wish: Wish) -> dict[Bound, int]:
        """Instances of a profile that fit above the min of all, by what limits them."""
        unused = sum(map(self.claim_connections, self.profiles[max(1, self.always) :]))
        # Where more profiles run than there are cores, they did so before: pressure.cpu_max watches over one more.
        cores = max(1, there.core_instances - self.always) if there.core_instances > 1 else 0
        return {
            "connections": (self.left_connections + unused) // self.claim_connections(wish),
            "memory": holds - self.always,
            "cores": cores,
        }


def propose(found: Found) -> Proposal:
    """The configuration. Never raises: what is not known has a safe value."""
    wanted = wishes(found)
    place, place_from, place_at = _scheduler(found, wanted)
    there = room(found, scheduler=place != "elsewhere")
    holds = there.memory.instances if there.memory is not None else _MEMORY_UNKNOWN_INSTANCES
    fit = _fit(wanted, there, holds, found.servers.workers_pool, scheduler=place != "elsewhere")
    profiles = tuple(_profiles(fit, there, holds))
    wanted_connections = profiles[0].claim_connections if fit.always else 0
    scheduler_connections = _claim(fit.scheduler_threads, fit.pool) if place != "elsewhere" else 0
    at_min = scheduler_connections + sum(p.min_instances * p.claim_connections for p in profiles)
    return Proposal(
        host=found.host,
        fleet_host=_fleet_host(found.host),
        place=place,
        place_from=place_from,
        place_at=place_at,
        scheduler_threads=fit.scheduler_threads,
        scheduler_connections=scheduler_connections,
        profiles=profiles,
        growth_instances=profiles[0].max_instances - profiles[0].min_instances if fit.always else 0,
        fits=fit.always > 0,
        lacking_connections=max(0, wanted_connections - fit.left_connections),
        short_connections=max(0, at_min + leaving_connections(found) - there.tightest.left_connections),
        room=there,
        wishes=wanted,
        found=found,
    )


def _scheduler(found: Found, wanted: Wishes) -> tuple[Place, PlaceFrom, str]:
    """Where the one process on the scheduler queue is now, and so where it is to be."""
    live = [p for p in found.servers.processes or () if SCHEDULER_QUEUE in p.queues and not p.quiet]
    hosts = [tag.host if (tag := parse_tag(p.tag)) else p.hostname for p in live]
    others = [host for host in hosts if host != found.host]
    # Copies of the stock unit all serve it; that of the host with web is the one that is meant.
    if found.host in hosts and (not others or found.running("web")):
        return "here", "heartbeat", wanted.scheduler_unit
    if others:
        return "elsewhere", "heartbeat", others[0]
    if wanted.scheduler_unit:
        return "here", "unit", wanted.scheduler_unit
    if found.servers.processes is None:
        return "auto", "unknown", ""
    return ("here", "alone", "") if found.running("web") else ("auto", "nobody", "")


def _fit(wanted: Wishes, there: Room, holds: int, pool: int | None, *, scheduler: bool) -> _Fit:
    """The most profiles, and then the most threads, with which one more instance fits above min."""
    for count in range(min(len(wanted.profiles), PROFILES_MAX), 0, -1):
        profiles = merged(wanted.profiles, count)
        if holds < count and count > 1:
            continue
        tries = list(_tries(wanted, profiles, there, pool, scheduler=scheduler))
        grows = (t for t in tries if t.left_connections >= max(map(t.claim_connections, profiles)))
        for found in grows:
            # Without memory for one more, the least important one starts when it is needed.
            return found if holds > count or count == 1 else structs.replace(found, always=count - 1)
        if count > 1 and tries[-1].left_connections >= 0:
            return structs.replace(tries[-1], always=count - 1)
    least = list(_tries(wanted, profiles, there, pool, least=1, scheduler=scheduler))
    return next((t for t in least if t.left_connections >= 0), structs.replace(least[-1], always=0))


def _tries(
    wanted: Wishes,
    profiles: tuple[Wish, ...],
    there: Room,
    pool: int | None,
    *,
    least: int = _THREADS_LEAST,
    scheduler: bool,
) -> Iterator[_Fit]:
    """With one instance of each profile, from the most threads to the least."""
    for threads in _ladder(profiles, least, pool):
        for own in _scheduler_ladder(wanted, pool):
            tried = _Fit(
                profiles=profiles,
                threads=threads,
                scheduler_threads=own,
                always=len(profiles),
                left_connections=there.tightest.left_connections - (_claim(own, pool) if scheduler else 0),
                pool=pool,
            )
            claims = sum(map(tried.claim_connections, profiles))
            yield structs.replace(tried, left_connections=tried.left_connections - claims)


def _ladder(profiles: Sequence[Wish], least: int, pool: int | None) -> list[int]:
    """Threads to try, the most first; not more than a worker has connections."""
    most = max(wish.threads for wish in profiles)
    most = min(most, pool) if pool is not None else most
    fewer = [n for n in (*_THREADS_TRIED, 4, 3, 2, 1) if min(least, most) <= n < most]
    return [most, *fewer]


def _scheduler_ladder(wanted: Wishes, pool: int | None) -> list[int]:
    first = wanted.scheduler_threads or _SCHEDULER_THREADS[0]
    first = min(first, pool) if pool is not None else first
    return [first, *(n for n in _SCHEDULER_THREADS[1:] if n < first)]


def _claim(threads: int, pool: int | None) -> int:
    """What one instance may open: its pool is threads and a margin, unless an address of Mastodon's says it."""
    wanted = threads + CLAIM_MARGIN_CONNECTIONS
    return wanted if pool is None else min(wanted, pool)


def _profiles(fit: _Fit, there: Room, holds: int) -> Iterator[ProposedProfile]:
    first, most = 1, min(_PROFILE_INSTANCES_MAX, INSTANCES_MAX // len(fit.profiles) - 1)
    for index, wish in enumerate(fit.profiles):
        low = 1 if index < fit.always else 0
        limits = fit.limits(there, holds, wish)
        high = min(most, max(1, low + max(0, min(limits.values()))))
        yield ProposedProfile(
            wish=wish,
            threads=min(wish.threads, fit.threads),
            claim_connections=fit.claim_connections(wish),
            min_instances=low,
            max_instances=high,
            bound=min(limits, key=lambda bound: limits[bound]) if high < most else "enough",
            numbers=(first, first + high),
        )
        first += high + 1


def _fleet_host(host: str) -> str | None:
    """A name that fleetd takes, where the machine's own is none."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", host):
        return None
    return re.sub(r"[^A-Za-z0-9._-]+", "-", host)[:64].strip("-") or "worker1"
