"""What runs now, as the profiles that would do the same: from units to queues, threads and names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import structs

from fleetd.adapters.mastodon.services import MastodonService
from fleetd.app.init.found import Found
from fleetd.config.profiles import MASTODON_WEIGHTS
from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import QUEUES_BY_IMPORTANCE, QUEUES_MAX, SCHEDULER_QUEUE, QueueName

#: As Mastodon's own unit starts Sidekiq.
STOCK_THREADS = 25
#: More threads of one Ruby process bring nothing.
THREADS_MAX = 50
_WEIGHT_MAX = 100
_ALL = tuple(MASTODON_WEIGHTS.items())


class Wish(Value, frozen=True, kw_only=True):
    """One profile as the units have it, before it is known what fits. Weights are 0 where the order is strict."""

    name: str
    queues: tuple[tuple[str, int], ...]
    threads: int
    units: tuple[str, ...] = ()  # that serve this now
    added: tuple[str, ...] = ()  # queues that nobody serves
    merged: tuple[str, ...] = ()  # names of the wishes that this one stands for

    @property
    def weighted(self) -> bool:
        return any(weight for _, weight in self.queues)

    @property
    def stock(self) -> bool:
        """Mastodon's own order, by its own weights."""
        return self.queues == _ALL


class Wishes(Value, frozen=True, kw_only=True):
    """In order of importance. `scheduler`: the unit here that serves it, and its threads if it serves nothing else."""

    profiles: tuple[Wish, ...]
    scheduler_unit: str = ""
    scheduler_threads: int | None = None


def wishes(found: Found) -> Wishes:
    """From the units that run or that a boot starts; else from those that are there; else the stock one's.

    Queues that nobody serves, here or elsewhere, go to the least important profile.
    """
    units = found.running("sidekiq")
    units = units or tuple(s for s in found.services or () if s.runs == "sidekiq" and not s.fleetds)
    profiles: list[Wish] = []
    scheduler, scheduler_threads = "", None
    for unit in units:
        served = _served(unit)
        if SCHEDULER_QUEUE in dict(served) or not served:
            scheduler = unit.name
        if served and not (served := tuple(q for q in served if q[0] != SCHEDULER_QUEUE)):
            scheduler_threads = _threads(unit)
            continue
        _add(profiles, unit, served)
    if not profiles:
        profiles = [Wish(name="weighted", queues=_ALL, threads=STOCK_THREADS)]
    profiles = _named(sorted(profiles, key=_importance))
    return Wishes(
        profiles=tuple(_complete(profiles, _served_elsewhere(found))),
        scheduler_unit=scheduler,
        scheduler_threads=scheduler_threads,
    )


def merged(profiles: Sequence[Wish], count: int) -> tuple[Wish, ...]:
    """At most `count` of them: the last one serves everything that the others do not, by Mastodon's weights."""
    if len(profiles) <= count:
        return tuple(profiles)
    kept, rest = profiles[: count - 1], profiles[count - 1 :]
    names = list(dict.fromkeys(queue for wish in rest for queue, _ in wish.queues))[:QUEUES_MAX]
    queues = tuple((queue, MASTODON_WEIGHTS.get(queue, 1)) for queue in sorted(names, key=_rank))
    one = Wish(
        name="weighted" if queues == _ALL else "rest",
        queues=queues,
        threads=max(wish.threads for wish in rest),
        units=tuple(unit for wish in rest for unit in wish.units),
        added=tuple(queue for wish in rest for queue in wish.added),
        merged=tuple(wish.name for wish in rest),
    )
    return tuple(_named([*kept, one]))


def _served(unit: MastodonService) -> tuple[tuple[str, int], ...]:
    """(queue, weight), each once; empty: all of Mastodon's. What is no name of a queue is left out."""
    given = unit.sidekiq.queues if unit.sidekiq is not None else ()
    weighted = any(weight for _, weight in given)
    found: dict[str, int] = {}
    for name, weight in given:
        if _is_queue(name):  # named twice is twice as often, unless the order is strict
            found[name] = min(_WEIGHT_MAX, found.get(name, 0) + max(1, weight)) if weighted else 0
    return tuple(found.items())[: QUEUES_MAX - len(QUEUES_BY_IMPORTANCE)]  # there is room for queues nobody serves


def _is_queue(name: str) -> bool:
    try:
        msgspec.convert(name, QueueName)
    except msgspec.ValidationError:
        return False
    return True


def _threads(unit: MastodonService) -> int:
    return min(THREADS_MAX, max(1, unit.sidekiq.threads if unit.sidekiq is not None else STOCK_THREADS))


def _add(profiles: list[Wish], unit: MastodonService, served: tuple[tuple[str, int], ...]) -> None:
    """Units with the same queues in the same order are instances of one profile."""
    queues = served or _ALL
    for index, wish in enumerate(profiles):
        if wish.queues == queues:
            threads = max(wish.threads, _threads(unit))
            profiles[index] = structs.replace(wish, threads=threads, units=(*wish.units, unit.name))
            return
    profiles.append(Wish(name="", queues=queues, threads=_threads(unit), units=(unit.name,)))


def _rank(queue: str) -> int:
    return QUEUES_BY_IMPORTANCE.index(queue) if queue in QUEUES_BY_IMPORTANCE else len(QUEUES_BY_IMPORTANCE)


def _importance(wish: Wish) -> tuple[int, int]:
    """By the first queue of a strict order, by the most important one of another."""
    ranks = [_rank(queue) for queue, _ in wish.queues]
    return (min(ranks) if wish.weighted else ranks[0], -len(ranks))


def _named(profiles: Sequence[Wish]) -> list[Wish]:
    """After what they serve, each name once."""
    taken: set[str] = set()
    found = []
    for wish in profiles:
        name, number = wish.name or _name(wish), 2
        while name in taken:
            name, number = f"{(wish.name or _name(wish))[:28]}-{number}", number + 1
        taken.add(name)
        found.append(structs.replace(wish, name=name))
    return found


def _name(wish: Wish) -> str:
    first = re.sub(r"[^a-z0-9_-]+", "-", wish.queues[0][0].lower()).strip("-_")[:24] or "queue"
    if wish.stock or (wish.weighted and len(wish.queues) > 1):
        return "weighted"
    return first if len(wish.queues) == 1 else f"{first}-first"


def _served_elsewhere(found: Found) -> frozenset[str]:
    processes = (p for p in found.servers.processes or () if p.hostname != found.host and not p.quiet)
    return frozenset(queue for process in processes for queue in process.queues)


def _complete(profiles: list[Wish], elsewhere: frozenset[str]) -> list[Wish]:
    served = {queue for wish in profiles for queue, _ in wish.queues} | elsewhere
    lost = [queue for queue in QUEUES_BY_IMPORTANCE if queue not in served]
    if not lost:
        return profiles
    last = profiles[-1]
    more = tuple((queue, 1 if last.weighted else 0) for queue in lost)
    return [*profiles[:-1], structs.replace(last, queues=(*last.queues, *more), added=tuple(lost))]
