"""A trace: a time of traffic, the world it meets, and what goes wrong in it, as a TOML file says.

Every problem of a file is found at once, with its key path and a cure. The format is documented in docs/traces.md.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from msgspec import structs

from fleetd.config.profiles import build_profiles
from fleetd.config.schema import ProfileSection
from fleetd.config.tables import join, section
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy, Profile
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.trace.checks import (
    NO_PROFILES,
    check_bursts,
    check_fault,
    check_initial,
    check_points,
    check_size,
    check_whole,
    misfits,
    told,
)
from fleetd.simulate.trace.keys import BEAT_SECONDS, FaultSection, Points, QueueSection, TraceFile

FILE_BYTES_MAX = 16 * 1024 * 1024


class QueueTraffic(Value, frozen=True, kw_only=True):
    """What arrives on one queue, and how long its jobs take."""

    name: str
    arrivals_per_second: Points  # piecewise linear, mean rate of a Poisson process
    bursts: Points  # (at, jobs at once)
    service_mean_seconds: float
    service_sigma: float  # of the logarithm


Source = Literal["redis", "postgres", "systemd"]


class Fault(Value, frozen=True, kw_only=True):
    """A source that is away from `at` to `until`, or instances that are killed."""

    at_seconds: float
    until_seconds: float
    source: Source | None = None
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
    return _sound(str(path), *read_trace(path))


def parse_trace(text: str, file: str = "trace.toml") -> Trace:
    """The trace in a TOML text; raises ConfigError with every problem."""
    return _sound(file, *_parsed(text, file))


def _sound(file: str, trace: Trace, problems: list[ConfigProblem]) -> Trace:
    if problems:
        raise ConfigError(file, problems)
    return trace


def read_trace(path: str | Path) -> tuple[Trace, list[ConfigProblem]]:
    """The trace, with defaults for what is wrong, and what that is; raises ConfigError where it is no TOML file."""
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        what = f"can't be read: {getattr(error, 'strerror', None) or error}"
        cure = "Name a trace file, such as benchmarks/traces/calm-day.toml."
        raise ConfigError(str(path), [ConfigProblem("", what, cure)]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(str(path), [ConfigProblem("", "larger than 16 MiB", "Name a trace file.")])
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError:
        raise ConfigError(str(path), [ConfigProblem("", "is not UTF-8", "Save it as UTF-8.")]) from None
    return _parsed(text, str(path))


def _parsed(text: str, file: str) -> tuple[Trace, list[ConfigProblem]]:
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also of numbers with thousands of digits
        cure = "Mend that line; tables look like [queues.default]."
        raise ConfigError(file, [ConfigProblem("", f"not TOML: {error}", cure)]) from None
    problems: list[ConfigProblem] = []
    contents = section(TraceFile, table, "", problems)
    return _trace(contents, problems), problems


def _trace(file: TraceFile, problems: list[ConfigProblem]) -> Trace:
    duration = file.duration_seconds or 0.0
    check_whole(file, problems)
    profiles = _profiles(file, problems)
    if profiles:
        problems += misfits(file.queues, file.targets, profiles)
    return Trace(
        name=file.name,
        seed=file.seed,
        duration_seconds=duration,
        tick_seconds=file.tick_seconds,
        boot_seconds=file.boot_seconds,
        beat_seconds=file.beat_seconds,
        initial_instances=file.initial_instances,
        targets_seconds=file.targets,
        queues=tuple(_queue(name, queue, duration, problems) for name, queue in file.queues.items()),
        profiles=profiles,
        max_connections=file.database.max_connections,
        others=file.database.others,
        knee_busy_threads=file.database.knee_busy_threads,
        memory_bytes=file.host.memory_bytes,
        instance_memory_bytes=file.host.instance_memory_bytes,
        faults=tuple(_fault(i, fault, duration, problems) for i, fault in enumerate(file.faults)),
    )


def _profiles(file: TraceFile, problems: list[ConfigProblem]) -> tuple[Profile, ...]:
    """Numbers are given out in order; max is `instances`, min `initial_instances` unless given."""
    sections: dict[str, ProfileSection] = {}
    first = 1
    for name, given in file.profiles.items():
        count = given.instances if given.instances is not None else 8
        low = min(count, given.min if given.min is not None else file.initial_instances)
        check_size(name, given.min, count, problems)
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
    check_initial(file.initial_instances, {n: s.max or 0 for n, s in sections.items()}, problems)
    return build_profiles(sections, problems) if sections else ()


def _queue(name: str, queue: QueueSection, duration: float, problems: list[ConfigProblem]) -> QueueTraffic:
    path = join("queues", name)
    check_points(f"{path}.arrivals_per_second", queue.arrivals_per_second, duration, problems)
    check_bursts(f"{path}.bursts", queue.bursts, duration, problems)
    mean = queue.service_seconds.mean
    if mean is None and not told(problems, f"{path}.service_seconds"):
        cure = "Write e.g. service_seconds = { mean = 0.2, sigma = 1.0 }."
        problems.append(ConfigProblem(f"{path}.service_seconds", "says no mean", cure))
    return QueueTraffic(
        name=name,
        arrivals_per_second=queue.arrivals_per_second,
        bursts=queue.bursts,
        service_mean_seconds=mean or 1.0,
        service_sigma=queue.service_seconds.sigma,
    )


def _fault(index: int, fault: FaultSection, duration: float, problems: list[ConfigProblem]) -> Fault:
    check_fault(f"faults[{index}]", fault, duration, problems)
    at = fault.at or 0.0
    return Fault(
        at_seconds=at,
        until_seconds=at + (fault.for_seconds or 0.0),
        source=fault.source,
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


def configured(
    trace: Trace, policy: Policy | None, without_min: tuple[str, ...], problems: list[ConfigProblem]
) -> Policy | None:
    """The configuration's policy for a trace; what does not fit goes to `problems`.

    `without_min`: profiles whose min is the default. Theirs is what the trace begins with, as of its own profiles.
    """
    if trace.profiles or told(problems, "profiles"):
        return policy
    if policy is None:
        problems.append(NO_PROFILES)
        return None
    problems += misfits([queue.name for queue in trace.queues], trace.targets_seconds, policy.profiles)
    initial = trace.initial_instances
    check_initial(initial, {p.name: p.max_instances for p in policy.profiles}, problems)
    profiles = tuple(
        structs.replace(p, min_instances=min(initial, p.max_instances)) if p.name in without_min else p
        for p in policy.profiles
    )
    return structs.replace(policy, profiles=profiles)
