"""What is wrong with a trace beyond the types and ranges of its keys: missing, impossible, or not fitting together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def told(problems: list[ConfigProblem], path: str) -> bool:
    """Whether something about this key is known to be wrong already."""
    return any(problem.path.startswith(path) for problem in problems)


def check_whole(file: TraceFile, problems: list[ConfigProblem]) -> None:
    """What belongs to no single queue, profile or fault."""
    if not file.name.isprintable():
        what = f"{show(file.name)} has characters that can't be shown"
        problems.append(ConfigProblem("name", what, "Use letters, digits, spaces and the like."))
    if file.duration_seconds is None and not told(problems, "duration_seconds"):
        problems.append(ConfigProblem("duration_seconds", "missing", "Say how long it lasts, e.g. 21600."))
    if not file.queues and not told(problems, "queues"):
        problems.append(ConfigProblem("queues", "none, so nothing would happen", "Add [queues.default]."))
    fastest, slowest = file.boot_seconds
    if fastest > slowest:
        what = (
            f"{show(list(file.boot_seconds))} is not [fastest, slowest]: {fastest:g} is more than {slowest:g}"
        )
        problems.append(ConfigProblem("boot_seconds", what, "Write e.g. [12, 30]."))
    small, large = file.host.instance_memory_bytes
    if small > large:
        what = f"{show([small, large])} is not [after boot, after a day]: the first is more than the second"
        problems.append(ConfigProblem("host.instance_memory_bytes", what, "Write e.g. [300e6, 1000e6]."))
    check_points("database.others", file.database.others, file.duration_seconds or 0.0, problems)
    _check_amount(file, problems)


def _check_amount(file: TraceFile, problems: list[ConfigProblem]) -> None:
    """What would take all memory, or for ever."""
    if len(file.queues) > QUEUES_MAX:
        problems.append(ConfigProblem("queues", f"{len(file.queues)} queues", f"Use at most {QUEUES_MAX}."))
    lasts = file.duration_seconds or 0.0
    days = lasts / DAY_SECONDS * len(file.queues)
    if days > QUEUE_DAYS_MAX:
        what = f"{lasts / DAY_SECONDS:.1f} days of {len(file.queues)} queues are too much to simulate at once"
        cure = f"Days times queues may be {QUEUE_DAYS_MAX}: make it shorter, or leave queues out."
        problems.append(ConfigProblem("duration_seconds", what, cure))
    jobs = sum(
        _area(queue.arrivals_per_second, lasts) + sum(count for _, count in queue.bursts)
        for queue in file.queues.values()
    )
    if jobs > JOBS_MAX:
        cure = f"At most {JOBS_MAX:,} can be simulated: lower rates or bursts, or make it shorter."
        problems.append(ConfigProblem("queues", f"{jobs:,.0f} jobs in all", cure))


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


def check_size(profile: str, least: int | None, instances: int, problems: list[ConfigProblem]) -> None:
    """A profile's own min within its instances."""
    if least is not None and least > instances:
        what = f"{least} is more than instances = {instances}"
        problems.append(
            ConfigProblem(join("profiles", profile) + ".min", what, "Lower it, or raise instances.")
        )


def check_initial(initial: int, instances: Mapping[str, int], problems: list[ConfigProblem]) -> None:
    """What serves at the begin, within each profile's instances."""
    short = [f"{name} has {count}" for name, count in instances.items() if count < initial]
    if short:
        what = f"{initial} of each profile are more than there are: {', '.join(short[:ENTRIES_TOLD_MAX])}"
        problems.append(
            ConfigProblem("initial_instances", what, "Lower it, or give the profile more instances.")
        )


def check_points(path: str, points: Points, duration: float, problems: list[ConfigProblem]) -> None:
    """Points in the order of time, none beyond the end."""
    _add(path, _misplaced(path, points, duration), problems)


def check_bursts(path: str, bursts: Points, duration: float, problems: list[ConfigProblem]) -> None:
    """The same, and whole jobs that come before the end."""
    found = _misplaced(path, bursts, duration)
    for index, (at, jobs) in enumerate(bursts):
        here = f"{path}[{index}]"
        if jobs != int(jobs):
            found.append(ConfigProblem(here, f"{jobs:g} jobs", "Write a whole number of jobs."))
        if at == duration:
            found.append(_after_the_end(here, at, duration))
    _add(path, found, problems)


def _misplaced(path: str, points: Points, duration: float) -> list[ConfigProblem]:
    last = 0.0
    found: list[ConfigProblem] = []
    for index, (at, _) in enumerate(points):
        here = f"{path}[{index}]"
        if at < last:
            what = f"{at:g} s comes after {last:g} s"
            found.append(ConfigProblem(here, what, "Put the points in the order of their times, from 0."))
        elif duration and at > duration:
            found.append(_after_the_end(here, at, duration))
        last = max(last, at)
    return found


def _add(path: str, found: list[ConfigProblem], problems: list[ConfigProblem]) -> None:
    """The first few one by one."""
    problems += found[:ENTRIES_TOLD_MAX]
    if len(found) > ENTRIES_TOLD_MAX:
        what = f"{len(found) - ENTRIES_TOLD_MAX} more entries are wrong"
        problems.append(ConfigProblem(path, what, "Mend them likewise."))


def check_fault(path: str, fault: FaultSection, duration: float, problems: list[ConfigProblem]) -> None:
    """One source for a time, or one kill; and when."""
    known = told(problems, path)
    if fault.at is None:
        if not told(problems, f"{path}.at"):
            problems.append(ConfigProblem(f"{path}.at", "missing", "Say when, in seconds from the begin."))
    elif duration and fault.at >= duration:
        problems.append(_after_the_end(f"{path}.at", fault.at, duration))
    if known:
        return
    if (fault.source is None) == (fault.kill_instances is None):
        cure = 'Write either source = "redis" with for_seconds, or kill_instances = 3.'
        problems.append(ConfigProblem(path, "is neither one source nor one kill", cure))
    elif fault.source is not None and fault.for_seconds is None:
        problems.append(ConfigProblem(f"{path}.for_seconds", "missing", "Say for how long it is away."))
    elif fault.kill_instances is not None and fault.for_seconds is not None:
        what = "a kill takes no time: systemd boots the instances again"
        problems.append(ConfigProblem(f"{path}.for_seconds", what, "Remove it."))


def _after_the_end(path: str, at: float, duration: float) -> ConfigProblem:
    where = "at" if at == duration else "after"
    what = f"{at:g} s is {where} the end of the trace ({duration:g} s)"
    return ConfigProblem(path, what, "Move it, or make the trace longer.")
