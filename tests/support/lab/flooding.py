"""A fleet whose fleetd is flooded over the system bus, and what must hold meanwhile."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.lab.fleet import Fleet, started
from tests.support.project import PROJECT

KINDS = ("pings", "signals", "introspects", "huge", "signatures", "unread")
TICK_SECONDS = 2
CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.local]
threads = 5
instances = "1-2"
min = 1
[pace]
tick_seconds = {TICK_SECONDS}
"""
CONNECTIONS = 8
GROWTH_BYTES_MAX = 10 * 1024 * 1024
_SCRIPT = "/usr/local/lib/bus_floods.py"


@contextmanager
def to_be_flooded() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        fleet.worker.write(_SCRIPT, (PROJECT / "tests/support/lab/bus_floods.py").read_text())
        yield fleet


def check_flood(fleet: Fleet, kind: str, seconds: float) -> None:
    """Flood fleetd; it goes on ticking, needs no more memory, and answers root about as fast as logind does."""
    pid = fleet.worker.unit("fleetd").properties["MainPID"]
    command = ["python3", _SCRIPT, kind, str(CONNECTIONS), str(seconds), pid]
    seen = json.loads(fleet.worker.run(command, timeout=seconds + 60).stdout)
    fleetd, other, fleetctl = seen["fleetd"], seen["other"], seen["fleetctl"]
    grown = seen["peak_bytes"] - seen["first_bytes"]
    assert fleet.worker.unit("fleetd").properties["MainPID"] == pid
    assert seen["gap_seconds"] <= 2 * TICK_SECONDS, seen
    assert grown <= GROWTH_BYTES_MAX, seen
    assert fleetctl, "fleetctl status did not return during the flood"
    assert None not in fleetctl, seen["errors"]
    # None: the bus refused busctl's call because fleetd's messages of megabytes filled its limit; fleetctl asks again.
    asked, compared = (statistics.median(s for s in took if s is not None) for took in (fleetd, other))
    assert asked <= 2 * compared + 1.0, seen  # it was 10 s
    figures = [
        f"longest gap {seen['gap_seconds']:.1f} s at ticks of {TICK_SECONDS} s",
        f"memory +{grown / 2**20:.1f} MiB",
        f"busctl to fleetd {asked:.2f} s, to logind {compared:.2f} s",
        f"fleetctl status {statistics.median(fleetctl):.2f} s",
    ]
    print(f"{kind}: {', '.join(figures)}")
