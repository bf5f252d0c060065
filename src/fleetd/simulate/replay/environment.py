"""What a recording tells about the world around the queues: instances, connections, memory, boots, outages."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import quantiles

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Value
from fleetd.core.model.history import InstanceSample, PolicyChange, Recording, Sample
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.replay.timeline import Moment, Reading, outages
from fleetd.simulate.trace.trace import Database, Fault, Host, Points

BOOT_SECONDS_PRIOR = (12.0, 30.0)
#: A boot does not count if samples are further apart than this.
WATCHED_SECONDS_MAX = 15.0
MEBIBYTE = 1024.0 * 1024.0
#: Others' connections are the highest count in each period of this length.
OTHERS_SECONDS = 60.0
UNWATCHED_SECONDS = 30.0
#: Workers stood still if they did less than this share of the work that was to be expected.
STANDSTILL_SHARE = 0.3


class FleetUse(Value, frozen=True, kw_only=True):
    """What the instances of this host cost."""

    instance_seconds: float
    starts: int


def use(moments: list[Moment]) -> FleetUse:
    """What truly ran. An instance that appears counts as a start."""
    present = [
        (moment.second, {instance.number for instance in moment.sample.instances})
        for moment in moments
        if moment.sample.instances is not None
    ]
    return FleetUse(
        instance_seconds=round(sum(len(was) * (after - at) for (at, was), (after, _) in pairwise(present))),
        starts=sum(len(now - was) for (_, was), (_, now) in pairwise(present)),
    )


def profile_name(instance: InstanceSample, policy: Policy) -> str | None:
    """The policy's profile of that name, because numbers may have moved; else the one that owns its number."""
    if policy.profile(instance.profile) is not None:
        return instance.profile
    profile = policy.profile_of(InstanceKey(instance.number))
    return None if profile is None else profile.name


def since_its_profiles(recording: Recording, policy: Policy) -> tuple[Sample, ...]:
    """The samples after the last one with an instance of a profile that the policy no longer has.

    One that is left over does not count: it only leaves, under a policy that has its profile no more either.
    """
    start = 0
    for index, sample in enumerate(recording.samples):
        strange = [i for i in sample.instances or () if i.counts and profile_name(i, policy) is None]
        if strange:
            then = policy_at(recording.policies, sample.at_seconds)
            start = index + 1 if any(profile_name(i, then) is not None for i in strange) else start
    return recording.samples[start:]


def policy_at(policies: tuple[PolicyChange, ...], at_seconds: float) -> Policy:
    """The policy that was in force then."""
    before = [change for change in policies if change.at_seconds <= at_seconds]
    return (before or policies)[-1 if before else 0].policy


def sizes(moments: list[Moment], policy: Policy) -> dict[str, Points]:
    """Instances of each profile that were capacity: a point for each change."""
    found: dict[str, list[tuple[float, float]]] = {profile.name: [] for profile in policy.profiles}
    for moment in moments:
        if moment.sample.instances is not None:
            counts = Counter(profile_name(i, policy) for i in moment.sample.instances if i.counts)
            for name, points in found.items():
                if not points or points[-1][1] != counts[name]:
                    points.append((moment.second, float(counts[name])))
    return {name: tuple(points) for name, points in found.items()}


def ages(readings: list[Reading]) -> dict[str, Points]:
    """The oldest job's age in each queue, at each reading."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for reading in readings:
        for name, queue in reading.queues.items():
            found[name].append((reading.second, queue.latency_milliseconds / 1000.0))
    return {name: tuple(points) for name, points in found.items()}


def unwatched(readings: list[Reading]) -> tuple[tuple[float, float], ...]:
    """The times between readings that are far apart."""
    return tuple((a.second, b.second) for a, b in pairwise(readings) if b.second - a.second > UNWATCHED_SECONDS)


def database(moments: list[Moment]) -> Database:
    """The highest limit that was seen, and everyone else's connections, at most one point a minute."""
    seen = [
        (moment.second, moment.sample.limit_connections, moment.sample.others_connections)
        for moment in moments
        if moment.sample.limit_connections is not None and moment.sample.others_connections is not None
    ]
    if not seen:
        return Database()
    highest_limit = max(1, *(limit for _, limit, _ in seen))
    step = max(OTHERS_SECONDS, moments[-1].second / 2000)
    highest: dict[int, float] = {}
    for second, limit, others in seen:
        # While the limit was lower, somebody else had the difference.
        index = int(second / step)
        highest[index] = max(highest.get(index, 0.0), float(max(0, others + highest_limit - limit)))
    points: list[tuple[float, float]] = []
    for index, most in sorted(highest.items()):
        at = round(index * step, 1)
        if points and points[-1][1] == most:
            continue
        if points and at - 1.0 > points[-1][0]:  # a curve is linear between its points, but a count is level
            points.append((round(at - 1.0, 1), points[-1][1]))
        points.append((at, most))
    return Database(max_connections=highest_limit, others=tuple(points))


