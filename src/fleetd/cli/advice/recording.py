"""What an admin should read of a recording: entries that led to something, repeats only once, and gaps."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from msgspec import structs

from fleetd.core.model.history import Entry, Recording, TimeSpan

#: A repeat is looked for this many lines back, and this long after the last one.
REPEATS_BACK, REPEAT_SECONDS = 4, 3600.0
#: What comes and goes by itself, as warnings do. All else is merged only with the line before it, or what fleetd and
#: people did would seem to have been done in another order.
_COMES_AND_GOES = frozenset({"reason", "reading"})
#: Entries of one tick have times at most this far apart.
TICK_SECONDS = 1.0
#: Samples are written up to a minute late, so a gap before now counts only if it is longer than this.
LATE_SECONDS = 180.0


@dataclass
class Repeated:
    """An entry, how often it was written, and when last (Unix time)."""

    entry: Entry
    last_seconds: float
    count: int = 1


def worth_reading(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Without the reasons of ticks that did nothing and wanted nothing new. There are hundreds of these a day."""
    moved = sorted(e.at_seconds for e in entries if e.kind in ("step", "want"))

    def led_to_something(entry: Entry) -> bool:
        place = bisect_left(moved, entry.at_seconds - TICK_SECONDS)
        return place < len(moved) and moved[place] <= entry.at_seconds + TICK_SECONDS

    return tuple(e for e in entries if e.kind != "reason" or e.warning or led_to_something(e))


def repeats_merged(entries: tuple[Entry, ...]) -> list[Repeated]:
    """Entries that soon come again, equal but for their time, become one line; in the order of the first."""
    lines: list[Repeated] = []
    for entry in entries:
        back = REPEATS_BACK if entry.kind in _COMES_AND_GOES or entry.warning else 1
        for line in lines[-back:]:
            alike = structs.replace(entry, at_seconds=line.entry.at_seconds) == line.entry
            if alike and entry.at_seconds - line.last_seconds <= REPEAT_SECONDS:
                line.count += 1
                line.last_seconds = entry.at_seconds
                break
        else:
            lines.append(Repeated(entry, last_seconds=entry.at_seconds))
    return lines


def gaps_of(recording: Recording, since_seconds: float, now_seconds: float) -> list[TimeSpan]:
    """Times (Unix) without any record, up to now. The time before the first record is no gap."""
    # Records written while the clock was ahead must not hide a gap.
    watched = sorted(
        (span for span in recording.watched_spans if span.from_seconds <= now_seconds),
        key=lambda span: span.from_seconds,
    )
    ends = [span.to_seconds for span in watched]
    if not watched and recording.newest_seconds is not None:
        ends = [max(since_seconds, recording.newest_seconds)]
    begins = [*(span.from_seconds for span in watched[1:]), now_seconds][: len(ends)]
    return [
        TimeSpan(from_seconds=end, to_seconds=begin)
        for end, begin in zip(ends, begins, strict=True)
        if end < begin and (begin < now_seconds or now_seconds - end > LATE_SECONDS)
    ]
