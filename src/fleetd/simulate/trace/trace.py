"""A trace: a stretch of traffic, the world it meets, and what goes wrong in it, read from a TOML file.

docs/traces.md explains every key. All problems of a file are found at once, each with its key path and a cure. Times
are seconds since the start of the trace.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, structs

from fleetd.config.access_tables import ProfileSection, Section
from fleetd.config.profiles import build_profiles
from fleetd.config.toml_reader import ENTRIES_TOLD_MAX, join, nearest, section, show
from fleetd.core.model.policy_tables import INSTANCES_MAX, QUEUES_MAX, Policy, Pool, Profile, QueueName, Target, Threads
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.simulate.trace.bounds import BYTES_MAX, DAY_SECONDS, DURATION_SECONDS_MAX, At, shape
from fleetd.simulate.trace.hosts import HostTable, host_problems, profile_problems, served_profiles

FILE_BYTES_MAX = 16 * 1024 * 1024
#: The simulator keeps every second of every queue: about 150 bytes while jobs wait.
QUEUE_DAYS_MAX = 200
POINTS_MAX = 200_000
BURST_JOBS_MAX = 1_000_000_000
RATE_MAX_PER_SECOND = 1_000_000
CONNECTIONS_MAX = 100_000
NO_PROFILES = ConfigProblem(
    "profiles",
    "none, and no configuration is given",
    "Add [profiles.local] to the trace, or name a fleetd.toml with --config.",
)


def _curve(example: str) -> Meta:
    return Meta(max_length=POINTS_MAX, examples=[example])


Points = tuple[tuple[float, float], ...]
Source = Literal["redis", "postgres", "systemd"]
Duration = Annotated[float, Meta(ge=60, le=DURATION_SECONDS_MAX, examples=["21600"])]
ArrivalPoint = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=RATE_MAX_PER_SECOND)]],
    shape(f"[at, rate]: from 0 s on, 0 to {RATE_MAX_PER_SECOND:,} jobs a second", "[3600, 90.0]"),
]
Burst = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=BURST_JOBS_MAX)]],
    shape(f"[at, jobs]: from 0 s on, 0 to {BURST_JOBS_MAX:,} jobs at once", "[1800, 20000]"),
]
OthersPoint = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=CONNECTIONS_MAX)]],
    shape(f"[at, connections]: from 0 s on, 0 to {CONNECTIONS_MAX:,} connections", "[5000, 230]"),
]
BootSeconds = Annotated[float, Meta(ge=0.1, le=86_400)]
BootRange = Annotated[
    tuple[BootSeconds, BootSeconds], shape("[fastest, slowest], each 0.1 to 86400 seconds", "[12, 30]")
]
InstanceBytes = Annotated[float, Meta(ge=1, le=BYTES_MAX)]
InstanceMemory = Annotated[
    tuple[InstanceBytes, InstanceBytes], shape("[after boot, after a day], each 1 to 1e15 bytes", "[300e6, 1000e6]")
]


class ServiceSeconds(Section, frozen=True, kw_only=True):
    """How long a job takes: lognormal; `sigma` is of the logarithm."""

    mean: Annotated[float, Meta(ge=0.0001, le=86_400, examples=["0.2"])] = 1.0  # required
    sigma: Annotated[float, Meta(ge=0, le=4)] = 1.0


class QueueTraffic(Section, frozen=True, kw_only=True):
    """Arrivals on one queue, and how long its jobs take."""

    arrivals_per_second: Annotated[tuple[ArrivalPoint, ...], _curve("[[0, 12.0], [3600, 90.0]]")] = ()  # Poisson
    bursts: Annotated[tuple[Burst, ...], _curve("[[1800, 20000]]")] = ()
    service_seconds: ServiceSeconds = ServiceSeconds()


class TraceProfile(Section, frozen=True, kw_only=True):
    """A profile; instance numbers are given out in the order of the profiles."""

    order: str | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1)] | None = None
    weights: dict[QueueName, Annotated[int, Meta(ge=1, le=100)]] | None = None
    threads: Threads = 25
    db_pool: Pool | None = None
    instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] = 8
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None  # None: initial_instances


class Database(Section, frozen=True, kw_only=True):
    """Connections: `others` are everyone else's. With more busy threads than the knee, every job slows down."""

    max_connections: Annotated[int, Meta(ge=1, le=CONNECTIONS_MAX)] = 700
    others: Annotated[tuple[OthersPoint, ...], _curve("[[0, 150], [5000, 230]]")] = ()
    knee_busy_threads: Annotated[float, Meta(ge=1, le=CONNECTIONS_MAX)] | None = None
    #: How long the connections of a host stay open that has lost its power. By default until Linux gives them up
    #: (net.ipv4.tcp_keepalive_time and its probes). Postgres may do so sooner: tcp_keepalives_idle.
    lost_connections_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None  # None: 7,875


