"""The history as a person reads it at three in the morning: time, sign, sentence; repeats drawn together."""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, datetime

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, hanging
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import PIN_STYLE, QUIET, Symbols, sign
from fleetd.core.model.history import Entry, Recording, TimeSpan
from fleetd.words.formatting import capitalised, duration, numbers, sentence, times

#: Repeats are looked for so many lines back, and within this time after the last one.
REPEATS_BACK, REPEAT_SECONDS = 4, 3600.0
#: Steps of one tick.
AT_ONCE_SECONDS = 1.0
#: What is written comes up to a minute late.
LATE_SECONDS = 180.0
LINES_OF_A_SENTENCE = 4
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)?")
_UNIT = re.compile(r"mastodon-sidekiq(?:@([0-9]{1,4})|-(scheduler))\.service")


_STEP = re.compile(r"(start|quiet|stop) mastodon-sidekiq@([0-9]{1,4})\.service: (.*)")


class Line:
    """An entry, how often it came again, and of which instances it is where it is one step on several."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.count = 1
        self.last_seconds = entry.at_seconds
        self.step = _STEP.fullmatch(entry.sentence) if entry.kind == "step" else None
        self.numbers = [int(self.step[2])] if self.step else []

    @property
    def sentence(self) -> str:
        if self.step is not None:
            return f"{self.step[1]} @{numbers(self.numbers)}: {self.step[3]}"
        return _UNIT.sub(lambda m: f"@{m[1]}" if m[1] else "scheduler", self.entry.sentence)

    def takes(self, other: Line) -> bool:
        """Whether the other one is the same step at the same time, on one more instance."""
        if self.step is None or other.step is None or other.numbers[0] in self.numbers:
            return False
        alike = self.step[1] == other.step[1] and self.step[3] == other.step[3]
        return alike and other.entry.at_seconds - self.entry.at_seconds <= AT_ONCE_SECONDS


def history_lines(
    recording: Recording,
    since: float,
    now: float,
    *,
    width: int,
    symbols: Symbols,
    everything: bool = False,
) -> Lines:
    """All since then, newest last; without the reasons that led to nothing, unless `everything`. Unix seconds."""
    entries = recording.entries if everything else worth_reading(recording.entries)
    rows: list[tuple[float, Lines]] = [
        (line.entry.at_seconds, _entry(line, width, symbols)) for line in collapsed(entries)
    ]
    rows += [(gap.from_seconds, _gap(gap, now, width, symbols)) for gap in gaps_of(recording, since, now)]
    rows.sort(key=lambda row: row[0])
    lines: Lines = []
    day = ""
    for at, entry_lines in rows:
        today = f"{_local(at):%a %d %b %Y}"
        if today != day:
            lines.append(Text(today, "bold"))
            day = today
        lines += entry_lines
    hidden = len(recording.entries) - len(entries)
    if hidden:
        said = f"{times(hidden, 'other reason')} led to no step and no other want: --all shows them."
        lines += hanging(Text("  "), Text(said, QUIET), width, lines_max=3, symbols=symbols)
    if not recording.entries:
        lines += _nothing(recording, since, now, width, symbols)
    if recording.unreadable_rows:
        said = (
            f"{times(recording.unreadable_rows, 'row')} of the history can't be read: the file is damaged, or somebody "
            "wrote to it. fleetd puts a damaged file aside when it starts, and looks once a day."
        )
        lines += hanging(Text("  "), said, width, lines_max=3, symbols=symbols)
    return lines


def worth_reading(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """All but the reasons of ticks in which nothing was done and nothing else was wanted: hundreds a day."""
    told = sorted(e.at_seconds for e in entries if e.kind in ("step", "want"))

    def led_to_something(entry: Entry) -> bool:
        place = bisect_left(told, entry.at_seconds - AT_ONCE_SECONDS)
        return place < len(told) and told[place] <= entry.at_seconds + AT_ONCE_SECONDS

    return tuple(e for e in entries if e.kind != "reason" or e.warning or led_to_something(e))


def collapsed(entries: tuple[Entry, ...]) -> list[Line]:
    """One line for what came again soon with other numbers; a step only with the same ones."""
    lines: list[Line] = []
    for entry in entries:
        if lines and lines[-1].takes(Line(entry)):
            lines[-1].numbers += Line(entry).numbers
            continue
        same = next(
            (
                line
                for line in reversed(lines[-REPEATS_BACK:])
                if _key(line.entry) == _key(entry) and entry.at_seconds - line.last_seconds <= REPEAT_SECONDS
            ),
            None,
        )
        if same is None:
            lines.append(Line(entry))
        else:
            same.count += 1
            same.last_seconds = entry.at_seconds
    return lines


def _key(entry: Entry) -> tuple[str, bool, str]:
    said = entry.sentence if entry.kind == "step" else _NUMBERS.sub("", entry.sentence)
    return entry.kind, entry.warning, said


def gaps_of(recording: Recording, since: float, now: float) -> list[TimeSpan]:
    """Times of which nothing was recorded, the one before now among them. Of the time before all records: none."""
    # What was written while the clock was ahead hides nothing of the time before.
    watched_spans = sorted(
        (s for s in recording.watched_spans if s.from_seconds <= now), key=lambda s: s.from_seconds
    )
    ends = [spell.to_seconds for spell in watched_spans] or (
        [max(since, recording.newest_seconds)] if recording.newest_seconds is not None else []
    )
    begins = [spell.from_seconds for spell in watched_spans[1:]] + [now] if ends else []
    found = [TimeSpan(from_seconds=a, to_seconds=b) for a, b in zip(ends, begins, strict=True)]
    return [
        gap
        for gap in found
        if gap.from_seconds < gap.to_seconds
        and (gap.to_seconds < now or now - gap.from_seconds > LATE_SECONDS)
    ]


def _entry(line: Line, width: int, symbols: Symbols) -> Lines:
    entry = line.entry
    mark = ("  ", "")
    if entry.warning:
        mark = sign(Level.WARN, symbols)
    elif entry.kind == "step":
        mark = sign(Level.MOVING, symbols)
    elif entry.kind == "order":
        mark = symbols.pin, PIN_STYLE
    head = Text.assemble(f"{_local(entry.at_seconds):%H:%M:%S}  ", (f"{mark[0].strip():1} ", mark[1]))
    said = clean(line.sentence, ascii_only=symbols.ascii_only)
    body = Text(sentence(said))
    if line.count > 1:
        again = f"  ({line.count} times, last {_local(line.last_seconds):%H:%M:%S})"
        body.append(again, QUIET)
    return hanging(head, body, width, lines_max=LINES_OF_A_SENTENCE, symbols=symbols)


def _gap(gap: TimeSpan, now: float, width: int, symbols: Symbols) -> Lines:
    head = Text.assemble(
        f"{_local(gap.from_seconds):%H:%M:%S}  ", (symbols.signs[Level.UNKNOWN] + " ", "bold")
    )
    lasted = duration(gap.to_seconds - gap.from_seconds)
    until = "until now" if gap.to_seconds >= now else f"until {_local(gap.to_seconds):%H:%M:%S}"
    said = f"Nothing was recorded {until} ({lasted}): fleetd did not run, stood still or could not write."
    return hanging(head, Text(said, QUIET), width, lines_max=3, symbols=symbols)


def _nothing(recording: Recording, since: float, now: float, width: int, symbols: Symbols) -> Lines:
    if recording.watched_spans:
        said = f"nothing happened in the last {duration(now - since)}: fleetd watched, and had nothing to do or to say."
    elif recording.newest_seconds is not None:
        last = _local(recording.newest_seconds)
        said = f"the last record is of {last:%a %d %b %Y, %H:%M}: go back further with --since."
    else:
        said = "nothing is recorded yet."
    return hanging(Text(""), capitalised(said), width, lines_max=4, symbols=symbols)


def _local(at_seconds: float) -> datetime:
    return datetime.fromtimestamp(at_seconds, UTC).astimezone()
