"""The section "Simulation beside real Sidekiq" of benchmarks/policies.md.

    sudo .venv/bin/python -m benchmarks.beside_sidekiq      a quarter of an hour, on virtual hosts of the lab

Plays each trace in real Sidekiq and in the simulator, writes the table into the file and leaves the rest of it alone.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab import honest
from tests.lab.agreement import HEAD, disagreements, rows

FILE = Path(__file__).with_name("policies.md")
HEADING = "## Simulation beside real Sidekiq"
INTRODUCTION = """\
Made by `sudo .venv/bin/python -m benchmarks.beside_sidekiq`; `make test-long` plays the same, and fails where a p95
wait is apart by more than 25 % and more than 1 s, or the instances (summed up over time, or on average of all seconds)
by more than 25 %. The traces are two of those above, cut to minutes and to what two cores carry:
`benchmarks/traces/lab/`, whose `fleetd.toml` both worlds read. Both get the same number of jobs in the same seconds,
drawn from the same lengths; the real ones sleep. Real waits last from `enqueued_at` to the run; real instances are
those of fleetd's steps and of systemd's journal."""


def main() -> None:
    table, remarks = list(HEAD), []
    for name in honest.LONG:
        real, simulated = honest.played(name), honest.simulated(honest.trace_of(name))
        table += rows(name, real.course, simulated)
        remarks += [
            f"Further apart than it may be, {name}: {s}." for s in disagreements(real.course, simulated)
        ]
        remarks.append(boots(name, real.boot_seconds))
    section = "\n".join([HEADING, "", INTRODUCTION, "", *table, "", *remarks, ""])
    FILE.write_text(replaced(FILE.read_text(), section))


def boots(name: str, seconds: list[float]) -> str:
    low, high = honest.trace_of(name).boot_seconds
    took = f"{min(seconds):.1f} to {max(seconds):.1f} s" if seconds else "none"
    return f"Boots of {name}: {took}; the trace says {low:g} to {high:g} s."


def replaced(text: str, section: str) -> str:
    """The file with this section in place of the one with its heading, or at the end."""
    before, found, after = text.partition(f"{HEADING}\n")
    _, more, rest = after.partition("\n## ") if found else ("", "", "")
    return f"{before.rstrip()}\n\n{section}{more}{rest}"


if __name__ == "__main__":
    main()