class Host(Section, frozen=True, kw_only=True):
    """Memory of the worker host, and of an instance after its boot and after a day."""

    memory_bytes: Annotated[float, Meta(ge=1e6, le=BYTES_MAX)] = 32 * 1024.0**3
    instance_memory_bytes: InstanceMemory = (300e6, 1000e6)


class Fault(Section, frozen=True, kw_only=True):
    """Either a source that is away for a time, or instances that are killed."""

    at: At = 0.0  # required
    for_seconds: Annotated[float, Meta(ge=1, le=DURATION_SECONDS_MAX, examples=["120"])] | None = None
    source: Annotated[Source, Meta(examples=['"redis"'])] | None = None
    kill_instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX, examples=["3"])] | None = None

    @property
    def until(self) -> float:
        return self.at + (self.for_seconds or 0.0)


class Trace(Section, frozen=True, kw_only=True):
    """A trace, key by key as in its file. Required keys have defaults so that a file without them can be checked."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] = "unnamed"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    duration_seconds: Duration = DURATION_SECONDS_MAX  # required
    tick_seconds: Annotated[float, Meta(ge=1, le=60)] = 5.0
    boot_seconds: BootRange = (12.0, 30.0)
    beat_seconds: Annotated[int, Meta(ge=1, le=30)] = 10  # of Sidekiq from 7 on; up to 6.5 it is 5 s
    initial_instances: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] = 1
    targets: dict[str, Target] = {}  # seconds
    queues: dict[str, QueueTraffic] = {}
    profiles: dict[str, TraceProfile] = {}  # none: the configuration's
    database: Database = Database()
    host: Host = Host()
    hosts: tuple[HostTable, ...] = ()  # none: one host without a ledger, and the scheduler is elsewhere
    faults: tuple[Fault, ...] = ()


def load_trace(path: str | Path) -> Trace:
    """The trace in a file. Raises ConfigError with every problem in it."""
    return _sound(str(path), *read_trace(path))


def parse_trace(text: str, file: str = "trace.toml") -> Trace:
    """The trace in a TOML text. Raises ConfigError with every problem in it."""
    return _sound(file, *_parsed(text, file))


def _sound(file: str, trace: Trace, problems: list[ConfigProblem]) -> Trace:
    if problems:
        raise ConfigError(file, problems)
    return trace


def read_trace(path: str | Path) -> tuple[Trace, list[ConfigProblem]]:
    """The trace with defaults for wrong keys, and all that is wrong. Raises ConfigError if it is no TOML file."""
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
        text = content.decode("utf-8-sig")  # some editors write a byte order mark
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
    trace = section(Trace, table, "", problems)
    problems += [*_missing(table), *_impossible(trace)]
    if not problems:
        problems += too_much(trace)
    profiles = profiles_of(trace, problems)
    if profiles:
        problems += fit(trace, profiles)
    return trace, problems


def profiles_of(trace: Trace, problems: list[ConfigProblem]) -> tuple[Profile, ...]:
    """The trace's own profiles. What is wrong with them is added to `problems`."""
    sections: dict[str, ProfileSection] = {}
    first = 1
    for name, given in trace.profiles.items():
        count = given.instances
        low = min(count, trace.initial_instances if given.min is None else given.min)
        keys = structs.asdict(given) | {"instances": tuple(range(first, first + count)), "min": low, "max": count}
        sections[name] = ProfileSection(**keys)
        first += count
    if not trace.hosts:
        counts = {name: given.instances for name, given in trace.profiles.items()}
        problems += _too_many_initial(trace.initial_instances, counts)
    return build_profiles(sections, problems) if sections else ()


def configured(
    trace: Trace, policy: Policy | None, without_min: tuple[str, ...], problems: list[ConfigProblem]
) -> Policy | None:
    """The configuration's policy for a trace. What does not fit is added to `problems`.

    `without_min`: profiles without a min of their own. As with the trace's profiles, it is `initial_instances`.
    """
    if trace.profiles or any(problem.path.startswith("profiles") for problem in problems):
        return policy
    if policy is None:
        problems.append(NO_PROFILES)
        return None
    initial = trace.initial_instances
    profiles = tuple(
        structs.replace(p, min_instances=min(initial, p.max_instances)) if p.name in without_min else p
        for p in policy.profiles
    )
    problems += fit(trace, profiles)
    if not trace.hosts:
        problems += _too_many_initial(initial, {p.name: p.max_instances for p in policy.profiles})
    return structs.replace(policy, profiles=profiles)


def fit(trace: Trace, profiles: tuple[Profile, ...]) -> list[ConfigProblem]:
    """What does not fit these profiles: hosts, queues, targets."""
    found = list(profile_problems(trace.hosts, profiles, trace.initial_instances))
    return found + misfits(trace.queues, trace.targets, served_profiles(trace.hosts, profiles))


def value_at(points: Points, at: float) -> float:
    """A piecewise linear curve at a time. It is level before its first point and after its last; () is 0 everywhere."""
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


