"""The screen of `fleetctl explain`: a ladder for each profile, from what its queues need to what runs."""

from __future__ import annotations

from msgspec.structs import replace
from rich.text import Text

from fleetd.cli.advice.explanation import CURES, Reason, clamp_level, host_reasons, split_at_grant
from fleetd.cli.advice.findings import stuck
from fleetd.cli.advice.verdict import Level, queue_level, told_above
from fleetd.cli.screens.profiles import profile_level
from fleetd.cli.screens.sheet import Sheet
from fleetd.cli.screens.status import origin_line
from fleetd.cli.terminal.lines import Lines, fit, hanging, right
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols, sign
from fleetd.core.model.decision import Clamp
from fleetd.core.model.status import ProfileStatus, Status
from fleetd.words.formatting import UNKNOWN, duration, sentence

_WIDTH_MAX = 120
_NUMBER_CELLS = 7


def explain_screen(
    status: Status, *, width: int, symbols: Symbols, profile: str = "", clock: str = ""
) -> Lines:
    """The whole screen as lines of at most `width` cells; `profile` "": all."""
    if profile:
        status = replace(status, profiles=tuple(p for p in status.profiles if p.name == profile))
    status = cleaned(status, ascii_only=symbols.ascii_only)
    sheet = Sheet(width=max(20, min(width, _WIDTH_MAX)), symbols=symbols)
    lines: Lines = []
    for finding in stuck(status):
        head = Text.assemble(sign(finding.level, symbols), " ")
        text = Text(finding.sentence, f"bold {STYLES[finding.level]}")
        lines += hanging(head, text, sheet.width, lines_max=4, symbols=symbols)
    lines.append(origin_line(status, sheet, clock))
    for one in status.profiles:
        lines += [Text(), *ladder_lines(status, one, sheet)]
    host = _host_lines(status, sheet)
    lines += [Text(), *host] if host else []
    said = sentence(status.next_sentence) or UNKNOWN
    lines += [Text(), *hanging(Text("Next  ", "bold"), said, sheet.width, lines_max=4, symbols=symbols)]
    for line in lines:
        line.truncate(width)
    return lines


def ladder_lines(status: Status, profile: ProfileStatus, sheet: Sheet) -> Lines:
    """`9 needed`, each clamp `9→6`, `6 granted`, `6 running`."""
    symbols, level = sheet.symbols, profile_level(profile)
    ends = f"min {profile.min_instances} max {profile.max_instances}"
    head = Text.assemble(
        sign(level, symbols), " ", (fit(profile.name, 24, symbols), "bold"), (f"  {ends}", QUIET)
    )
    before, after = split_at_grant(profile)
    lines = [head, *_rung(profile.needed_instances, _need(status, profile), sheet)]
    for clamp in before:
        lines += _clamp_lines(status, clamp, sheet)
    lines += _rung(profile.admitted_instances, Text("granted", "bold"), sheet)
    for clamp in after:
        lines += _clamp_lines(status, clamp, sheet)
    return lines + _rung(profile.running_instances, _running(status, profile), sheet)


def _rung(number: int | None, text: Text, sheet: Sheet) -> Lines:
    shown = right(UNKNOWN if number is None else str(number), _NUMBER_CELLS, sheet.symbols)
    style = "bold" if number is not None else f"bold {STYLES[Level.UNKNOWN]}"
    head = Text.assemble("    ", (shown, style), "  ")
    return hanging(head, text, sheet.width, lines_max=4, symbols=sheet.symbols)


def _need(status: Status, profile: ProfileStatus) -> Text:
    """What the queues ask for, and which of them are late."""
    if profile.needed_instances is None:
        return Text("needed: how long jobs wait is unknown")
    names = {name.split(",")[0] for name in profile.queues}
    late = [q for q in status.queues if q.name in names and queue_level(q) == Level.BAD]
    worst = sorted(late, key=lambda q: (q.latency_seconds or 0.0) / max(q.target_seconds, 0.001))[::-1]
    said = ", ".join(
        f"{q.name} waits {duration(q.latency_seconds)} (target {duration(q.target_seconds)})"
        for q in worst[:3]
    )
    rest = f" and {len(late) - 3} more queues" if len(late) > 3 else ""
    return Text.assemble(("needed", "bold"), f": {said}{rest}" if said else " by its queues")


def _running(status: Status, profile: ProfileStatus) -> Text:
    states: dict[str, int] = {}
    for instance in status.instances:
        stopped = instance.state == "stopped" or (
            instance.state == "pinned" and instance.busy_threads is None
        )
        if instance.profile == profile.name and not stopped:
            states[instance.state] = states.get(instance.state, 0) + 1
    said = ", ".join(f"{number} {state}" for state, number in states.items())
    words = "running" if profile.running_instances is not None else "running: systemd can't be read"
    return Text.assemble((words, "bold"), f": {said}" if said and set(states) != {"serving"} else "")


def _clamp_lines(status: Status, clamp: Clamp, sheet: Sheet) -> Lines:
    """From what to what, by which code and why, and what to do about it."""
    symbols, level = sheet.symbols, clamp_level(clamp)
    moved = ""
    if clamp.before_instances is not None and clamp.after_instances is not None:
        moved = f"{clamp.before_instances}{symbols.arrow}{clamp.after_instances}"
    mark = (symbols.dot, QUIET) if level == Level.OK else sign(level, symbols)
    head = Text.assemble("  ", mark, " ", (right(moved, _NUMBER_CELLS, symbols), "bold"), "  ")
    below = told_above(status) | {hold.sentence for hold in status.holds}
    said = " (see below)" if clamp.sentence in below else f": {sentence(clamp.sentence)}"
    text = Text.assemble((clamp.code.value.replace("_", " "), "bold"), said)
    lines = hanging(head, text, sheet.width, lines_max=6, symbols=symbols)
    cure = "" if clamp.sentence in below or level == Level.OK else CURES.get(clamp.code, "")
    return lines + _cure_lines(cure, head.cell_len, sheet)


def _cure_lines(cure: str, indent_cells: int, sheet: Sheet) -> Lines:
    if not cure:
        return []
    head = Text.assemble(" " * indent_cells, ("do: ", "bold cyan"))
    return hanging(head, cure, sheet.width, lines_max=4, symbols=sheet.symbols)


def _host_lines(status: Status, sheet: Sheet) -> Lines:
    """What concerns every profile here."""
    reasons = host_reasons(status)
    lines: Lines = [Text("The whole host", "bold")] if reasons else []
    for level, reason in reasons:
        lines += _host_line(level, reason, sheet)
    return lines


def _host_line(level: Level, reason: Reason, sheet: Sheet) -> Lines:
    symbols = sheet.symbols
    mark = (symbols.dot, QUIET) if level == Level.OK else sign(level, symbols)
    head = Text.assemble("  ", mark, " ")
    text = Text.assemble((reason.code.replace("_", " "), "bold"), f": {sentence(reason.sentence)}")
    lines = hanging(head, text, sheet.width, lines_max=6, symbols=symbols)
    return lines + _cure_lines(reason.what_to_do if level > Level.OK else "", head.cell_len, sheet)
