"""Numbers, times and names as a person reads them at a glance; what is unknown is `?`, never 0."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from fleetd.core.model.identity import SCHEDULER, InstanceKey, key_text
from fleetd.core.model.person import Person
from fleetd.core.model.reasons.counts import LimitSet

UNKNOWN = "?"

#: The sources of connections, as an admin calls them.
CONNECTION_SOURCES = {"postgres": "Postgres", "pgbouncer": "PgBouncer", "replica": "the replica"}


def duration(seconds: float | None) -> str:
    """A length of time in two digits and one unit: `<0.1 s`, `0.3 s`, `42 s`, `3.5 min`, `5 h`, `12 d`."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if seconds <= 0:
        return "0 s"
    if seconds < 0.05:
        return "<0.1 s"
    for unit_seconds, unit, until in ((1.0, "s", 119.5), (60.0, "min", 89.5), (3600.0, "h", 35.5), (86400.0, "d", 1e4)):
        number = seconds / unit_seconds
        if number < until:
            return f"{number:.1f}".removesuffix(".0") + f" {unit}" if number < 9.95 else f"{number:.0f} {unit}"
    return ">9999 d"


def span(seconds: float) -> str:
    """A length of time inside a sentence: `90 s`, `30 min`, `4.0 h`, `2.0 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size(size_bytes: int | None) -> str:
    """An amount of memory: `712 MB`, `1.2 GB`. Powers of 1024, under the names that `free -h` users know."""
    if size_bytes is None:
        return UNKNOWN
    mega = max(0, size_bytes) / 1024**2
    if mega < 999.5:
        return f"{mega:.0f} MB"
    giga = mega / 1024
    return f"{giga:.1f} GB" if giga < 99.5 else f"{giga:.0f} GB"


def count(number: float | None) -> str:
    """How many: `14`, `16.2`, `8,412`, `1.3 M`."""
    if number is None or math.isnan(number):
        return UNKNOWN
    if abs(number) >= 1_000_000:
        return f"{number / 1_000_000:,.1f} M" if abs(number) < 1e12 else f"{number:.0e}"
    if number != int(number) and abs(number) < 100:
        return f"{number:.1f}"
    return f"{number:,.0f}"


def rate(per_second: float | None) -> str:
    """How many a second: `412/s`, `0.4/s`; what is rare is `<0.1/s` and not 0."""
    if per_second is not None and 0.0 < per_second < 0.05:
        return "<0.1/s"
    return f"{count(per_second).removesuffix('.0')}/s"


def times(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: `1 instance`, `2 instances`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def counts(low: int, high: int) -> str:
    """How many instances there may be: `2 to 6 instances`, `1 instance`. Their numbers are another thing."""
    return times(low, "instance") if low == high else f"{low} to {times(high, 'instance')}"


def are(number: int) -> str:
    """`1 is`, `2 are`."""
    return f"{number:,} {'is' if number == 1 else 'are'}"


def often(count: int) -> str:
    """How many times: `once`, `2 times`."""
    return "once" if count == 1 else f"{count} times"


def limit_text(limit_connections: int, setting: LimitSet, minus: str = "−") -> str:
    """A limit of connections and the setting that it comes from: `97 (100 − 3 reserved for superusers)`."""
    from_where = limit_source(setting, minus)
    return f"{limit_connections:,}{f' ({from_where})' if from_where else ''}"


def limit_source(setting: LimitSet, minus: str = "−") -> str:
    """Where a limit of connections comes from, if its number does not say that; else "" ."""
    if setting.by == "server" and setting.reserved_connections:
        return f"{setting.to_connections:,} {minus} {setting.reserved_connections:,} reserved for superusers"
    if setting.by in ("role", "database"):
        return f"CONNECTION LIMIT {setting.to_connections:,} of Mastodon's {setting.by}"
    return "connections.limit" if setting.by == "configuration" else ""


def numbers(values: Sequence[int]) -> str:
    """Instance numbers, sorted, three or more in a row as a range: `1-4, 7`."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def short_name(key: InstanceKey) -> str:
    """`@3`, or `the scheduler`."""
    return "the scheduler" if key == SCHEDULER else f"@{key}"


def names(keys: Sequence[InstanceKey]) -> str:
    return ", ".join(map(short_name, keys))


def who(person: Person | None) -> str:
    """`root (sudo alice)`, `deploy`; for an order of which an earlier version remembers nobody, `fleetctl`."""
    if person is None:
        return "fleetctl"
    return f"{person.user} (sudo {person.login})" if person.login else person.user


def release_command(key: InstanceKey) -> str:
    """The command that lets fleetd decide about a unit again."""
    return f"`fleetctl release {key_text(key)}`"


def sentence(text: str) -> str:
    """The text with a full stop at its end, so that another sentence can follow."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", ":", "…")) else text + "."


def capitalised(text: str) -> str:
    """The text with a capital first letter; unlike with `str.capitalize`, the rest stays as it is."""
    return text[:1].upper() + text[1:]


def nearest(typed: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the one that was probably meant, else all known names."""
    near = difflib.get_close_matches(typed.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
