"""A trace from a recording: the traffic that was, the world it met, and what went wrong in it.

The trace has no profiles and no targets: those are the policy's that it is run under (replay.py), or are written into
it (`with_policy`). What is not recorded keeps its default: sigma of the service times, the database's knee, which jobs
ran when an instance died.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from msgspec import structs

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS
from fleetd.core.model.facts import Value
from fleetd.core.model.history import Recording, Sample
from fleetd.core.model.policy import SCHEDULER_QUEUE, Policy, Profile
from fleetd.simulate.replay import environment
from fleetd.simulate.replay.service_fit import fitted
from fleetd.simulate.replay.timeline import (
    BRIDGE_SECONDS_MAX,
    Outage,
    Reading,
    RecordingError,
    Timeline,
    readings,
    timeline,
)
from fleetd.simulate.replay.traffic import (
    Arrivals,
    Pieces,
    arrivals,
    bursts_of,
    flows,
    learnt_seconds,
    pieces_of,
    seen_young,
    steps_of,
    windows,
)
from fleetd.simulate.trace.keys import Points
from fleetd.simulate.trace.trace import Fault, QueueTraffic, Trace

SIGMA_PRIOR = 1.0


class Reconstruction(Value, frozen=True, kw_only=True):
    """The trace, and what it is to be compared with. Seconds are the trace's."""

    trace: Trace
    policy: Policy  # that was in force at the end
    sizes: dict[str, Points]  # of each profile: instances that were capacity, from then on
    ages: dict[str, Points]  # of each queue: the oldest job's age, where it was watched
    unwatched: tuple[tuple[float, float], ...]  # times in which nobody knows how long jobs waited
    notes: tuple[str, ...]  # what is not as it was, as sentences
    jobs_sigma: dict[str, float]  # of each queue: of the logarithm of how many jobs there were
    use: environment.FleetUse  # what truly ran
    one_policy: bool  # all the time


def reconstruct(recording: Recording, name: str, notes: tuple[str, ...] = ()) -> Reconstruction:
    """`notes`: what is to be said already. Raises RecordingError where there is too little to make a trace of."""
    if not recording.policies:
        raise RecordingError("no configuration is recorded with it: nothing can be made of it")
    policy = recording.policies[-1].policy
    samples = environment.since_its_profiles(recording.samples, policy)
    if len(samples) < len(recording.samples):
        notes += (_left_out(recording.samples, len(samples)),)
    line = timeline(samples)
    read = readings(line)
    seams = tuple(gap.to_second for gap in line.gaps if gap.cut)
    parts = flows(read, seams)
    lasts = round(line.duration_seconds, 1)
    fit = fitted(windows(read, seams), seen_young(read), learnt_seconds(line))
    seconds = fit.seconds
    came = arrivals(parts, seconds)
    down, shut_out = environment.faults(line, read)
    queues = _queues(policy, came, read, seconds, lasts, down)
    limit, others = environment.connections(line)
    trace = Trace(
        name=name,
        seed=1,
        duration_seconds=lasts,
        tick_seconds=policy.pace.tick_seconds,
        boot_seconds=environment.boot_seconds(line),
        initial_instances=environment.initial_instances(line, policy),
        targets_seconds={},
        queues=queues,
        profiles=(),
        max_connections=limit,
        others=others,
        knee_busy_threads=None,
        memory_bytes=environment.memory_bytes(line),
        instance_memory_bytes=environment.instance_memory_bytes(line, policy),
        faults=_faults(down),
    )
    return Reconstruction(
        trace=trace,
        policy=policy,
        sizes=environment.sizes(line, policy),
        ages=environment.ages(read),
        unwatched=environment.unwatched(read),
        notes=(*notes, *_time_notes(line, recording, policy), *_work_notes(line, policy, came), *shut_out),
        jobs_sigma=fit.jobs_sigma,
        use=environment.use(line),
        one_policy=all(change.policy == policy for change in recording.policies),
    )


def _queues(
    policy: Policy,
    came: list[Arrivals],
    read: list[Reading],
    seconds: dict[str, float],
    duration_seconds: float,
    down: list[Outage],
) -> tuple[QueueTraffic, ...]:
    """Those that a profile serves."""
    names = {name for reading in read for name in reading.queues}
    served = sorted(name for name in names if any(profile.serves(name) for profile in policy.profiles))
    if not served:
        raise RecordingError("no queue that a profile serves was seen in it: nothing can be made of it")
    usual = {name: PRIOR_SECONDS.get(name, PRIOR_OTHER_SECONDS) for name in served}
    return tuple(
        _traffic(name, came, read, seconds.get(name, usual[name]), duration_seconds, down) for name in served
    )


