"""Which host has the scheduler's slot, for one who asks before a start and is no member of the fleet.

It reads, with plain commands, the few fields of the ledger that say so; a ledger that is missing, of a later format or
not as expected says nothing. How the ledger is kept is known here in `slot_question`, `beat_question` and `_fields`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fleetd.core.fleet.rival import HeldSlot
from fleetd.core.fleet.state import FORMAT

_KEY = "fleetd:ledger"


class _Host(msgspec.Struct):
    beat_ms: int


class _Fields(NamedTuple):
    clock_ms: int  # the fleet clock
    time_ms: int  # Redis's own clock at the last beat of any host
    holder: str


def slot_question(prefix: str) -> tuple[str, ...]:
    """The command whose reply says who holds the slot."""
    return ("HMGET", prefix + _KEY, "format", "clock_ms", "time_ms", "holder", "unit")


def beat_question(prefix: str, holder: str) -> tuple[str, ...]:
    """The command whose reply says when the holder last beat."""
    return ("HGET", prefix + _KEY, f"host:{holder}")


def holder_in(reply: Any) -> str:
    """The holder's name, if its unit runs or starts; "": nobody's does, or that can't be read."""
    fields = _fields(reply)
    return fields.holder if fields is not None else ""


def held_slot(reply: Any, beat: Any, now_ms: int) -> HeldSlot | None:
    """From the replies to both questions; None: nobody holds it, or that can't be read.

    The fleet clock stands while nobody beats. So what has passed on Redis's own clock since the last beat of any host
    is added to the holder's silence; if that clock was set back, nothing is known.
    """
    fields = _fields(reply)
    try:
        beat_ms = msgspec.json.decode(beat, type=_Host).beat_ms
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if fields is None or now_ms < fields.time_ms:
        return None
    silent_ms = fields.clock_ms - beat_ms + now_ms - fields.time_ms
    return HeldSlot(host=fields.holder, silent_seconds=silent_ms / 1000)


def _fields(reply: Any) -> _Fields | None:
    """None: no ledger that we know, nobody holds the slot, or the holder's unit does not run."""
    try:
        form, clock_ms, time_ms, holder, unit = (value.decode() for value in reply)
        fields = _Fields(int(clock_ms), int(time_ms), holder)
        return fields if int(form) == FORMAT and unit == "there" and holder else None
    except (AttributeError, TypeError, ValueError):
        return None
