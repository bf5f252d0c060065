"""A host lost at the peak, beside one host that loses as many instances: late jobs of both, and their ratio.

    python -m benchmarks.host_lost [SEED …]          twenty seconds for each seed

The traces are benchmarks/traces/hosts/. Each is run with the loss in every second of a tick, because it matters how
long after it the next tick comes. The last column is for the host that leads: nothing grows until another one does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec import structs

from fleetd.simulate.run import simulate
from fleetd.simulate.scoring.outcome import Score
from fleetd.simulate.trace.trace import Trace, load_trace

TRACES = Path(__file__).with_name("traces") / "hosts"
#: A lost host may make so many times as many jobs late as the loss of as many instances of one host.
RATIO_MAX = 1.25


def pair() -> tuple[Trace, Trace]:
    """A host that is lost, and one that loses as many instances."""
    return load_trace(TRACES / "host-lost-at-the-peak.toml"), load_trace(TRACES / "instances-lost-at-the-peak.toml")


def lost_later(trace: Trace, seconds: int, seed: int) -> Trace:
    """The trace with what goes wrong so much later."""
    hosts = tuple(
        structs.replace(host, lost=tuple((at + seconds, until) for at, until in host.lost)) for host in trace.hosts
    )
    faults = tuple(structs.replace(fault, at=fault.at + seconds) for fault in trace.faults)
    return structs.replace(trace, seed=seed, hosts=hosts, faults=faults)


def leader_lost(trace: Trace) -> Trace:
    """The trace with the large host in the first place: whose fleetd ticks first leads."""
    first, second = trace.hosts
    return structs.replace(trace, hosts=(second, first))


def score_of(trace: Trace) -> Score:
    """Raises AssertionError if a law was broken."""
    (outcome,) = simulate(trace, None, ("fleetd",))
    if outcome.breaks:
        raise AssertionError(outcome.breaks)
    return outcome.score


def late_jobs(seed: int, phases: tuple[int, ...]) -> list[tuple[Score, Score]]:
    """With a host lost, and with as many instances of one host lost, so many seconds after a tick."""
    one, other = pair()
    return [(score_of(lost_later(one, n, seed)), score_of(lost_later(other, n, seed))) for n in phases]


def main() -> None:
    print(
        "| seed | seconds after a tick | a host | as many instances | ratio | the leader |\n|---|---|---|---|---|---|"
    )
    total = [0, 0, 0]
    for seed in map(int, sys.argv[1:] or ("1", "2")):
        for phase, (one, other) in enumerate(late_jobs(seed, (0, 1, 2, 3, 4))):
            leader = score_of(lost_later(leader_lost(pair()[0]), phase, seed))
            counts = (one.late_jobs, other.late_jobs, leader.late_jobs)
            total = [sum(n) for n in zip(total, counts, strict=True)]
            print(_row(str(seed), str(phase), counts), flush=True)
    print(_row("all", "", (total[0], total[1], total[2])))


def _row(seed: str, phase: str, counts: tuple[int, int, int]) -> str:
    one, other, leader = counts
    return f"| {seed} | {phase} | {one:,} | {other:,} | {one / other:.2f} | {leader:,} ({leader / other:.2f}) |"


if __name__ == "__main__":
    main()
