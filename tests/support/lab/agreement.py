"""Compares one trace as it was simulated with the same trace on real Sidekiq."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

#: Waits may differ by the greater of these two, sizes by the share.
SHARE_MAX = 0.25
SECONDS_MAX = 1.0
#: Head of the table that `rows` fills.
HEAD = (
    "| trace | queue | jobs | p95 wait, real | simulated | instance-hours, real | simulated | counts apart, mean | "
    "furthest apart |",
    "|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Course:
    """The outcome of a trace, simulated or real."""

    jobs: dict[str, int]
    p95_wait_seconds: dict[str, float]
    counts: list[int]  # instances that serve or start, at each second
    instance_seconds: float  # from the start order to gone, boot and drain included


@dataclass(frozen=True)
class Life:
    """One instance from its start order to its end, in seconds since the trace began. None: after the trace ended."""

    started: float
    let_go: float | None = None  # quieted, or stopped while it booted
    gone: float | None = None


def lives_of(steps: list[tuple[float, str, int]]) -> list[Life]:
    """The lives of all instances, from events in order of time: (second, "start" "quiet" "stop" or "gone", number)."""
    lives: list[Life] = []
    under_way: dict[int, Life] = {}
    for at, what, number in steps:
        life = under_way.get(number)
        if what == "start":
            under_way[number] = Life(at)
        elif life is None:
            continue
        elif what == "gone":
            lives.append(Life(life.started, at if life.let_go is None else life.let_go, at))
            del under_way[number]
        elif life.let_go is None:
            under_way[number] = Life(life.started, at)
    return lives + list(under_way.values())


def counts_of(lives: list[Life], seconds: int) -> list[int]:
    """How many instances served or started in the middle of each second."""
    return [
        sum(1 for life in lives if life.started <= at and (life.let_go is None or at < life.let_go))
        for at in (second + 0.5 for second in range(seconds))
    ]


def instance_seconds_of(lives: list[Life], seconds: int) -> float:
    """The total seconds of all lives, as far as they lie within the trace."""
    return sum(
        max(0.0, min(seconds, seconds if life.gone is None else life.gone) - max(0.0, life.started)) for life in lives
    )


def counts_differ(real: Course, simulated: Course) -> float:
    """The mean difference of the instance counts, second by second, as a share of the real mean."""
    apart = [abs(one - other) for one, other in zip(real.counts, simulated.counts, strict=True)]
    return fmean(apart) / fmean(real.counts)


def worst_count(real: Course, simulated: Course) -> tuple[int, int, int]:
    """(second, real count, simulated count) at the second where the counts are furthest apart."""
    both = zip(range(len(real.counts)), real.counts, simulated.counts, strict=True)
    return max(both, key=lambda moment: abs(moment[1] - moment[2]))


def disagreements(real: Course, simulated: Course) -> list[str]:
    """One sentence for each figure in which the simulation is further from reality than is allowed."""
    if real.jobs != simulated.jobs:
        return [f"not the same jobs: {real.jobs} were played, {simulated.jobs} simulated"]
    found = [
        f"p95 wait on {queue}: {waited:.1f} s, simulated {simulated.p95_wait_seconds[queue]:.1f} s"
        for queue, waited in real.p95_wait_seconds.items()
        if abs(waited - simulated.p95_wait_seconds[queue]) > max(SECONDS_MAX, SHARE_MAX * waited)
    ]
    if abs(real.instance_seconds - simulated.instance_seconds) > SHARE_MAX * real.instance_seconds:
        found.append(f"instance-seconds: {real.instance_seconds:.0f}, simulated {simulated.instance_seconds:.0f}")
    if counts_differ(real, simulated) > SHARE_MAX:
        found.append(f"instance counts are {counts_differ(real, simulated):.0%} of their mean apart")
    return found


def steps_told(counts: list[int]) -> str:
    """A series of counts in one line: "1, at 35 s 3, at 90 s 2"."""
    changes = [(second + 1, later) for second, (now, later) in enumerate(pairwise(counts)) if now != later]
    return ", ".join([str(counts[0]), *(f"at {second} s {count}" for second, count in changes)])


def rows(name: str, real: Course, simulated: Course) -> list[str]:
    """The rows of one trace in the table: one per queue. What all queues share is in the first row."""
    second, there, here = worst_count(real, simulated)
    sizes = (
        f"{real.instance_seconds / 3600:.3f} | {simulated.instance_seconds / 3600:.3f} | "
        f"{counts_differ(real, simulated):.0%} | {there} to {here}, at {second} s"
    )
    return [
        f"| {name if index == 0 else ''} | {queue} | {real.jobs[queue]} | {waited:.1f} s | "
        f"{simulated.p95_wait_seconds[queue]:.0f} s | {sizes if index == 0 else ' |  |  | '} |"
        for index, (queue, waited) in enumerate(real.p95_wait_seconds.items())
    ]
