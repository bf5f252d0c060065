"""What a number from outside can be. Every adapter takes its numbers through here (law 7).

Sidekiq's keys, servers, kernel files and saved JSON are written by others, so any number in them may be of 400 digits,
infinite, negative or text. One that can't be is unknown and takes part in no arithmetic: it could not be stored
(SQLite and msgpack have 64 bits), would overflow a float, or would be believed.

The bounds say what is possible and not what is usual; the configuration has narrower ones for what people write there.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal[
    "threads", "pid", "bytes", "time", "unix_seconds", "seconds", "connections", "jobs", "total", "percent", "load"
]


class Bounds(NamedTuple):
    """The lowest and the highest possible value, both included."""

    low: int
    high: int


#: A hundred years: no process, job or wait is older, and no clock that is set at all is further off.
AGE_SECONDS_MAX: Final = 100 * 365 * 86_400

BOUNDS: Final[dict[Unit, Bounds]] = {
    # Of one Sidekiq process. A Ruby process runs one thread at a time and gains nothing beyond some dozens.
    "threads": Bounds(0, 1000),
    # PID_MAX_LIMIT of 64-bit Linux (include/linux/threads.h).
    "pid": Bounds(0, 2**22),
    # Physical addresses have at most 52 bits on x86-64 (AMD64 manual, volume 2) and on ARMv8.2.
    "bytes": Bounds(0, 2**52),
    # Unix time, in seconds or as Sidekiq 8 writes it in milliseconds: until the year 5138.
    "time": Bounds(0, 10**14),
    # Unix time that can be written as a date: until the year 9999 (Python's datetime).
    "unix_seconds": Bounds(0, 253_402_300_799),
    # Ages and waits; below 0 where another machine's clock runs ahead.
    "seconds": Bounds(-AGE_SECONDS_MAX, AGE_SECONDS_MAX),
    # A C int in PostgreSQL (max_connections, CONNECTION LIMIT) and in PgBouncer (main.c). Its highest value is in use
    # as "no limit".
    "connections": Bounds(0, 2**31 - 1),
    # A Redis list holds at most 2^32 − 1 elements (Redis documentation, "Lists").
    "jobs": Bounds(0, 2**32 - 1),
    # Counters that only grow. A million a second takes 285 years to get here, and a float is still exact.
    "total": Bounds(0, 2**53),
    # Kernel documentation, "PSI": the share of time, in percent.
    "percent": Bounds(0, 100),
    # The kernel's load average counts tasks, of which there are at most as many as pids.
    "load": Bounds(0, 2**22),
}

_CHARACTERS_MAX = 40
_WHOLE = re.compile(r"-?[0-9]+")
_REAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")


class ImpossibleNumberError(ValueError):
    """A number without which there is no reading can't be; says which one, without its value."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        super().__init__(f"{name} is not a number from {bounds.low} to {bounds.high}")


def whole(value: object, unit: Unit) -> int | None:
    """A whole number, from one or from its ASCII digits; None: it is none, or out of bounds."""
    if isinstance(value, str | bytes):
        value = int(text) if _WHOLE.fullmatch(text := _text(value)) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    low, high = BOUNDS[unit]
    return value if low <= value <= high else None


def real(value: object, unit: Unit) -> float | None:
    """A number with or without a fraction, from one or from its ASCII text; None: it is none, or out of bounds."""
    if isinstance(value, str | bytes):
        value = float(text) if _REAL.fullmatch(text := _text(value)) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    low, high = BOUNDS[unit]
    return float(value) if low <= value <= high else None  # NaN is within no bounds


def essential(value: object, name: str, unit: Unit) -> int:
    """As `whole`; raises ImpossibleNumberError, in which `name` says what it was to be."""
    found = whole(value, unit)
    if found is None:
        raise ImpossibleNumberError(name, BOUNDS[unit])
    return found


def _text(value: str | bytes) -> str:
    """What may be a number; "" for anything longer than any number, which int() would take long to refuse."""
    if len(value) > _CHARACTERS_MAX:
        return ""
    return value if isinstance(value, str) else value.decode("ascii", "replace")


#: Whole numbers up to here are the same in every reader of JSON (RFC 7493, "The I-JSON Message Format", 2.2).
JSON_NUMBER_MAX: Final = 2**53


def impossible_in(document: Any, low: int = -JSON_NUMBER_MAX) -> str | None:
    """Where in decoded JSON the first number is that no fleetd wrote; None: there is none.

    For files and messages in fleetd's own forms, which hold times, counts and sizes of every kind. `low`: the lowest
    possible one; 0 where nothing is below it.
    """
    open_items: list[tuple[str, Any]] = [("", document)]
    while open_items:
        path, item = open_items.pop()
        if isinstance(item, dict):
            open_items += [(f"{path}.{key}"[:200], value) for key, value in item.items()]
        elif isinstance(item, list):
            open_items += [(f"{path}[{index}]"[:200], value) for index, value in enumerate(item)]
        elif isinstance(item, int | float) and not low <= item <= JSON_NUMBER_MAX:
            return path.lstrip(".") or "the number"
    return None
