"""The story in phases: what happens, what to watch for, when the next phase begins, and how many jobs arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.demo.samples import Sample

INSTANCES_MIN = 2
"""Both profiles' `min` in fleetd.toml."""
WEB_CONNECTIONS = 20
"""Connections held by `mastodon-web.service` on main."""
MAX_CONNECTIONS = 100
HOLD_SECONDS = 20
"""`hold_down_seconds` in fleetd.toml."""
SHORTENED = f"Shortened for the demo: fleetd shrinks after {HOLD_SECONDS} s, not 5 min."
TARGETS_SECONDS: Mapping[str, float] = {"default": 5, "push": 15, "ingress": 15, "mailers": 30, "pull": 60, "fasp": 60}
"""As in fleetd.toml."""

Rates = Mapping[str, float]
"""Jobs per second and queue."""

JOB_SCALE = 2.0
"""Jobs take a little longer than Mastodon's, so that two cores are enough for the surge in Ruby."""
CALM: Rates = {"default": 4.0, "push": 1.5, "ingress": 2.0, "mailers": 0.3, "pull": 0.5, "fasp": 0.3}
"""About 4 of the 16 threads of the smallest fleet."""
SURGE: Rates = {"default": 50.0, "push": 50.0, "ingress": 50.0, "mailers": 5.0, "pull": 9.0, "fasp": 3.0}
"""About 94 threads: six times the smallest fleet, and twice what the database has connections for."""


@dataclass(frozen=True)
class Phase:
    """One part of the story. It ends when `over` says so, or after `seconds_max`."""

    name: str
    watch: str
    """What to look at now, for somebody who sees the demo for the first time."""
    seconds_max: float
    over: Callable[[Sequence[Sample]], bool]
    """Given the samples of this phase: whether it is over."""
    timed: bool = False
    """Whether it is meant to last `seconds_max`. Otherwise reaching that is a broken promise."""


def _never(_: Sequence[Sample]) -> bool:
    return False


def _last(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    return samples[-number:] if len(samples) >= number else ()


def within_targets(sample: Sample) -> bool:
    """Whether it is known that every queue's oldest job has waited for less than its target."""
    if sample.waits_seconds is None:
        return False
    return all(wait <= TARGETS_SECONDS.get(queue, 60) for queue, wait in sample.waits_seconds.items())


def recovered(samples: Sequence[Sample]) -> bool:
    """Whether in three consecutive samples every queue was within its target and hardly any job waited."""
    last = _last(samples, 3)
    return bool(last) and all(
        within_targets(sample) and sample.waiting_total is not None and sample.waiting_total < 50 for sample in last
    )


def shrunk(samples: Sequence[Sample]) -> bool:
    """Whether in two consecutive samples there were only as many instances as min."""
    last = _last(samples, 2)
    return bool(last) and all(sample.running_instances == INSTANCES_MIN for sample in last)


def finished(samples: Sequence[Sample]) -> bool:
    """Whether in two consecutive samples no job waited, ran or was put off. (Heartbeats are 5 s apart.)"""
    last = _last(samples, 2)
    return bool(last) and all(sample.idle for sample in last)


def phases(seconds_scale: float = 1.0) -> tuple[Phase, ...]:
    """The whole story. `seconds_scale` stretches the two phases with a set length."""
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
    """How far the story is."""

    phase: Phase
    number: int
    """Counted from 1."""
    total: int
    phase_seconds: float
    story_seconds: float