def _missing(table: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    """Required keys that are not in the file. Those of a wrong type are problems already."""
    if "duration_seconds" not in table:
        yield ConfigProblem("duration_seconds", "missing", "Say how long it lasts, e.g. 21600.")
    queues, faults = table.get("queues", {}), table.get("faults", [])
    if queues == {}:
        yield ConfigProblem("queues", "none, so nothing would happen", "Add [queues.default].")
    for name, queue in queues.items() if isinstance(queues, dict) else ():
        service = queue.get("service_seconds", {}) if isinstance(queue, dict) else None
        if isinstance(service, dict) and "mean" not in service:
            cure = "Write e.g. service_seconds = { mean = 0.2, sigma = 1.0 }."
            yield ConfigProblem(join("queues", name) + ".service_seconds", "says no mean", cure)
    for index, fault in enumerate(faults if isinstance(faults, list) else ()):
        if isinstance(fault, dict):
            yield from _missing_in_fault(f"faults[{index}]", fault)


def _missing_in_fault(path: str, fault: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    """A fault is one source for a time or one kill, and has a time."""
    if "at" not in fault:
        yield ConfigProblem(f"{path}.at", "missing", "Say when, in seconds from the start.")
    if ("source" in fault) == ("kill_instances" in fault):
        cure = 'Write either source = "redis" with for_seconds, or kill_instances = 3.'
        yield ConfigProblem(path, "is neither one source nor one kill", cure)
    elif "source" in fault and "for_seconds" not in fault:
        yield ConfigProblem(f"{path}.for_seconds", "missing", "Say for how long it is away.")
    elif "kill_instances" in fault and "for_seconds" in fault:
        what = "a kill takes no time: systemd boots the instances again"
        yield ConfigProblem(f"{path}.for_seconds", what, "Remove it.")


def _impossible(trace: Trace) -> Iterator[ConfigProblem]:
    end = trace.duration_seconds
    if not trace.name.isprintable():
        what = f"{show(trace.name)} has characters that can't be shown"
        yield ConfigProblem("name", what, "Use letters, digits, spaces and the like.")
    fastest, slowest = trace.boot_seconds
    if fastest > slowest:
        what = f"{fastest:g} is more than {slowest:g}; it is [fastest, slowest]"
        yield ConfigProblem("boot_seconds", what, "Write e.g. [12, 30].")
    small, large = trace.host.instance_memory_bytes
    if small > large:
        what = f"{small:g} is more than {large:g}; it is [after boot, after a day]"
        yield ConfigProblem("host.instance_memory_bytes", what, "Write e.g. [300e6, 1000e6].")
    for name, profile in trace.profiles.items():
        if profile.min is not None and profile.min > profile.instances:
            what = f"{profile.min} is more than instances = {profile.instances}"
            yield ConfigProblem(join("profiles", name) + ".min", what, "Lower it, or raise instances.")
    yield from _misplaced("database.others", trace.database.others, end)
    for name, queue in trace.queues.items():
        path = join("queues", name)
        yield from _misplaced(f"{path}.arrivals_per_second", queue.arrivals_per_second, end)
        yield from _misplaced(f"{path}.bursts", queue.bursts, end, before_end=True)
        for index, (_, jobs) in enumerate(queue.bursts):
            if jobs != int(jobs):
                what = f"{jobs:g} jobs"
                yield ConfigProblem(f"{path}.bursts[{index}]", what, "Write a whole number of jobs.")
                break
    for index, fault in enumerate(trace.faults):
        if fault.at >= end:
            yield _after_the_end(f"faults[{index}].at", fault.at, end)
    yield from host_problems(trace.hosts, end)


def _misplaced(path: str, points: Points, end: float, *, before_end: bool = False) -> Iterator[ConfigProblem]:
    """The first point that is out of order, or after the end."""
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


def too_much(trace: Trace) -> Iterator[ConfigProblem]:
    """What would take too much memory. The number of jobs does not matter: threads limit how many are served."""
    if len(trace.queues) > QUEUES_MAX:
        yield ConfigProblem("queues", f"{len(trace.queues)} queues", f"Use at most {QUEUES_MAX}.")
    days = trace.duration_seconds / DAY_SECONDS
    if days * len(trace.queues) > QUEUE_DAYS_MAX:
        what = f"{days:.1f} days of {len(trace.queues)} queues are too much to simulate at once"
        cure = f"Days times queues may be {QUEUE_DAYS_MAX}: make it shorter, or leave queues out."
        yield ConfigProblem("duration_seconds", what, cure)


def _too_many_initial(initial: int, instances: Mapping[str, int]) -> list[ConfigProblem]:
    """Profiles that have fewer instances than shall serve at the start."""
    short = [f"{name} has {count}" for name, count in instances.items() if count < initial]
    if not short:
        return []
    what = f"{initial} of each profile are more than there are: {', '.join(short[:ENTRIES_TOLD_MAX])}"
    return [ConfigProblem("initial_instances", what, "Lower it, or give the profile more instances.")]


def misfits(queues: Collection[str], targets: Iterable[str], profiles: tuple[Profile, ...]) -> list[ConfigProblem]:
    """Queues that no profile serves, and targets of unknown queues."""
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
