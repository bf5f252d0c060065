"""The constants of the search: a step of time, and the rules' own constants in proportion.

What matters is their order, which is that of the real ones: a grant (10 s) dies before gathering may end (20 s), a
scheduler that boots is seen before the takeover, a heartbeat has expired before a ghost is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fleetd.core.fleet import rules, slot

STEP_MS = 10_000
TICK_MS = 5_000
TAKEOVER_MS = 30_000
#: A process that starts is seen (its heartbeat, its connection) after so many steps.
BOOT = 2
#: The heartbeat of a process that died is seen for so many steps.
HEARTBEAT = 2
#: What an instance may open, what it has open, and the limit.
CLAIM, OPEN, LIMIT = 2, 1, 4
#: What a host knows of the fleet clock is at most so old.
CLOCK_MS_MAX = 30_000
#: Ages above this are alike: the longest of the constants below and one step.
AGE_MS_MAX = 70_000

SMALL = {
    "GATHERING_MS_MAX": 40_000,
    "SILENT_MS": 40_000,
    "FORGOTTEN_MS": 60_000,
}


@contextmanager
def small_constants(**others: int) -> Iterator[None]:
    """The rules with the search's constants, and with others for a mutation."""
    values = {**SMALL, **others}
    before = {name: getattr(rules, name) for name in values}
    ghost = slot.GHOST_MS
    for name, value in values.items():
        setattr(rules, name, value)
    slot.GHOST_MS = TAKEOVER_MS
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(rules, name, value)
        slot.GHOST_MS = ghost


def steps_counted() -> int:
    """How many steps one beat can advance the fleet clock: more of them are alike."""
    return max(rules.STEP_MS_MAX, 2 * TICK_MS) // STEP_MS
