"""What is wrong with a trace beyond the types and ranges of its keys: missing, impossible, or not fitting together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise

from fleetd.config.tables import ENTRIES_TOLD_MAX, join, nearest, show
from fleetd.core.model.policy import QUEUES_MAX, Profile
from fleetd.errors import ConfigProblem
from fleetd.simulate.trace.keys import JOBS_MAX, QUEUE_DAYS_MAX, FaultSection, Points, TraceFile

DAY_SECONDS = 86_400.0
NO_PROFILES = ConfigProblem(
    "profiles",
    "none, and no configuration is given",
    "Add [profiles.local] to the trace, or name a fleetd.toml with --config.",
)


def problems_of(file: TraceFile, known: list[ConfigProblem]) -> list[ConfigProblem]:
    """All that is missing or impossible. `known`: problems of single keys, which are not said to be missing as well."""
    missing = [problem for problem in _missing(file) if not is_known(known, problem.path)]
    return [*missing, *_impossible(file), *_too_much(file)]


def is_known(problems: list[ConfigProblem], path: str) -> bool:
    """Whether something about this key, or a key below it, is known to be wrong."""
    return any(problem.path.startswith(path) for problem in problems)


def _missing(file: TraceFile) -> Iterator[ConfigProblem]:
    if file.duration_seconds is None:
        yield ConfigProblem("duration_seconds", "missing", "Say how long it lasts, e.g. 21600.")
    if not file.queues:
        yield ConfigProblem("queues", "none, so nothing would happen", "Add [queues.default].")
    for name, queue in file.queues.items():
        if queue.service_seconds.mean is None:
            cure = "Write e.g. service_seconds = { mean = 0.2, sigma = 1.0 }."
            yield ConfigProblem(join("queues", name) + ".service_seconds", "says no mean", cure)
    for index, fault in enumerate(file.faults):
        yield from _missing_in_fault(f"faults[{index}]", fault)


def _missing_in_fault(path: str, fault: FaultSection) -> Iterator[ConfigProblem]:
    """One source for a time, or one kill; and when."""
    if fault.at is None:
        yield ConfigProblem(f"{path}.at", "missing", "Say when, in seconds from the begin.")
    if (fault.source is None) == (fault.kill_instances is None):
        cure = 'Write either source = "redis" with for_seconds, or kill_instances = 3.'
        yield ConfigProblem(path, "is neither one source nor one kill", cure)
    elif fault.source is not None and fault.for_seconds is None:
        yield ConfigProblem(f"{path}.for_seconds", "missing", "Say for how long it is away.")
    elif fault.kill_instances is not None and fault.for_seconds is not None:
        what = "a kill takes no time: systemd boots the instances again"
        yield ConfigProblem(f"{path}.for_seconds", what, "Remove it.")


def _impossible(file: TraceFile) -> Iterator[ConfigProblem]:
    end = file.duration_seconds or float("inf")
    if not file.name.isprintable():
        what = f"{show(file.name)} has characters that can't be shown"
        yield ConfigProblem("name", what, "Use letters, digits, spaces and the like.")
    fastest, slowest = file.boot_seconds
    if fastest > slowest:
        what = f"{fastest:g} is more than {slowest:g}; it is [fastest, slowest]"
        yield ConfigProblem("boot_seconds", what, "Write e.g. [12, 30].")
    small, large = file.host.instance_memory_bytes
    if small > large:
        what = f"{small:g} is more than {large:g}; it is [after boot, after a day]"
        yield ConfigProblem("host.instance_memory_bytes", what, "Write e.g. [300e6, 1000e6].")
    for name, profile in file.profiles.items():
        if profile.min is not None and profile.min > profile.instances:
            what = f"{profile.min} is more than instances = {profile.instances}"
            yield ConfigProblem(join("profiles", name) + ".min", what, "Lower it, or raise instances.")
    yield from _misplaced("database.others", file.database.others, end)
    for name, queue in file.queues.items():
        path = join("queues", name)
        yield from _misplaced(f"{path}.arrivals_per_second", queue.arrivals_per_second, end)
        yield from _misplaced(f"{path}.bursts", queue.bursts, end, before_end=True)
        for index, (_, jobs) in enumerate(queue.bursts):
            if jobs != int(jobs):
                what = f"{jobs:g} jobs"
                yield ConfigProblem(f"{path}.bursts[{index}]", what, "Write a whole number of jobs.")
                break
    for index, fault in enumerate(file.faults):
        if fault.at is not None and fault.at >= end:
            yield _after_the_end(f"faults[{index}].at", fault.at, end)


def _misplaced(path: str, points: Points, end: float, *, before_end: bool = False) -> Iterator[ConfigProblem]:
    """The first point that is not in the order of time, or too late."""
    last = 0.0
    for index, (at, _) in enumerate(points):
        here = f"{path}[{index}]"
        if at < last:
            what = f"{at:g} s comes after {last:g} s"
            yield ConfigProblem(here, what, "Put the points in the order of their times, from 0.")
            return
        if at > end or (before_end and at == end):
            yield _after_the_end(here, at, end)
            return
        last = at


def _after_the_end(path: str, at: float, end: float) -> ConfigProblem:
    where = "at" if at == end else "after"
    what = f"{at:g} s is {where} the end of the trace ({end:g} s)"
    return ConfigProblem(path, what, "Move it, or make the trace longer.")


def _too_much(file: TraceFile) -> Iterator[ConfigProblem]:
    """What would take all memory, or for ever."""
    if len(file.queues) > QUEUES_MAX:
        yield ConfigProblem("queues", f"{len(file.queues)} queues", f"Use at most {QUEUES_MAX}.")
    seconds = file.duration_seconds or 0.0
    if seconds / DAY_SECONDS * len(file.queues) > QUEUE_DAYS_MAX:
        what = (
            f"{seconds / DAY_SECONDS:.1f} days of {len(file.queues)} queues are too much to simulate at once"
        )
        cure = f"Days times queues may be {QUEUE_DAYS_MAX}: make it shorter, or leave queues out."
        yield ConfigProblem("duration_seconds", what, cure)
    jobs = sum(
        _area(queue.arrivals_per_second, seconds) + sum(count for _, count in queue.bursts)
        for queue in file.queues.values()
    )
    if jobs > JOBS_MAX:
        cure = f"At most {JOBS_MAX:,} can be simulated: lower rates or bursts, or make it shorter."
        yield ConfigProblem("queues", f"{jobs:,.0f} jobs in all", cure)


def _area(points: Points, until: float) -> float:
    """Below a curve that is level before its first point and after its last."""
    if not points:
        return 0.0
    whole = ((0.0, points[0][1]), *points, (max(until, points[-1][0]), points[-1][1]))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2.0 for a, b in pairwise(whole))


def misfits(
    queues: Collection[str], targets: Iterable[str], profiles: tuple[Profile, ...]
) -> list[ConfigProblem]:
    """Queues whose jobs nobody would ever fetch, and targets of queues that nobody knows."""
    served = {queue for profile in profiles for queue, _ in profile.queues}
    found = [
        ConfigProblem(
            join("queues", queue),
            "no profile serves this queue: its jobs would wait for ever",
            "Add it to a profile's queues or weights.",
        )
        for queue in queues
        if queue not in served
    ]
    known = served | set(queues)
    for queue in targets:
        if queue not in known:
            meant = nearest(queue, sorted(known))
            cure = f"Did you mean {meant}?" if meant else "Remove it, or name the queue it is for."
            what = "neither the trace nor a profile has this queue"
            found.append(ConfigProblem(join("targets", queue), what, cure))
    return found


def too_many_initial(initial: int, instances: Mapping[str, int]) -> list[ConfigProblem]:
    """Whether more serve at the begin than a profile has `instances`."""
    short = [f"{name} has {count}" for name, count in instances.items() if count < initial]
    if not short:
        return []
    what = f"{initial} of each profile are more than there are: {', '.join(short[:ENTRIES_TOLD_MAX])}"
    return [ConfigProblem("initial_instances", what, "Lower it, or give the profile more instances.")]
