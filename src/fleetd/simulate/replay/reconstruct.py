"""A trace from a recording: the traffic that was, the world it met, and what went wrong in it.

The trace has no profiles and no targets: it is run under a policy that has them (replay.py), or they are written into
it (`with_policy`). What is not recorded keeps its default: sigma of the service times, and the database's knee.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import fmean

from msgspec import structs

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS
from fleetd.core.model.facts import Value
from fleetd.core.model.history import Recording
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy, target_written
from fleetd.simulate.replay import environment
from fleetd.simulate.replay.service_fit import Fit, fitted
from fleetd.simulate.replay.timeline import (
    BRIDGE_SECONDS_MAX,
    GAP_SECONDS,
    Moment,
    Reading,
    RecordingError,
    elapsed_seconds,
    readings_of,
    timeline,
)
from fleetd.simulate.replay.traffic import (
    Pieces,
    arrivals,
    bursts_of,
    intervals,
    learnt_seconds,
    pieces_of,
    steps_of,
    windows,
    young_shares,
)
from fleetd.simulate.trace.trace import (
    QUEUE_DAYS_MAX,
    Points,
    QueueTraffic,
    ServiceSeconds,
    Trace,
    TraceProfile,
    too_much,
)


class Reconstruction(Value, frozen=True, kw_only=True):
    """The trace, and the recorded figures to compare its runs with. Seconds are the trace's."""

    trace: Trace
    policy: Policy  # that was in force at the end
    sizes: dict[str, Points]  # of each profile: instances that were capacity, a point for each change
    ages: dict[str, Points]  # of each queue: the oldest job's age at each reading
    unwatched: tuple[tuple[float, float], ...]  # times between readings that are far apart
    notes: tuple[str, ...]  # sentences about what differs from the recorded time
    jobs_sigma: dict[str, float]  # of the logarithm of each queue's number of jobs
    use: environment.FleetUse  # what truly ran
    one_policy: bool  # whether one policy was in force all the time


def reconstruct(recording: Recording, name: str, notes: tuple[str, ...] = ()) -> Reconstruction:
    """The trace of a recording. `notes` go before its own. Raises RecordingError if there is too little of it."""
    if not recording.policies:
        raise RecordingError("no configuration is recorded with it: nothing can be made of it")
    policy = recording.policies[-1].policy
    samples = environment.since_its_profiles(recording, policy)
    if len(samples) < len(recording.samples):
        start, end = recording.samples[0], (samples or recording.samples[-1:])[0]
        left_out = f"the first {(end.at_seconds - start.at_seconds) / 60:.0f} min: that time is left out"
        notes += (f"instances of profiles that are no more ran in {left_out}",)
    moments = timeline(samples)
    readings = readings_of(moments)
    faults, shut_out = environment.faults(moments, readings)
    fit = fitted(windows(readings), young_shares(readings), learnt_seconds(moments))
    parts = intervals(readings)
    jobs = arrivals(parts, fit.seconds)
    duration_seconds = round(moments[-1].second, 1)
    sizes = environment.sizes(moments, policy)
    first = [points[0][1] for points in sizes.values() if points]
    trace = Trace(
        name=name,
        duration_seconds=duration_seconds,
        tick_seconds=policy.pace.tick_seconds,
        boot_seconds=environment.boot_seconds(moments),
        initial_instances=round(fmean(first)) if first else 1,  # one number for all profiles
        queues={
            queue: _queue(queue, pieces_of(queue, parts, jobs, faults), readings, fit, duration_seconds)
            for queue in _served(readings, policy)
        },
        database=environment.database(moments),
        host=environment.host(moments, policy),
        faults=tuple(
            structs.replace(f, at=float(int(f.at)), for_seconds=float(round(f.until)) - float(int(f.at)))
            for f in sorted(faults, key=lambda fault: fault.at)
        ),
    )
    return Reconstruction(
        trace=trace,
        policy=policy,
        sizes=sizes,
        ages=environment.ages(readings),
        unwatched=environment.unwatched(readings),
        notes=(*notes, *_time_notes(moments, recording), *_work_notes(moments, policy, jobs), *shut_out),
        jobs_sigma=fit.jobs_sigma,
        use=environment.use(moments),
        one_policy=all(change.policy == policy for change in recording.policies),
    )


