"""A trace: a time of traffic, the world it meets, and what goes wrong in it, as a TOML file says.

Every problem of a file is found at once, with its key path and a cure. The format is documented in docs/traces.md.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from fleetd.config.profiles import build_profiles
from fleetd.config.schema import ProfileSection
from fleetd.config.walk import join, nearest, section
from fleetd.config.wording import show
from fleetd.core.facts import Value
from fleetd.core.policy import Profile
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.trace_file import (
    BEAT_SECONDS,
    FaultSection,
    HostSection,
    Points,
    QueueSection,
    TraceFile,
)

FILE_BYTES_MAX = 16 * 1024 * 1024


class QueueTraffic(Value, frozen=True, kw_only=True):
    """What arrives on one queue, and how long its jobs take."""

    name: str
    arrivals_per_second: Points  # piecewise linear, mean rate of a Poisson process
    bursts: Points  # (at, jobs at once)
    service_mean_seconds: float
    service_sigma: float  # of the logarithm


class Fault(Value, frozen=True, kw_only=True):
    """A source that is away from `at` to `until`, or instances that are killed."""

    at_seconds: float
    until_seconds: float
    source: str = ""
    kill_instances: int = 0


class Trace(Value, frozen=True, kw_only=True):
    """A trace as the simulator runs it. Times are seconds since its begin."""

    name: str
    seed: int
    duration_seconds: float
    tick_seconds: float
    boot_seconds: tuple[float, float]
    beat_seconds: int = BEAT_SECONDS  # between two heartbeats of a process
    initial_instances: int
    targets_seconds: dict[str, float]
    queues: tuple[QueueTraffic, ...]
    profiles: tuple[Profile, ...]  # (): the configuration's
    max_connections: int
    others: Points
    knee_busy_threads: float | None
    memory_bytes: float
    instance_memory_bytes: tuple[float, float]
    faults: tuple[Fault, ...]


def load_trace(path: str | Path) -> Trace:
    """The trace in a file; raises ConfigError with every problem in it."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        cure = "Name a trace file, such as benchmarks/traces/calm-day.toml."
        raise ConfigError(str(path), [ConfigProblem("", f"can't be read: {error.strerror}", cure)]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(str(path), [ConfigProblem("", "larger than 16 MiB", "Name a trace file.")])
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError(str(path), [ConfigProblem("", "is not UTF-8", "Save it as UTF-8.")]) from None
    return parse_trace(text, str(path))


def parse_trace(text: str, file: str = "trace.toml") -> Trace:
    """The trace in a TOML text; raises ConfigError with every problem."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        cure = "Mend that line; tables look like [queues.default]."
        raise ConfigError(file, [ConfigProblem("", f"not TOML: {error}", cure)]) from None
    problems: list[ConfigProblem] = []
    contents = section(TraceFile, table, "", problems)
    trace = _trace(contents, problems)
    if problems:
        raise ConfigError(file, problems)
    return trace


def _trace(file: TraceFile, problems: list[ConfigProblem]) -> Trace:
    duration = file.duration_seconds or 0.0
    _check_whole(file, problems)
    profiles = _profiles(file, problems)
    queues = tuple(_queue(name, queue, duration, problems) for name, queue in file.queues.items())
    trace = Trace(
        name=file.name,
        seed=file.seed,
        duration_seconds=duration,
        tick_seconds=file.tick_seconds,
        boot_seconds=file.boot_seconds,
        beat_seconds=file.beat_seconds,
        initial_instances=file.initial_instances,
        targets_seconds=file.targets,
        queues=queues,
        profiles=profiles,
        max_connections=file.database.max_connections,
        others=file.database.others,
        knee_busy_threads=file.database.knee_busy_threads,
        memory_bytes=file.host.memory_bytes,
        instance_memory_bytes=file.host.instance_memory_bytes,
        faults=tuple(_fault(i, fault, duration, problems) for i, fault in enumerate(file.faults)),
    )
    if profiles:
        problems += unserved(trace, profiles)
    return trace


def _check_whole(file: TraceFile, problems: list[ConfigProblem]) -> None:
    """What is missing, and what does not fit together."""
    if file.duration_seconds is None and not _told(problems, "duration_seconds"):
        problems.append(ConfigProblem("duration_seconds", "missing", "Say how long it lasts, e.g. 21600."))
    low, high = file.boot_seconds
    if not 0 < low <= high:
        what = f"{show(list(file.boot_seconds))} is not a range of seconds"
        problems.append(ConfigProblem("boot_seconds", what, "Write [fastest, slowest], e.g. [12, 30]."))
    if not file.queues and not _told(problems, "queues"):
        problems.append(ConfigProblem("queues", "none, so nothing would happen", "Add [queues.default]."))
    for name in file.targets:
        if file.queues and name not in file.queues:
            meant = nearest(name, file.queues)
            cure = f"Did you mean {meant}?" if meant else "Remove it, or add the queue."
            problems.append(ConfigProblem(join("targets", name), "the trace has no such queue", cure))
    _rising("database.others", file.database.others, file.duration_seconds or 0.0, problems)
    _memory(file.host, problems)


def _told(problems: list[ConfigProblem], path: str) -> bool:
    return any(problem.path.startswith(path) for problem in problems)


def unserved(trace: Trace, profiles: tuple[Profile, ...]) -> list[ConfigProblem]:
    """Queues whose jobs nobody would ever fetch."""
    return [
        ConfigProblem(
            join("queues", queue.name),
            "no profile serves this queue: its jobs would wait for ever",
            "Add it to a profile's queues or weights.",
        )
        for queue in trace.queues
        if not any(profile.serves(queue.name) for profile in profiles)
    ]


def _profiles(file: TraceFile, problems: list[ConfigProblem]) -> tuple[Profile, ...]:
    """Numbers are given out in order; max is `instances`, min `initial_instances` unless given."""
    sections: dict[str, ProfileSection] = {}
    first = 1
    for name, given in file.profiles.items():
        count = given.instances if given.instances is not None else 8
        low = given.min if given.min is not None else file.initial_instances
        if low > count:
            path = join("profiles", name) + (".min" if given.min is not None else "")
            what = f"{low} to begin with is more than instances = {count}"
            problems.append(ConfigProblem(path, what, "Raise instances, or lower min or initial_instances."))
            low = count
        sections[name] = ProfileSection(
            order=given.order,
            queues=given.queues,
            weights=given.weights,
            threads=given.threads,
            db_pool=given.db_pool,
            instances=tuple(range(first, first + count)),
            min=low,
            max=count,
        )
        first += count
    return build_profiles(sections, problems) if sections else ()


def _queue(name: str, queue: QueueSection, duration: float, problems: list[ConfigProblem]) -> QueueTraffic:
    path = join("queues", name)
    _rising(f"{path}.arrivals_per_second", queue.arrivals_per_second, duration, problems)
    _rising(f"{path}.bursts", queue.bursts, duration, problems)
    mean = queue.service_seconds.mean
    if mean is None and not _told(problems, f"{path}.service_seconds"):
        cure = "Write e.g. service_seconds = { mean = 0.2, sigma = 1.0 }."
        problems.append(ConfigProblem(f"{path}.service_seconds", "says no mean", cure))
    return QueueTraffic(
        name=name,
        arrivals_per_second=queue.arrivals_per_second,
        bursts=queue.bursts,
        service_mean_seconds=mean or 1.0,
        service_sigma=queue.service_seconds.sigma,
    )


def _rising(path: str, points: Points, duration: float, problems: list[ConfigProblem]) -> None:
    """Points in time, none negative, none beyond the end."""
    last = 0.0
    for index, (at, value) in enumerate(points):
        here = f"{path}[{index}]"
        if value < 0:
            problems.append(ConfigProblem(here, f"{value:g} is negative", "Write 0 or more."))
        if at < last:
            what = f"{at:g} s comes after {last:g} s"
            problems.append(ConfigProblem(here, what, "Put the points in the order of their times, from 0."))
        elif duration and at > duration:
            what = f"{at:g} s is after the end of the trace ({duration:g} s)"
            problems.append(ConfigProblem(here, what, "Move it, or make the trace longer."))
        last = max(last, at)


def _memory(host: HostSection, problems: list[ConfigProblem]) -> None:
    first, last = host.instance_memory_bytes
    if not 0 < first <= last:
        what = f"{show(list(host.instance_memory_bytes))} is not a size after boot and one after a day"
        problems.append(ConfigProblem("host.instance_memory_bytes", what, "Write e.g. [300e6, 1000e6]."))


def _fault(index: int, fault: FaultSection, duration: float, problems: list[ConfigProblem]) -> Fault:
    path = f"faults[{index}]"
    if fault.at is None:
        if not _told(problems, f"{path}.at"):
            problems.append(ConfigProblem(f"{path}.at", "missing", "Say when, in seconds from the begin."))
    elif duration and fault.at > duration:
        what = f"{fault.at:g} s is after the end of the trace ({duration:g} s)"
        problems.append(ConfigProblem(f"{path}.at", what, "Move it, or make the trace longer."))
    if (fault.source is None) == (fault.kill_instances is None) and not _told(problems, path):
        cure = 'Write either source = "redis" with for_seconds, or kill_instances = 3.'
        problems.append(ConfigProblem(path, "is neither one source nor one kill", cure))
    if fault.source is not None and fault.for_seconds is None and not _told(problems, path):
        problems.append(ConfigProblem(f"{path}.for_seconds", "missing", "Say for how long it is away."))
    at = fault.at or 0.0
    return Fault(
        at_seconds=at,
        until_seconds=at + (fault.for_seconds or 0.0),
        source=fault.source or "",
        kill_instances=fault.kill_instances or 0,
    )


def value_at(points: Points, at: float) -> float:
    """A piecewise linear curve at a time; before its first point and after its last it is level; () is 0."""
    if not points:
        return 0.0
    before = points[0]
    if at <= before[0]:
        return before[1]
    for point in points[1:]:
        if at < point[0]:
            share = (at - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]
