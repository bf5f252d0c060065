"""Plays a simulator trace on real Sidekiq, with the same jobs that the simulator draws from it.

The counts per second and the lengths of the jobs are the simulator's. Only the time within the second is drawn here.
As a program (`python -m lab.jobs.traffic ADDRESS RECORD BEGIN`, a trace's text on standard input) it enqueues the jobs
from the Unix time BEGIN on.
"""

import random
import secrets
import sys
import time
from pathlib import Path

from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.trace import Trace, parse_trace
from fleetd.simulate.world.queues import SimQueue
from lab.hosts.host import Host
from lab.jobs import load
from lab.jobs.load import CLASSES, Job, Load, Loader


def jobs_of(trace: Trace) -> list[Job]:
    """All jobs of a trace in the order in which they arrive. They are always the same, with new jids."""
    drawn: list[tuple[float, str, float]] = []
    for name, traffic in trace.queues.items():
        counts = arrivals(trace, name)
        line = SimQueue(name, traffic.service_seconds, counts, trace.seed)
        chance = random.Random(f"{trace.seed}/moments/{name}")
        moments = [
            moment
            for second, jobs in enumerate(counts)
            for moment in sorted(second + chance.random() for _ in range(jobs))
        ]
        drawn += [(moment, name, line.sample_service_seconds()) for moment in moments]
    return [
        Job(moment, queue, CLASSES[queue][0][0], number, seconds, 0.0, secrets.token_hex(12))
        for number, (moment, queue, seconds) in enumerate(sorted(drawn))
    ]


def start(main: Host, text: str, begin: float) -> Loader:
    """Enqueue the jobs of a trace, a TOML text, into the Redis of host `main`, from the Unix time `begin` on."""
    return load.launch(main, "lab.jobs.traffic", [repr(begin)], text)


def main() -> None:
    address, path, begin = sys.argv[1:]
    jobs = jobs_of(parse_trace(sys.stdin.read()))
    time.sleep(max(0.0, float(begin) - time.time()))
    with Path(path).open("w") as record:
        print(load.run(address, Load(phases=()), iter(jobs), record))


if __name__ == "__main__":
    main()
