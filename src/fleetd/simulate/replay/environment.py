"""What a recording says of the world around the queues: instances, connections, memory, boots, outages."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import quantiles

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Value
from fleetd.core.model.history import InstanceSample, Sample
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy import Policy
from fleetd.simulate.replay.timeline import Outage, Reading, Timeline, outages
from fleetd.simulate.trace.keys import Points

BOOT_SECONDS_PRIOR = (12.0, 30.0)
MAX_CONNECTIONS_PRIOR = 700
MEMORY_BYTES_PRIOR = 32 * 1024.0**3
MEBIBYTE = 1024.0 * 1024.0
#: Others' connections are looked at so often; the highest of each time counts.
OTHERS_SECONDS = 60.0
UNWATCHED_SECONDS = 30.0
#: Workers that did less than this share of what was to be expected stood still with what could not be read.
STANDSTILL_SHARE = 0.3


class FleetUse(Value, frozen=True, kw_only=True):
    """What the instances of this host came to."""

    instance_seconds: float
    starts: int


def use(line: Timeline) -> FleetUse:
    """What truly ran: every instance that was there, and those that appeared."""
    seconds, starts = 0.0, 0
    before: set[int] | None = None
    last = 0.0
    for moment in line.moments:
        if moment.sample.instances is None:
            continue
        there = {instance.number for instance in moment.sample.instances}
        if before is not None:
            seconds += len(before) * (moment.second - last)
            starts += len(there - before)
        before, last = there, moment.second
    return FleetUse(instance_seconds=round(seconds), starts=starts)


def profile_name(instance: InstanceSample, policy: Policy) -> str | None:
    """Of the policy's: the one of that name, for numbers may have been given out anew; else the one of its number."""
    if any(profile.name == instance.profile for profile in policy.profiles):
        return instance.profile
    profile = policy.profile_of(InstanceKey(instance.number))
    return None if profile is None else profile.name


def since_its_profiles(samples: tuple[Sample, ...], policy: Policy) -> tuple[Sample, ...]:
    """From when all that was capacity belonged to a profile that the policy still has."""
    begin = 0
    for index, sample in enumerate(samples):
        if any(i.counts and profile_name(i, policy) is None for i in sample.instances or ()):
            begin = index + 1
    return samples[begin:]


def sizes(line: Timeline, policy: Policy) -> dict[str, Points]:
    """Instances of each profile that were capacity, from each moment at which that changed on."""
    found: dict[str, list[tuple[float, float]]] = {p.name: [] for p in policy.profiles}
    for moment in line.moments:
        if moment.sample.instances is None:
            continue
        counts = dict.fromkeys(found, 0.0)
        for instance in moment.sample.instances:
            name = profile_name(instance, policy)
            if instance.counts and name is not None:
                counts[name] += 1.0
        for name, count in counts.items():
            if not found[name] or found[name][-1][1] != count:
                found[name].append((moment.second, count))
    return {name: tuple(points) for name, points in found.items()}


def initial_instances(line: Timeline, policy: Policy) -> int:
    """One number for all profiles, as a trace has it: the mean of what ran at the begin."""
    begun = [points[0][1] for points in sizes(line, policy).values() if points]
    return round(sum(begun) / len(begun)) if begun else 1


def ages(read: list[Reading]) -> dict[str, Points]:
    """The oldest job's age in each queue, at each reading."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for reading in read:
        for name, queue in reading.queues.items():
            found[name].append((reading.second, queue.latency_milliseconds / 1000.0))
    return {name: tuple(points) for name, points in found.items()}


def unwatched(read: list[Reading]) -> tuple[tuple[float, float], ...]:
    """Between readings that are further apart than a few looks."""
    return tuple((a.second, b.second) for a, b in pairwise(read) if b.second - a.second > UNWATCHED_SECONDS)


def connections(line: Timeline) -> tuple[int, Points]:
    """The highest limit that was seen, and everyone else's connections below it, one point a minute at most."""
    seen = [
        (m.second, m.sample.limit_connections, m.sample.others_connections)
        for m in line.moments
        if m.sample.limit_connections is not None and m.sample.others_connections is not None
    ]
    if not seen:
        return MAX_CONNECTIONS_PRIOR, ()
    limit = max(1, *(limit for _, limit, _ in seen))
    step = max(OTHERS_SECONDS, line.duration_seconds / 2000)
    highest: dict[int, float] = {}
    for second, at_limit, others in seen:
        # A limit that was lower for a while is room that somebody else had.
        index = int(second / step)
        highest[index] = max(highest.get(index, 0.0), float(max(0, others + limit - at_limit)))
    points: list[tuple[float, float]] = []
    for index, most in sorted(highest.items()):
        if not points or points[-1][1] != most:
            points.append((round(index * step, 1), most))
    return limit, _level_until_the_next(points)


