"""`fleetctl restart` of a busy fleet. Shared by the short and the long test."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lab.campaign import life
from lab.jobs import load, records
from lab.jobs.lengths import Lengths
from lab.jobs.load import Load, Phase
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet

THREADS = 5
JOBS = Lengths(median_seconds=0.2, sigma=1.3, shortest_seconds=0.001, longest_seconds=5.0)
BUSY_SHARE = 0.7


def configuration(instances: int, spares: int) -> str:
    return f"""
[scheduler]
place = "elsewhere"
[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-{instances + spares}"
min = {instances}
max = {instances}
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
drain_seconds_max = 60
"""


@dataclass(frozen=True)
class Roll:
    """A restart of all instances, as Sidekiq, systemd and the jobs report it."""

    seconds: float
    least_serving: int
    old: tuple[life.Process, ...]
    fresh: tuple[life.Process, ...]
    tally: records.Tally
    pushed_back: int
    said: str


def restart(fleet: Fleet, instances: int) -> Roll:
    """Order a restart while jobs arrive, watch it to its end, and count."""
    rate = instances * THREADS * BUSY_SHARE / JOBS.mean_seconds
    loader = load.start(fleet.main, Load([Phase(3600, {"default": rate})], lengths=JOBS))
    enough = instances * THREADS * BUSY_SHARE / 2
    fleet.wait("all are busy", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= enough)
    old = life.processes(fleet.worker)
    began, began_at = time.monotonic(), time.time()
    said = fleet.worker.run(["/opt/fleetd/bin/fleetctl", "restart"], timeout=instances * PATIENCE_SECONDS).stdout
    seconds = time.monotonic() - began
    fleet.wait("all serve", lambda s: s.profiles[0].serving_instances == instances)
    ended_at = time.time()
    loader.stop()
    tally = fleet.settled(4 * PATIENCE_SECONDS)
    known = {(p.unit, p.pid) for p in old}
    processes = life.processes(fleet.worker)
    return Roll(
        seconds=seconds,
        least_serving=life.least_serving(processes, began_at, ended_at),
        old=tuple(p for p in processes if (p.unit, p.pid) in known),
        fresh=tuple(p for p in processes if (p.unit, p.pid) not in known),
        tally=tally,
        pushed_back=sum(r.result != "done" for r in records.runs([fleet.worker])),
        said=said,
    )


def nothing_was_lost(roll: Roll, instances: int) -> None:
    """Each process was replaced once, in order, and each job ran once."""
    assert len(roll.old) == len(roll.fresh) == instances
    assert all(p.quiet_at is not None and p.ended_at is None for p in roll.old), "quieted, and none died"
    assert all(p.served_until is None for p in roll.fresh)
    assert (roll.tally.done, roll.tally.lost, roll.tally.repeated) == (roll.tally.enqueued, (), ())
    assert roll.pushed_back == 0
