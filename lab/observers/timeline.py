"""What observers saw, and what follows from it: when two schedulers lived at once, when none did, and each start."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SCHEDULERS = ("mastodon-sidekiq-scheduler.service", "mastodon-sidekiq.service")
"""The units whose process serves the queue `scheduler`: fleetd's, and upstream's, which serves every queue."""


@dataclass(frozen=True)
class Alive:
    """A live Sidekiq process. `pid` is its id outside the host, so no two of them have the same."""

    host: str
    unit: str
    pid: int
    frozen: bool
    """It lives, but does nothing: it or its host is frozen."""

    @property
    def is_scheduler(self) -> bool:
        """Whether it serves the queue `scheduler`."""
        return self.unit in SCHEDULERS


@dataclass(frozen=True)
class Look:
    """All live Sidekiq processes at one moment between `begun` and `ended` (monotonic seconds)."""

    begun: float
    ended: float
    alive: frozenset[Alive]

    def schedulers(self, *, frozen: bool) -> list[Alive]:
        """The schedulers, by host; with `frozen`, also those that are frozen."""
        found = [one for one in self.alive if one.is_scheduler and (frozen or not one.frozen)]
        return sorted(found, key=lambda one: (one.host, one.unit, one.pid))


@dataclass(frozen=True)
class Counted:
    """Open connections in Mastodon's database by application_name, at one moment between `begun` and `ended`."""

    begun: float
    ended: float
    open: dict[str, int]

    def of(self, prefix: str) -> int:
        """How many of those whose name begins like this."""
        return sum(count for name, count in self.open.items() if name.startswith(prefix))


@dataclass(frozen=True)
class Span:
    """A time in which the same schedulers were seen, from the first look that saw them to the last.

    It began after `not_before` and ended before `not_after`, the looks before and after.
    """

    begun: float
    ended: float
    hosts: tuple[str, ...]
    not_before: float
    not_after: float

    @property
    def seconds(self) -> float:
        """How long it lasted at least."""
        return self.ended - self.begun

    @property
    def seconds_max(self) -> float:
        """How long it lasted at most."""
        return self.not_after - self.not_before


@dataclass(frozen=True)
class Start:
    """A process that was not there at the look before, which ended at `not_before`, and was there at `seen`."""

    not_before: float
    seen: float
    process: Alive
    beside: tuple[Alive, ...]
    """The schedulers that lived at that look and at the one before, if this is one."""


@dataclass(frozen=True)
class Timeline:
    """All looks in order. Every question may be asked of a part: `timeline.since(t)`, `timeline.until(t)`."""

    looks: Sequence[Look]
    counts: Sequence[Counted]

    def since(self, at: float) -> "Timeline":
        """What was seen from this monotonic time on."""
        return Timeline([x for x in self.looks if x.begun >= at], [x for x in self.counts if x.begun >= at])

    def until(self, at: float) -> "Timeline":
        """What was seen up to this monotonic time."""
        return Timeline([x for x in self.looks if x.ended <= at], [x for x in self.counts if x.ended <= at])

    @property
    def longest_gap(self) -> float:
        """The longest time between two looks, in which something short may have been missed."""
        return max((later.ended - look.begun for look, later in pairwise(self.looks)), default=0.0)

    def alive(self, prefix: str = "mastodon-sidekiq@") -> dict[str, list[str]]:
        """Host to its live units of this kind, at the latest look."""
        found: dict[str, list[str]] = {}
        for one in sorted(self.looks[-1].alive if self.looks else (), key=lambda one: (one.host, one.unit)):
            if one.unit.startswith(prefix):
                found.setdefault(one.host, []).append(one.unit)
        return found

    def scheduler_hosts(self) -> list[str]:
        """Where a scheduler lives, at the latest look, also a frozen one."""
        return [one.host for one in self.looks[-1].schedulers(frozen=True)] if self.looks else []

    def together(self, *, frozen: bool = False) -> list[Span]:
        """The times in which two or more schedulers lived at once; with `frozen`, those that were frozen count too."""
        return [span for span in self._spans(frozen=frozen) if len(span.hosts) > 1]

    def without(self, *, frozen: bool = False) -> list[Span]:
        """The times in which no scheduler lived; with `frozen`, one that was frozen counts as one."""
        return [span for span in self._spans(frozen=frozen) if not span.hosts]

    def starts(self, unit: str = "") -> list[Start]:
        """Every process that began to live, of one unit or of all. What lived at the first look is none."""
        found = []
        for before, look in pairwise(self.looks):
            known = {(one.host, one.pid) for one in before.alive}
            for one in sorted(look.alive, key=lambda one: (one.host, one.unit)):
                if (one.host, one.pid) not in known and unit in ("", one.unit):
                    found.append(Start(before.begun, look.ended, one, _beside(one, before, look)))
        return found

    def scheduler_starts(self) -> list[Start]:
        """Every scheduler that began to live."""
        return [start for start in self.starts() if start.process.is_scheduler]

    def most_open(self) -> dict[str, int]:
        """The most connections that each application_name had open at once."""
        found: dict[str, int] = {}
        for counted in self.counts:
            for name, count in counted.open.items():
                found[name] = max(count, found.get(name, 0))
        return found

    def most_open_at_once(self, prefix: str = "mastodon-sidekiq") -> int:
        """The most connections that all names with this prefix had open at once."""
        return max((counted.of(prefix) for counted in self.counts), default=0)

    def _spans(self, *, frozen: bool) -> Iterator[Span]:
        first = 0
        shown = [tuple(one.host for one in look.schedulers(frozen=frozen)) for look in self.looks]
        for index, hosts in enumerate(shown):
            if index + 1 < len(shown) and shown[index + 1] == hosts:
                continue
            last = min(index + 1, len(shown) - 1)
            yield Span(
                begun=self.looks[first].begun,
                ended=self.looks[index].ended,
                hosts=hosts,
                not_before=self.looks[max(first - 1, 0)].begun,
                not_after=self.looks[last].ended,
            )
            first = index + 1


def _beside(one: Alive, before: Look, look: Look) -> tuple[Alive, ...]:
    if not one.is_scheduler:
        return ()
    stayed = {(other.host, other.pid) for other in before.schedulers(frozen=True)}
    return tuple(other for other in look.schedulers(frozen=True) if (other.host, other.pid) in stayed)