def _level_until_the_next(points: list[tuple[float, float]]) -> Points:
    """A curve is linear between its points; a count stays as it is until it changes."""
    found: list[tuple[float, float]] = []
    for at, value in points:
        if found and at - 1.0 > found[-1][0]:
            found.append((round(at - 1.0, 1), found[-1][1]))
        found.append((at, value))
    return tuple(found)


def boot_seconds(line: Timeline) -> tuple[float, float]:
    """From the fastest to the slowest boot that was watched; else about what was learnt; else a usual range."""
    watched = _watched_boots(line)
    if len(watched) >= 2:
        return round(max(0.5, min(watched)), 1), round(max(watched), 1)
    for moment in reversed(line.moments):
        learnt = [ms / 1000.0 for ms in moment.sample.boot_milliseconds.values() if ms > 0]
        if learnt:
            return round(max(0.5, 0.8 * min(learnt)), 1), round(max(0.5, 1.2 * max(learnt)), 1)
    return BOOT_SECONDS_PRIOR


def _watched_boots(line: Timeline) -> list[float]:
    began: dict[int, float] = {}
    found: list[float] = []
    last = 0.0
    for moment in line.moments:
        instances = moment.sample.instances or ()
        starting = {i.number for i in instances if i.state == InstanceState.STARTING}
        serving = {i.number for i in instances if i.state == InstanceState.SERVING}
        if moment.second - last > 15.0:
            began.clear()  # what happened in between was not watched
        for number in serving & set(began):
            found.append(moment.second - began[number])
        began = {n: began.get(n, moment.second) for n in starting}
        last = moment.second
    return sorted(found)[len(found) // 20 : len(found) - len(found) // 20]


def memory_bytes(line: Timeline) -> float:
    known = [m.sample.memory_total_mebibytes for m in line.moments if m.sample.memory_total_mebibytes]
    return max(1e6, known[-1] * MEBIBYTE) if known else MEMORY_BYTES_PRIOR


def instance_memory_bytes(line: Timeline, policy: Policy) -> tuple[float, float]:
    """After boot and after a day: the small and the large ones of those that were seen serving."""
    seen = [
        i.resident_mebibytes
        for moment in line.moments
        for i in moment.sample.instances or ()
        if i.resident_mebibytes and i.state == InstanceState.SERVING
    ]
    if len(seen) < 2:
        return 0.3 * policy.memory.instance_bytes, float(policy.memory.instance_bytes)
    marks = quantiles(seen, n=20)
    return round(marks[0] * MEBIBYTE), round(max(marks[0], marks[-1]) * MEBIBYTE)


def faults(line: Timeline, read: list[Reading]) -> tuple[list[Outage], list[str]]:
    """Outages that were the world's; fleetd alone may have been shut out while the workers went on, which is said."""
    found, shut_out = [], dict[str, float]()
    for outage in outages(line):
        lasted = outage.to_second - outage.from_second
        if outage.source != "systemd" and not _stood_still(outage, read):
            shut_out[outage.source] = shut_out.get(outage.source, 0.0) + lasted
        elif lasted >= 1.0:
            found.append(outage)
    return found, [
        f"{source} could not be read for {lasted:.0f} s while the workers went on: no fault in the trace"
        for source, lasted in shut_out.items()
    ]


def _stood_still(outage: Outage, read: list[Reading]) -> bool:
    """Whether the counter stood still meanwhile, compared with as long a time before."""
    after = next((r for r in read if r.second >= outage.to_second), None)
    begun = _done(read, outage.from_second)
    if after is None or begun is None:
        return True
    lasted = max(30.0, after.second - outage.from_second)
    before = _done(read, outage.from_second - lasted)
    if before is None or begun <= before:
        return True
    return after.processed_jobs_total - begun < STANDSTILL_SHARE * (begun - before) * (
        (after.second - outage.from_second) / lasted
    )


def _done(read: list[Reading], second: float) -> int | None:
    return next((r.processed_jobs_total for r in reversed(read) if r.second <= second), None)
