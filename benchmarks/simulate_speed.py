"""What a simulated day costs on one core: CPU seconds, and their ratio to a loop that is timed next to it.

    python -m benchmarks.simulate_speed [TRACE …]          a few minutes

The loop does what the simulator does most: small objects, calls, dictionaries. It is timed before and after each run,
so that a slow or busy machine affects both alike. Compare the ratios, not the seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fleetd.simulate.policies.rivals import RIVALS
from fleetd.simulate.run import simulate
from fleetd.simulate.trace.trace import load_trace

TRACES = Path(__file__).with_name("traces")
DAYS = ("calm-day", "day-and-night", "seven-queues")
POLICIES = ("fleetd", *RIVALS, "oracle")
DAY_SECONDS = 86_400.0
#: About a second on a machine of 2024.
LOOP_ROUNDS = 1_500_000


@dataclass(frozen=True)
class Item:
    number: int
    weight: float


def loop_seconds() -> float:
    """CPU seconds of the loop."""
    begun = time.process_time()
    found: dict[int, Item] = {}
    for number in range(LOOP_ROUNDS):
        item = Item(number, number * 0.5)
        found[number % 64] = item
    if sum(item.weight for item in found.values()) <= 0.0:
        raise AssertionError
    return time.process_time() - begun


def row(name: str, policy: str) -> str:
    """A row of the table: one trace under one policy."""
    trace = load_trace(TRACES / f"{name}.toml")
    before, begun = loop_seconds(), time.process_time()
    for outcome in simulate(trace, None, (policy,)):
        if outcome.breaks:
            raise AssertionError(outcome.breaks)
    seconds = (time.process_time() - begun) * DAY_SECONDS / trace.duration_seconds
    ratio = seconds / ((before + loop_seconds()) / 2.0)
    return f"| {name} | {policy} | {seconds:.1f} | {ratio:.1f} |"


def main() -> None:
    print("| trace | policy | CPU seconds a day | loops a day |\n|---|---|---|---|")
    for name in sys.argv[1:] or DAYS:
        for policy in POLICIES:
            print(row(name, policy), flush=True)


if __name__ == "__main__":
    main()
