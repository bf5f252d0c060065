"""What of a recording an admin should read: the entries that led to something, repeats once, and gaps."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from msgspec import structs

from fleetd.core.model.history import Entry, Recording, TimeSpan

#: A repeat is looked for so many lines back, and within this time after the last one.
REPEATS_BACK, REPEAT_SECONDS = 4, 3600.0
#: Entries of one tick are written within this time.
TICK_SECONDS = 1.0
#: Samples are written up to a minute late; a shorter gap before now may be no gap.
LATE_SECONDS = 180.0


@dataclass
class Repeated:
    """An entry, how often it came, and when it came last (Unix time)."""

    entry: Entry
    last_seconds: float
    count: int = 1


def worth_reading(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """All but the reasons of ticks in which nothing was done and nothing else was wanted: hundreds a day."""
    moved = sorted(e.at_seconds for e in entries if e.kind in ("step", "want"))

    def led_to_something(entry: Entry) -> bool:
        place = bisect_left(moved, entry.at_seconds - TICK_SECONDS)
        return place < len(moved) and moved[place] <= entry.at_seconds + TICK_SECONDS

    return tuple(e for e in entries if e.kind != "reason" or e.warning or led_to_something(e))


def repeats_merged(entries: tuple[Entry, ...]) -> list[Repeated]:
    """One line for entries that soon came again, the same to the letter, in the order in which they came first."""
    lines: list[Repeated] = []
    for entry in entries:
        for line in lines[-REPEATS_BACK:]:
            alike = structs.replace(entry, at_seconds=line.entry.at_seconds) == line.entry
            if alike and entry.at_seconds - line.last_seconds <= REPEAT_SECONDS:
                line.count += 1
                line.last_seconds = entry.at_seconds
                break
        else:
            lines.append(Repeated(entry, last_seconds=entry.at_seconds))
    return lines


def gaps_of(recording: Recording, since_seconds: float, now_seconds: float) -> list[TimeSpan]:
    """Times (Unix) of which nothing was recorded, the one before now among them; not the time before all records."""
    # What was written while the clock was ahead must not hide a gap.
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
