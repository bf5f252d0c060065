"""The same trace in the simulator and on real Sidekiq, under the same configuration.

assert disagreements(played(name).course, simulated(trace_of(name))) == []
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from fleetd import config
from fleetd.simulate.run import policy_of, run_fleetd
from fleetd.simulate.trace import Trace, load_trace
from lab import traffic
from lab.waiting import wait_until
from tests.lab.agreement import Course, counts_of, instance_seconds_of, lives_of
from tests.lab.fleet import Fleet, started

TRACES = Path(__file__).parents[2] / "benchmarks/traces/lab"
CONFIG = TRACES / "fleetd.toml"
LONG = ("sawtooth", "celebrity-post")
SHORT = "surge"
#: What the stand-in's own gems take beside the sleep that stands for Rails's.
GEMS_SECONDS = 1.5
#: Jobs of the end and drains under way are over after this long.
SETTLE_SECONDS_MAX = 120.0


@dataclass(frozen=True)
class Played:
    """What happened on real Sidekiq; `boot_seconds`: from each start order to READY."""

    course: Course
    boot_seconds: list[float]


def trace_of(name: str) -> Trace:
    return load_trace(_path(name))


def _path(name: str) -> Path:
    return TRACES / f"{name}.toml"


def simulated(trace: Trace) -> Course:
    """A trace in the simulator."""
    outcome, sizes = run_fleetd(trace, policy_of(trace, config.load(CONFIG).policy))
    queues = outcome.score.queues
    [counts] = sizes.values()
    return Course(
        jobs={name: queue.jobs for name, queue in queues.items()},
        p95_wait_seconds={name: queue.wait_seconds["p95"] for name, queue in queues.items()},
        counts=list(counts),
        instance_seconds=float(outcome.score.instance_seconds),
    )


def booting(trace: Trace, seconds: list[float]) -> Trace:
    """The same trace with boots as long as these: on a machine that is busy with other tests they take longer."""
    return structs.replace(trace, boot_seconds=(min(seconds), max(seconds))) if seconds else trace


def slower(trace: Trace, times: float) -> Trace:
    """The same trace with jobs that take so many times as long: a simulator that has the service time wrong."""
    queues = tuple(
        structs.replace(queue, service_mean_seconds=queue.service_mean_seconds * times)
        for queue in trace.queues
    )
    return structs.replace(trace, queues=queues)


def played(name: str) -> Played:
    """A trace on real Sidekiq under a real fleetd, in its own time."""
    trace = trace_of(name)
    rails_seconds = sum(trace.boot_seconds) / 2 - GEMS_SECONDS
    with started(CONFIG.read_text(), boot_seconds=rails_seconds) as fleet:
        begin = _a_tick(fleet, trace.tick_seconds)
        loader = traffic.start(fleet.main, _path(name).read_text(), begin)
        jobs = loader.wait(timeout=trace.duration_seconds + 30.0)

        def over() -> bool:
            tally = fleet.tally()
            return tally.settled and tally.enqueued == jobs and time.time() > begin + trace.duration_seconds

        wait_until("the trace is over", over, SETTLE_SECONDS_MAX, every=1.0)
        return _played(fleet, begin, math.ceil(trace.duration_seconds))


def _a_tick(fleet: Fleet, tick_seconds: float) -> float:
    """When fleetd will tick next. A simulated trace begins with a tick too, and in a burst each second counts."""
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
    return Played(course, boots_of(happened, ready))


def boots_of(happened: list[tuple[float, str, int]], ready: list[tuple[float, int]]) -> list[float]:
    """Seconds from each start order within the trace to READY."""
    return [
        min(at for at, number in ready if number == started and at > ordered_at) - ordered_at
        for ordered_at, what, started in happened
        if what == "start" and ordered_at > 0
    ]