def refuse_too_much(trace: Trace) -> None:
    """Raises RecordingError for a recording whose trace would not be simulated: it takes too much memory."""
    problem = next(too_much(trace), None)
    if problem is not None:
        days = max(1, int(QUEUE_DAYS_MAX / max(1, len(trace.queues))))
        raise RecordingError(f"{problem.what}: look less far back, e.g. --since {days}d")


def with_policy(trace: Trace, policy: Policy) -> Trace:
    """The trace with this policy's profiles and targets."""
    profiles = {}
    for profile in policy.profiles:
        weighted, count = profile.order == "weighted", max(1, profile.max_instances)
        profiles[profile.name] = TraceProfile(
            order=profile.order,
            queues=None if weighted else tuple(queue for queue, _ in profile.queues),
            weights=dict(profile.queues) if weighted else None,
            threads=profile.threads,
            db_pool=profile.db_pool,
            instances=count,
            min=min(profile.min_instances, count),
        )
    return structs.replace(
        trace,
        profiles=profiles,
        targets={queue: target_written(policy.target_seconds(queue)) for queue in trace.queues},
        initial_instances=min([trace.initial_instances, *(p.instances for p in profiles.values())]),
    )


def _served(readings: list[Reading], policy: Policy) -> list[str]:
    """The queues that were seen and that a profile serves, sorted."""
    seen = {queue for reading in readings for queue in reading.queues}
    served = sorted(queue for queue in seen if any(profile.serves(queue) for profile in policy.profiles))
    if not served:
        raise RecordingError("no queue that a profile serves was seen in it: nothing can be made of it")
    return served


def _queue(name: str, pieces: Pieces, readings: list[Reading], fit: Fit, duration_seconds: float) -> QueueTraffic:
    idle_ages = {
        after.second: after.queues[name].latency_milliseconds / 1000.0
        for before, after in pairwise(readings)
        if name in before.queues and name in after.queues and not before.queues[name].length_jobs
    }
    bursts, rest = bursts_of(pieces, idle_ages)
    waiting = next((r.queues[name].length_jobs for r in readings if name in r.queues), 0)
    last = duration_seconds - 1.0  # a burst at the very end would not be simulated
    service_seconds = fit.seconds.get(name, PRIOR_SECONDS.get(name, PRIOR_OTHER_SECONDS))
    return QueueTraffic(
        arrivals_per_second=steps_of(rest, duration_seconds),
        bursts=(*([(0.0, float(waiting))] if waiting else []), *((min(at, last), jobs) for at, jobs in bursts)),
        service_seconds=ServiceSeconds(mean=round(service_seconds, 4)),
    )


def _time_notes(moments: list[Moment], recording: Recording) -> list[str]:
    notes = []
    gaps = [elapsed_seconds(before.sample, after.sample) for before, after in pairwise(moments)]
    bridged = [gap for gap in gaps if GAP_SECONDS < gap <= BRIDGE_SECONDS_MAX]
    cut = [gap for gap in gaps if gap > BRIDGE_SECONDS_MAX]
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
    if any(change.policy != recording.policies[-1].policy for change in recording.policies):
        notes.append("the configuration changed in that time: the last one is taken")
    if recording.policies[-1].policy.observes:
        notes.append("fleetd only observed: what ran was others' doing, and the runs show what it would have done")
    if recording.unreadable_rows:
        notes.append(f"{recording.unreadable_rows} damaged row(s) of the history are left out")
    return notes


def _work_notes(moments: list[Moment], policy: Policy, jobs: list[dict[str, float]]) -> list[str]:
    notes = []
    unserved: dict[str, float] = defaultdict(float)
    for came in jobs:
        for name, count in came.items():
            if name != SCHEDULER_QUEUE and not any(p.serves(name) for p in policy.profiles):
                unserved[name] += count
    names = [name for name, count in sorted(unserved.items()) if count >= 1.0]
    if names:
        notes.append(f"no profile serves these queues, so they are left out: {', '.join(names[:5])}")
    known = (moment.sample.foreign_threads for moment in moments)
    foreign = max((threads for threads in known if threads is not None), default=0)
    if foreign:
        notes.append(f"up to {foreign} threads of other processes worked too: here this host's instances do all of it")
    return notes
