"""The same trace on real Sidekiq and in the simulator, under the same configuration: `goes_as_simulated(name)`."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from msgspec import structs

from fleetd import config
from fleetd.simulate.run import policy_of, run_fleetd
from fleetd.simulate.trace.trace import Trace, load_trace
from fleetd.simulate.world.queues import DISCRETE_FROM_SECONDS
from lab.jobs import records, traffic
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.support.lab.agreement import (
    HEAD,
    Course,
    counts_of,
    disagreements,
    instance_seconds_of,
    lives_of,
    rows,
    steps_told,
)
from tests.support.lab.fleet import Fleet, started
from tests.support.project import PROJECT

TRACES = PROJECT / "benchmarks/traces/lab"
CONFIG = TRACES / "fleetd.toml"
LONG = ("sawtooth", "celebrity-post")
SHORT = "surge"
#: How long the stand-in's own gems take to load, besides the sleep that stands for Rails.
GEMS_SECONDS = 1.5
#: After this long, the last jobs and the drains under way are over.
SETTLE_SECONDS_MAX = 4 * PATIENCE_SECONDS
#: A simulator in which jobs take this many times too long must fail the test.
WRONG_TIMES = 1.5


@dataclass(frozen=True)
class Played:
    """What happened on real Sidekiq, and how long boots and jobs really took."""

    course: Course
    boot_seconds: list[float]  # of each boot, from the start order to READY
    run_seconds: dict[str, float]  # the average job of each queue
    story: str  # fleetd's status at the end, for the message of a failed test


def goes_as_simulated(name: str) -> None:
    """Fails if the two disagree, or if a simulator with a wrong service time would agree too."""
    real = played(name)
    trace = as_it_was(trace_of(name), real)
    right = simulated(trace)
    print("\n".join([*HEAD, *rows(name, real.course, right)]))
    print(f"the simulator was told of {told(trace_of(name), real)}")
    print(f"real: {steps_told(real.course.counts)}\nsimulated: {steps_told(right.counts)}")
    assert disagreements(real.course, right) == [], real.story
    assert disagreements(real.course, simulated(slower(trace, WRONG_TIMES)))


def trace_of(name: str) -> Trace:
    return load_trace(_path(name))


def _path(name: str) -> Path:
    return TRACES / f"{name}.toml"


# In the simulator


def simulated(trace: Trace) -> Course:
    """Runs a trace in the simulator."""
    outcome, sizes = run_fleetd(trace, policy_of(trace, config.load(CONFIG).policy))
    queues = outcome.score.queues
    [counts] = sizes.values()
    return Course(
        jobs={name: queue.jobs for name, queue in queues.items()},
        p95_wait_seconds={name: queue.wait_seconds["p95"] for name, queue in queues.items()},
        counts=list(counts),
        instance_seconds=float(outcome.score.instance_seconds),
    )


def as_it_was(trace: Trace, real: Played) -> Trace:
    """The same trace with boots and jobs as long as they really took: both are slower while other tests run.

    Jobs that the simulator draws one by one keep their lengths in proportion; for the others it uses the mean.
    """
    drawn = mean_by_queue((job.queue, job.seconds) for job in traffic.jobs_of(trace))
    means = dict(real.run_seconds)
    for name, queue in trace.queues.items():
        if queue.service_seconds.mean >= DISCRETE_FROM_SECONDS:
            means[name] *= queue.service_seconds.mean / drawn[name]
    boots = real.boot_seconds or trace.boot_seconds
    return structs.replace(with_means(trace, means), boot_seconds=(min(boots), max(boots)))


def slower(trace: Trace, times: float) -> Trace:
    """The same trace, with jobs that take this many times as long."""
    means = {name: queue.service_seconds.mean * times for name, queue in trace.queues.items()}
    return with_means(trace, means)


def with_means(trace: Trace, means_seconds: dict[str, float]) -> Trace:
    """The same trace with these mean service times."""
    queues = {
        name: structs.replace(queue, service_seconds=structs.replace(queue.service_seconds, mean=means_seconds[name]))
        for name, queue in trace.queues.items()
    }
    return structs.replace(trace, queues=queues)


def told(trace: Trace, real: Played) -> str:
    """What the simulator is told about the machine, in addition to the trace."""
    boots, (low, high) = real.boot_seconds or [0.0], trace.boot_seconds
    mean = {name: queue.service_seconds.mean for name, queue in trace.queues.items()}
    jobs = ", ".join(f"{queue} {seconds:.2f} s ({mean[queue]:g})" for queue, seconds in real.run_seconds.items())
    return f"boots of {min(boots):.1f} to {max(boots):.1f} s ({low:g} to {high:g}), jobs of {jobs}"


# On real Sidekiq


def played(name: str) -> Played:
    """Plays a trace under a real fleetd, in real time."""
    trace = trace_of(name)
    rails_seconds = sum(trace.boot_seconds) / 2 - GEMS_SECONDS
    with started(CONFIG.read_text(), boot_seconds=rails_seconds) as fleet:
        begin = _a_tick(fleet, trace.tick_seconds)
        loader = traffic.start(fleet.main, _path(name).read_text(), begin)
        jobs = loader.wait(timeout=trace.duration_seconds + PATIENCE_SECONDS)

        def over() -> bool:
            tally = fleet.tally()
            return tally.settled and tally.enqueued == jobs and time.time() > begin + trace.duration_seconds

        wait_until("the trace is over", over, SETTLE_SECONDS_MAX, every=1.0)
        return _played(fleet, begin, math.ceil(trace.duration_seconds))


def _a_tick(fleet: Fleet, tick_seconds: float) -> float:
    """When fleetd ticks next. A simulated trace begins with a tick, so the real one must as well."""
    before = fleet.status().ticks_total
    fleet.wait("a tick", lambda status: status.ticks_total > before)
    return time.time() + tick_seconds


def _played(fleet: Fleet, begin: float, seconds: int) -> Played:
    tally = fleet.tally()
    ordered = [(at - begin, verb, n) for verb in ("start", "quiet", "stop") for at, n in fleet.steps(verb)]
    ready = [(at - begin, number) for at, number in fleet.systemd_did("start")]
    happened = [(at, what, number) for at, what, number in ordered if isinstance(number, int)]
    happened += [(at - begin, "gone", number) for at, number in fleet.systemd_did("stop")]
    happened += [(at, "start", number) for at, number in ready if at < 0]  # what a boot of the host starts
    lives = lives_of(sorted(happened))
    course = Course(
        jobs={queue: waits.count for queue, waits in tally.waits.items()},
        p95_wait_seconds={queue: waits.p95 for queue, waits in tally.waits.items()},
        counts=counts_of(lives, seconds),
        instance_seconds=instance_seconds_of(lives, seconds),
    )
    runs = records.runs([fleet.worker])
    took = mean_by_queue((run.queue, run.ended_at - run.started_at) for run in runs if run.ended_at)
    return Played(course, boots_of(happened, ready), took, fleet.story())


def boots_of(happened: list[tuple[float, str, int]], ready: list[tuple[float, int]]) -> list[float]:
    """Seconds from each start order within the trace to READY, for the boots that got there."""
    boots = []
    for ordered_at, what, started_number in happened:
        if what == "start" and ordered_at > 0:
            after = [at for at, number in ready if number == started_number and at > ordered_at]
            boots += [min(after) - ordered_at] if after else []
    return boots


def mean_by_queue(seconds: Iterable[tuple[str, float]]) -> dict[str, float]:
    found = defaultdict[str, list[float]](list)
    for queue, length in seconds:
        found[queue].append(length)
    return {queue: fmean(lengths) for queue, lengths in sorted(found.items())}
