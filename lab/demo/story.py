"""The story in phases: what happens, what to watch for, when the next one begins; and how many jobs come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.demo.samples import Sample

INSTANCES_MIN = 2
"""Both profiles' `min` in fleetd.toml."""
WEB_CONNECTIONS = 20
"""Held by `mastodon-web.service` on main."""
MAX_CONNECTIONS = 100
HOLD_SECONDS = 20
"""`hold_down_seconds` in fleetd.toml."""
SHORTENED = f"Shortened for the demo: fleetd shrinks after {HOLD_SECONDS} s, not 5 min."
TARGETS_SECONDS: Mapping[str, float] = {"default": 5, "push": 15, "ingress": 15, "mailers": 30, "pull": 60, "fasp": 60}
"""As in fleetd.toml."""

Rates = Mapping[str, float]
"""Jobs a second per queue."""

JOB_SCALE = 2.0
"""Jobs are a little longer than Mastodon's, so that two cores can carry the surge in Ruby."""
CALM: Rates = {"default": 4.0, "push": 1.5, "ingress": 2.0, "mailers": 0.3, "pull": 0.5, "fasp": 0.3}
"""About 4 of the 16 threads of the smallest fleet."""
SURGE: Rates = {"default": 50.0, "push": 50.0, "ingress": 50.0, "mailers": 5.0, "pull": 9.0, "fasp": 3.0}
"""About 94 threads: six times the smallest fleet, twice what the database affords."""


@dataclass(frozen=True)
class Phase:
    """One part of the story. It ends when `over` says so, at the latest after `seconds_max`."""

    name: str
    watch: str
    """What to look at now, for somebody who sees this for the first time."""
    seconds_max: float
    over: Callable[[Sequence[Sample]], bool]
    """TickResult the samples of this phase."""
    timed: bool = False
    """Whether it is meant to last `seconds_max`; else reaching that is a promise not kept."""


def _never(_: Sequence[Sample]) -> bool:
    return False


def _last(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    return samples[-number:] if len(samples) >= number else ()


def within_targets(sample: Sample) -> bool:
    """Known to have every queue's oldest job wait less than its target."""
    if sample.waits_seconds is None:
        return False
    return all(wait <= TARGETS_SECONDS.get(queue, 60) for queue, wait in sample.waits_seconds.items())


def recovered(samples: Sequence[Sample]) -> bool:
    """For three samples in a row every queue was within its target and hardly a job waited."""
    last = _last(samples, 3)
    return bool(last) and all(
        within_targets(sample) and sample.waiting_total is not None and sample.waiting_total < 50 for sample in last
    )


def shrunk(samples: Sequence[Sample]) -> bool:
    """For two samples in a row just the least number of instances was there."""
    last = _last(samples, 2)
    return bool(last) and all(sample.running_instances == INSTANCES_MIN for sample in last)


def finished(samples: Sequence[Sample]) -> bool:
    """For two samples in a row no job waited, ran or was put off. (Busy threads come from heartbeats, 5 s apart.)"""
    last = _last(samples, 2)
    return bool(last) and all(sample.idle for sample in last)


def phases(seconds_scale: float = 1.0) -> tuple[Phase, ...]:
    """The whole story. `seconds_scale` stretches the two phases that last a set time."""
    return (
        Phase(
            name="calm",
            watch="An ordinary afternoon: an instance of each profile is enough, and nothing waits.",
            seconds_max=20 * seconds_scale,
            over=_never,
            timed=True,
        ),
        Phase(
            name="surge",
            watch="A post goes round the world: several times what the fleet can do. It grows until the database "
            "has no connection left to give; a sentence says so.",
            seconds_max=40 * seconds_scale,
            over=_never,
            timed=True,
        ),
        Phase(
            name="recovery",
            watch="The surge is over, its backlog is not. Waits fall back below their targets, important queues "
            "first, and connections stay within the limit.",
            seconds_max=180,
            over=recovered,
        ),
        Phase(
            name="shrink",
            watch=f"Less will do. When that has held for {HOLD_SECONDS} s instances go, one by one: quieted, watched "
            "until their last job is done, then stopped. Jobs keep coming.",
            seconds_max=150,
            over=shrunk,
        ),
        Phase(
            name="count",
            watch="No more jobs come. The last ones end, then every one of them is counted.",
            seconds_max=90,
            over=finished,
        ),
    )


@dataclass(frozen=True)
class Progress:
    """Where the story is."""

    phase: Phase
    number: int
    """From 1."""
    total: int
    phase_seconds: float
    story_seconds: float
