"""Which host has the scheduler's slot, for the one who asks before a start and is no member of the fleet.

The layout of the ledger is known in `held_slot` and nowhere else in this module. A ledger that is missing, of a later
format or not as expected says nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fleetd.core.fleet.rival import HeldSlot
from fleetd.core.fleet.state import FORMAT

_LEDGER, _HOSTS = "fleetd:ledger", "fleetd:beats"
_FIELDS = ("format", "clock", "wall", "slot")


class _Slot(msgspec.Struct):
    holder: str = ""
    unit: str = "gone"


def slot_question(prefix: str) -> tuple[str, ...]:
    """The command whose reply `held_slot` reads first."""
    return ("HMGET", prefix + _LEDGER, *_FIELDS)


def beat_question(prefix: str, holder: str) -> tuple[str, ...]:
    """The command that asks when the holder last beat."""
    return ("HGET", prefix + _HOSTS, holder)


def holder_in(reply: Any) -> str:
    """The holder's name, if its unit runs or starts; "": nobody's does, or that can't be read."""
    slot = _slot(reply)
    return slot.holder if slot is not None and slot.unit == "there" else ""


def held_slot(reply: Any, beat: Any, now_ms: int) -> HeldSlot | None:
    """From the replies to both questions; None: nobody holds it, or that can't be read.

    The fleet clock stands while nobody beats. So what has passed on Redis's own clock since the last beat of any host
    is added to the holder's silence; if that clock was set back, nothing is known.
    """
    slot = _slot(reply)
    try:
        clock_ms, wall_ms, beat_ms = int(reply[1]), int(reply[2]), int(beat)
    except (TypeError, ValueError, IndexError):
        return None
    if slot is None or slot.unit != "there" or not slot.holder or now_ms < wall_ms:
        return None
    return HeldSlot(host=slot.holder, silent_seconds=(clock_ms - beat_ms + now_ms - wall_ms) / 1000)


def _slot(reply: Any) -> _Slot | None:
    try:
        if int(reply[0]) != FORMAT:
            return None
        return msgspec.json.decode(reply[3], type=_Slot)
    except (TypeError, ValueError, IndexError, RecursionError, msgspec.MsgspecError):
        return None
