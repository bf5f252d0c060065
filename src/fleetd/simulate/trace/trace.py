"""A trace: a time of traffic, the world it meets, and what goes wrong in it, as a TOML file says.

Every problem of a file is found at once, with its key path and a cure. The format is documented in docs/traces.md.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from msgspec import structs

from fleetd.config.profiles import build_profiles
from fleetd.config.schema import ProfileSection
from fleetd.config.tables import section
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy, Profile
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.trace.checks import NO_PROFILES, is_known, misfits, problems_of, too_many_initial
from fleetd.simulate.trace.keys import BEAT_SECONDS, Points, Source, TraceFile

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
    problems += problems_of(file, problems)
    profiles = _profiles(file, problems)
    if profiles:
        problems += misfits(file.queues, file.targets, profiles)
    return Trace(
        name=file.name,
        seed=file.seed,
        duration_seconds=file.duration_seconds or 0.0,
        tick_seconds=file.tick_seconds,
        boot_seconds=file.boot_seconds,
        beat_seconds=file.beat_seconds,
        initial_instances=file.initial_instances,
        targets_seconds=file.targets,
        queues=tuple(
            QueueTraffic(
                name=name,
                arrivals_per_second=queue.arrivals_per_second,
                bursts=queue.bursts,
                service_mean_seconds=queue.service_seconds.mean or 1.0,
                service_sigma=queue.service_seconds.sigma,
            )
            for name, queue in file.queues.items()
        ),
        profiles=profiles,
        max_connections=file.database.max_connections,
        others=file.database.others,
        knee_busy_threads=file.database.knee_busy_threads,
        memory_bytes=file.host.memory_bytes,
        instance_memory_bytes=file.host.instance_memory_bytes,
        faults=tuple(
            Fault(
                at_seconds=fault.at or 0.0,
                until_seconds=(fault.at or 0.0) + (fault.for_seconds or 0.0),
                source=fault.source,
                kill_instances=fault.kill_instances or 0,
            )
            for fault in file.faults
        ),
    )


def _profiles(file: TraceFile, problems: list[ConfigProblem]) -> tuple[Profile, ...]:
    """Numbers are given out in order; max is `instances`, min `initial_instances` unless given."""
    sections: dict[str, ProfileSection] = {}
    first = 1
    for name, given in file.profiles.items():
        count = given.instances
        low = min(count, file.initial_instances if given.min is None else given.min)
        keys = structs.asdict(given) | {
            "instances": tuple(range(first, first + count)),
            "min": low,
            "max": count,
        }
        sections[name] = ProfileSection(**keys)
        first += count
    counts = {name: given.instances for name, given in file.profiles.items()}
    problems += too_many_initial(file.initial_instances, counts)
    return build_profiles(sections, problems) if sections else ()


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
    if trace.profiles or is_known(problems, "profiles"):
        return policy
    if policy is None:
        problems.append(NO_PROFILES)
        return None
    problems += misfits([queue.name for queue in trace.queues], trace.targets_seconds, policy.profiles)
    initial = trace.initial_instances
    problems += too_many_initial(initial, {p.name: p.max_instances for p in policy.profiles})
    profiles = tuple(
        structs.replace(p, min_instances=min(initial, p.max_instances)) if p.name in without_min else p
        for p in policy.profiles
    )
    return structs.replace(policy, profiles=profiles)