def boot_seconds(moments: list[Moment]) -> tuple[float, float]:
    """The fastest and the slowest boot that was watched; else 20 % around what was learnt; else a usual range."""
    watched = _watched_boots(moments)
    if len(watched) >= 2:
        return round(max(0.5, min(watched)), 1), round(max(watched), 1)
    for moment in reversed(moments):
        learnt = [ms / 1000.0 for ms in moment.sample.boot_milliseconds.values() if ms > 0]
        if learnt:
            return round(max(0.5, 0.8 * min(learnt)), 1), round(max(0.5, 1.2 * max(learnt)), 1)
    return BOOT_SECONDS_PRIOR


def _watched_boots(moments: list[Moment]) -> list[float]:
    """How long boots took, sorted, without the shortest and the longest twentieth."""
    began: dict[int, float] = {}
    found: list[float] = []
    last = 0.0
    for moment in moments:
        if moment.second - last > WATCHED_SECONDS_MAX:
            began = {}
        states = {i.number: i.state for i in moment.sample.instances or ()}
        found += [moment.second - at for n, at in began.items() if states.get(n) == InstanceState.SERVING]
        starting = [n for n, state in states.items() if state == InstanceState.STARTING]
        began = {n: began.get(n, moment.second) for n in starting}
        last = moment.second
    return sorted(found)[len(found) // 20 : len(found) - len(found) // 20]


def host(moments: list[Moment], policy: Policy) -> Host:
    """Memory. After boot and after a day, an instance is as large as the small and the large ones that served."""
    known = [m.sample.memory_total_mebibytes for m in moments if m.sample.memory_total_mebibytes]
    seen = [
        i.resident_mebibytes
        for moment in moments
        for i in moment.sample.instances or ()
        if i.resident_mebibytes and i.state == InstanceState.SERVING
    ]
    sizes = 0.3 * policy.memory.instance_bytes, float(policy.memory.instance_bytes)
    if len(seen) >= 2:
        marks = quantiles(seen, n=20)
        sizes = round(marks[0] * MEBIBYTE), round(max(marks[0], marks[-1]) * MEBIBYTE)
    if not known:
        return Host(instance_memory_bytes=sizes)
    return Host(memory_bytes=max(1e6, known[-1] * MEBIBYTE), instance_memory_bytes=sizes)


def faults(moments: list[Moment], readings: list[Reading]) -> tuple[list[Fault], list[str]]:
    """Outages, and notes about those in which only fleetd was shut out while the workers went on."""
    found, shut_out_seconds = [], dict[str, float]()
    for outage in outages(moments):
        lasted = outage.until - outage.at
        if outage.source != "systemd" and not _stood_still(outage, readings):
            source = str(outage.source)
            shut_out_seconds[source] = shut_out_seconds.get(source, 0.0) + lasted
        elif lasted >= 1.0:
            found.append(outage)
    return found, [
        f"{source} could not be read for {seconds:.0f} s while the workers went on: no fault in the trace"
        for source, seconds in shut_out_seconds.items()
    ]


def _stood_still(outage: Fault, readings: list[Reading]) -> bool:
    """Whether the counter stood still during an outage, compared with as long a time before it."""
    after = next((r for r in readings if r.second >= outage.until), None)
    at_begin = _processed_jobs(readings, outage.at)
    if after is None or at_begin is None:
        return True
    lasted = after.second - outage.at
    compared = max(30.0, lasted)
    before = _processed_jobs(readings, outage.at - compared)
    if before is None or at_begin <= before:
        return True
    usual = (at_begin - before) * (lasted / compared)
    return after.processed_jobs_total - at_begin < STANDSTILL_SHARE * usual


def _processed_jobs(readings: list[Reading], second: float) -> int | None:
    """The counter at the last reading up to a second."""
    return next((r.processed_jobs_total for r in reversed(readings) if r.second <= second), None)