def _faults(down: list[Outage]) -> tuple[Fault, ...]:
    return tuple(
        Fault(at_seconds=float(int(o.from_second)), until_seconds=float(round(o.to_second)), source=o.source)
        for o in sorted(down, key=lambda o: o.from_second)
    )


def with_policy(trace: Trace, policy: Policy) -> Trace:
    """The same with profiles and targets of its own, numbered as a trace numbers them."""
    profiles: list[Profile] = []
    first = 1
    for profile in policy.profiles:
        count = max(1, profile.max_instances)
        numbers = tuple(range(first, first + count))
        low = min(profile.min_instances, count)
        profiles.append(structs.replace(profile, numbers=numbers, min_instances=low, max_instances=count))
        first += count
    targets = {queue.name: policy.target_seconds(queue.name) for queue in trace.queues}
    return structs.replace(
        trace,
        profiles=tuple(profiles),
        targets_seconds=targets,
        initial_instances=min([trace.initial_instances, *(p.max_instances for p in profiles)]),
    )


def _left_out(samples: tuple[Sample, ...], kept: int) -> str:
    """About those before the last `kept`."""
    ends = samples[-kept].at_seconds if kept else samples[-1].at_seconds
    return (
        f"instances of profiles that are no more ran in the first {(ends - samples[0].at_seconds) / 60:.0f} min: that "
        "time is left out"
    )


def _traffic(
    queue: str,
    came: list[Arrivals],
    read: list[Reading],
    service_seconds: float,
    duration_seconds: float,
    down: list[Outage],
) -> QueueTraffic:
    idle_ages = {
        after.second: after.queues[queue].latency_milliseconds / 1000.0
        for before, after in pairwise(read)
        if queue in before.queues and queue in after.queues and not before.queues[queue].length_jobs
    }
    bursts, rest = bursts_of(_without_outages(pieces_of(queue, came), down), idle_ages)
    waiting = next((r.queues[queue].length_jobs for r in read if queue in r.queues), 0)
    begun = ((0.0, float(waiting)),) if waiting else ()
    last = duration_seconds - 1.0  # of what comes at the very end nothing would be seen
    return QueueTraffic(
        name=queue,
        arrivals_per_second=steps_of(rest, duration_seconds),
        bursts=(*begun, *((min(at, last), jobs) for at, jobs in bursts)),
        service_mean_seconds=round(service_seconds, 4),
        service_sigma=SIGMA_PRIOR,
    )


def _without_outages(pieces: Pieces, down: list[Outage]) -> Pieces:
    """While Redis is away nobody enqueues: what is found after it came after it."""
    away = [outage for outage in down if outage.source == "redis"]
    return [
        (max([begin, *(o.to_second for o in away if begin < o.to_second < to)]), to, jobs)
        for begin, to, jobs in pieces
    ]


def _time_notes(line: Timeline, recording: Recording, policy: Policy) -> list[str]:
    notes = []
    bridged = [gap.lasted_seconds for gap in line.gaps if not gap.cut]
    cut = [gap.lasted_seconds for gap in line.gaps if gap.cut]
    if bridged:
        notes.append(
            f"nothing was recorded for {sum(bridged) / 60:.0f} min in {len(bridged)} gap(s): bridged evenly, by "
            "Sidekiq's counters"
        )
    if cut:
        notes.append(
            f"nothing was recorded for {sum(cut) / 3600:.1f} h in {len(cut)} gap(s) of more than "
            f"{BRIDGE_SECONDS_MAX / 60:.0f} min: cut out"
        )
    if any(change.policy != policy for change in recording.policies):
        notes.append("the configuration changed in that time: the last one is taken")
    if recording.unreadable_rows:
        notes.append(f"{recording.unreadable_rows} damaged row(s) of the history are left out")
    return notes


def _work_notes(line: Timeline, policy: Policy, came: list[Arrivals]) -> list[str]:
    notes = []
    unserved: dict[str, float] = defaultdict(float)
    for interval in came:
        for name, jobs in interval.jobs.items():
            if name != SCHEDULER_QUEUE and not any(p.serves(name) for p in policy.profiles):
                unserved[name] += jobs
    names = [name for name, jobs in sorted(unserved.items()) if jobs >= 1.0]
    if names:
        notes.append(f"no profile serves these queues, so they are left out: {', '.join(names[:5])}")
    foreign = max(moment.sample.foreign_threads for moment in line.moments)
    if foreign:
        notes.append(
            f"up to {foreign} threads of other processes worked too: here this host's instances do all of it"
        )
    return notes
