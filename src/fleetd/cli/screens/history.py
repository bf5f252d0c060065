"""The screen of `fleetctl history`: for each day its date, then what happened at which time, the newest last."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

from fleetd.cli.advice.recording import Repeated, gaps_of, repeats_merged, worth_reading
from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import Lines, Page
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import PIN_STYLE, QUIET, STYLES, sign
from fleetd.core.model.history import Recording, TimeSpan
from fleetd.words.formatting import duration, sentence, times


def history_screen(
    recording: Recording, since_seconds: float, now_seconds: float, page: Page, *, everything: bool = False
) -> Lines:
    """What happened between two Unix times, in local time. Reasons that led to nothing are only counted, unless
    `everything`."""
    entries = recording.entries if everything else worth_reading(recording.entries)
    rows = [(line.entry.at_seconds, _entry_lines(line, page)) for line in repeats_merged(entries)]
    gaps = gaps_of(recording, since_seconds, now_seconds)
    rows += [(gap.from_seconds, _gap_lines(gap, now_seconds, page)) for gap in gaps]
    lines: Lines = []
    day = None
    for at_seconds, row in sorted(rows, key=lambda row: row[0]):
        at = local_time(at_seconds)
        if at.date() != day:
            lines.append(Text(f"{at:%a %d %b %Y}", "bold"))
        lines, day = lines + row, at.date()
    hidden = len(recording.entries) - len(entries)
    if hidden:
        said = f"Left out: {times(hidden, 'reason')} that led to nothing. --all shows them too."
        lines += page.wrap("  ", Text(said, QUIET))
    if not recording.entries:
        lines += page.wrap("", _nothing(recording, since_seconds, now_seconds))
    if recording.unreadable_rows:
        said = (
            f"{times(recording.unreadable_rows, 'row')} of the history can't be read: the file is damaged, or was "
            "written to by another program. fleetd checks the file when it starts and once a day, and puts a damaged "
            "one aside."
        )
        lines += page.wrap("  ", said)
    return lines


def local_time(at_seconds: float) -> datetime:
    """Unix time in this host's time zone."""
    return datetime.fromtimestamp(at_seconds, UTC).astimezone()


def _entry_lines(line: Repeated, page: Page) -> Lines:
    entry = line.entry
    marks = {"step": sign(Level.MOVING, page.symbols), "order": (page.symbols.pin, PIN_STYLE)}
    mark = sign(Level.WARN, page.symbols) if entry.warning else marks.get(entry.kind, (" ", ""))
    body = Text(sentence(clean(entry.sentence, ascii_only=page.symbols.ascii_only)))
    if line.count > 1:
        body.append(f"  ({line.count} times, last {local_time(line.last_seconds):%H:%M:%S})", QUIET)
    return page.wrap(Text.assemble(f"{local_time(entry.at_seconds):%H:%M:%S}  ", mark, " "), body)


def _gap_lines(gap: TimeSpan, now_seconds: float, page: Page) -> Lines:
    end = "now" if gap.to_seconds >= now_seconds else f"{local_time(gap.to_seconds):%H:%M:%S}"
    lasted = duration(gap.to_seconds - gap.from_seconds)
    said = f"Nothing was recorded until {end} ({lasted}): fleetd did not run, or could not write."
    mark = (page.symbols.signs[Level.UNKNOWN], f"bold {STYLES[Level.UNKNOWN]}")
    return page.wrap(Text.assemble(f"{local_time(gap.from_seconds):%H:%M:%S}  ", mark, " "), Text(said, QUIET))


def _nothing(recording: Recording, since_seconds: float, now_seconds: float) -> str:
    """Why nothing is shown."""
    if recording.watched_spans:
        past = duration(now_seconds - since_seconds)
        return f"Nothing happened in the last {past}: fleetd ran, and changed nothing."
    if recording.newest_seconds is not None:
        last = local_time(recording.newest_seconds)
        return f"The last record is of {last:%a %d %b %Y, %H:%M}: go back further with --since."
    return "Nothing has been recorded yet."
