"""The section "Simulation beside real Sidekiq" of benchmarks/policies.md.

    sudo env PYTHONDONTWRITEBYTECODE=1 .venv/bin/python -m benchmarks.beside_sidekiq

Takes a quarter of an hour on virtual hosts of the lab. Plays each trace on real Sidekiq and in the simulator, and
writes the table into the file without changing the rest of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.lab import simulated_twin as honest
from tests.support.lab.agreement import HEAD, disagreements, rows

FILE = Path(__file__).with_name("policies.md")
HEADING = "## Simulation beside real Sidekiq"
INTRODUCTION = """\
Made by `python -m benchmarks.beside_sidekiq` as root; `make test-long` plays the same traces. It fails if a p95 wait
differs by more than 25 % and more than 1 s, or the instances (summed over time, or averaged over all seconds) by more
than 25 %. The traces are two of those above, shortened to minutes and to what two cores can do:
`benchmarks/traces/lab/`, whose `fleetd.toml` both use. Both get the same number of jobs in the same seconds, with
lengths from the same distributions; the real jobs sleep. Real waits last from `enqueued_at` to the run; real instances
are counted from fleetd's steps and systemd's journal."""
TOLD = """\
The simulator was given the boot and job times that were measured (in brackets: those in the trace). The load of the
machine was {load:.0f} on {cores} cores, including other work:"""


def main() -> None:
    table, remarks = list(HEAD), []
    for name in honest.LONG:
        trace, real = honest.trace_of(name), honest.played(name)
        simulated = honest.simulated(honest.as_it_was(trace, real))
        table += rows(name, real.course, simulated)
        remarks.append(f"- `{name}`: {honest.told(trace, real)}.")
        remarks += [f"- further apart than it may be: {s}." for s in disagreements(real.course, simulated)]
    machine = TOLD.format(load=os.getloadavg()[2], cores=os.cpu_count())
    section = "\n".join([HEADING, "", INTRODUCTION, "", *table, "", machine, "", *remarks, ""])
    FILE.write_text(replaced(FILE.read_text(), section))


def replaced(text: str, section: str) -> str:
    """The file's text with this section replacing the one with the same heading, or added at the end."""
    before, found, after = text.partition(f"{HEADING}\n")
    _, more, rest = after.partition("\n## ") if found else ("", "", "")
    return f"{before.rstrip()}\n\n{section}{more}{rest}"


if __name__ == "__main__":
    main()
