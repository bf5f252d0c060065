"""What happens and when, drawn from a seed: the same seed always gives the same jobs and events."""

import random
from dataclasses import dataclass
from typing import Literal

from lab.jobs.lengths import Lengths
from lab.jobs.load import Load, Phase

LENGTHS = Lengths(median_seconds=0.044, sigma=2.0, shortest_seconds=0.001, longest_seconds=20.0)
"""1 ms to 20 s, 0.3 s on average. One job in 300 takes over 10 s; those use a fifth of all thread time."""

SHARES = {"default": 0.4, "push": 0.2, "ingress": 0.2, "mailers": 0.05, "pull": 0.1, "fasp": 0.05}
"""Jobs per queue."""

_CALM_JOBS_PER_SECOND = 150.0
_SURGE_JOBS_PER_SECOND = 400.0

Kind = Literal["drain", "restart", "reconfigure", "surge", "calm"]
_WEIGHTS: dict[Kind, float] = {"drain": 10, "restart": 1, "reconfigure": 1}


@dataclass(frozen=True)
class Event:
    """Something that an admin or the load does to the fleet."""

    at_seconds: float
    kind: Kind
    pick: float
    """From 0 to 1; picks the instance, the profile or the number of threads."""


@dataclass(frozen=True)
class Campaign:
    """The jobs and events of one seed."""

    seed: int
    load: Load
    events: tuple[Event, ...]

    @property
    def seconds(self) -> float:
        """How long jobs keep arriving."""
        return sum(phase.seconds for phase in self.load.phases)


def draw(seed: int, jobs: int, event_seconds: float = 10.0) -> Campaign:
    """A campaign of exactly this many jobs, in calm times and surges, with this mean time between events."""
    chance = random.Random(seed)
    phases: list[Phase] = []
    events: list[Event] = []
    expected, at = 0.0, 0.0
    while expected < jobs * 1.1:  # the load's own limit ends it; some are to spare, as arrivals are random
        surge = len(phases) % 2 == 1
        rate = _SURGE_JOBS_PER_SECOND if surge else _CALM_JOBS_PER_SECOND
        seconds = chance.uniform(15, 30)
        events.append(Event(at, "surge" if surge else "calm", chance.random()))
        phases.append(Phase(seconds, {queue: rate * share for queue, share in SHARES.items()}))
        expected += rate * seconds
        at += seconds
    end = at * 1 / 1.1
    at = chance.expovariate(1 / event_seconds)
    kinds = list(_WEIGHTS)
    while at < end:
        kind = chance.choices(kinds, list(_WEIGHTS.values()))[0]
        events.append(Event(at, kind, chance.random()))
        at += chance.expovariate(1 / event_seconds)
    load = Load(phases, seed=seed, limit=jobs, lengths=LENGTHS)
    return Campaign(seed, load, tuple(sorted(events, key=lambda event: event.at_seconds)))
