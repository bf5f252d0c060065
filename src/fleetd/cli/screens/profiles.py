"""The profiles of the status screen: running against wanted, why not more, and their instances."""

from __future__ import annotations

from rich.text import Text

from fleetd.cli.advice.verdict import CALM_CLAMPS, Level, told_above
from fleetd.cli.screens.sheet import Sheet
from fleetd.cli.terminal.lines import Lines, columns, fit, hanging, left, right
from fleetd.cli.terminal.safe_text import clean
from fleetd.cli.terminal.symbols import PIN_STYLE, QUIET, STYLES, bar, sign
from fleetd.core.model.decision import Clamp, instance_unit
from fleetd.core.model.status import InstanceStatus, ProfileStatus, Status
from fleetd.words.formatting import UNKNOWN, duration, numbers, sentence, size


def profile_lines(status: Status, profile: ProfileStatus, sheet: Sheet) -> Lines:
    """Running against wanted, each thing that changed the want, and the profile's instances."""
    instances = [instance for instance in status.instances if instance.profile == profile.name]
    symbols = sheet.symbols
    level = profile_level(profile)
    running = f"{_or_unknown(profile.running_instances)} of {_or_unknown(profile.admitted_instances)} running"
    line = Text.assemble(sign(level, symbols), " ", (fit(profile.name, 24, symbols), "bold"), "  ")
    line.append(running, f"bold {STYLES[level]}" if level > Level.OK else "")
    for fact, plain in _profile_facts(profile, instances):
        gap = "  " if line.plain.endswith("running") else ", "
        if line.cell_len + len(gap) + len(fact) <= sheet.width:
            line.append(gap + fact, "" if plain else QUIET)
    if sheet.width - line.cell_len > 12:
        line.append("  " + fit(" ".join(profile.queues), sheet.width - line.cell_len - 2, symbols), QUIET)
    lines = [line]
    holds = {hold.sentence for hold in status.holds}
    for clamp in profile.clamps:
        held = clamp.sentence in holds
        if sheet.blank_lines or not held:
            lines += clamp_lines(clamp, sheet, said_above=held or clamp.sentence in told_above(status))
    return lines + instance_lines([i for i in instances if i.state != "stopped" or i.note], sheet)


def _profile_facts(profile: ProfileStatus, instances: list[InstanceStatus]) -> list[tuple[str, bool]]:
    """What else there is to a profile, what matters most first, each with whether it deserves attention."""
    facts = []
    if profile.needed_instances is None:
        facts.append(("need unknown", True))
    elif profile.needed_instances != profile.admitted_instances:
        facts.append((f"{profile.needed_instances} needed", True))
    if profile.serving_instances != profile.running_instances:
        facts.append((f"{profile.serving_instances} serving", True))
    leaving = sum(1 for i in instances if i.state in ("quieting", "draining", "undrainable", "stopping"))
    if leaving:
        facts.append((f"{leaving} leaving", True))
    facts.append((f"min {profile.min_instances} max {profile.max_instances}", False))
    stopped = [i.number for i in instances if i.state == "stopped" and not i.note]
    if stopped:
        facts.append((f"stopped: {numbers(stopped)}", False))
    return facts


def profile_level(profile: ProfileStatus) -> Level:
    if (
        profile.running_instances is None
        or profile.admitted_instances is None
        or profile.needed_instances is None
    ):
        return Level.UNKNOWN
    if profile.running_instances < profile.min_instances:
        return Level.WARN
    if any(clamp.code not in CALM_CLAMPS for clamp in profile.clamps):
        return Level.WARN
    return Level.OK if profile.running_instances == profile.admitted_instances else Level.MOVING


def clamp_lines(clamp: Clamp, sheet: Sheet, *, said_above: bool = False) -> Lines:
    """One clamp: from what to what, its code, its sentence where that is not said already."""
    calm = clamp.code in CALM_CLAMPS
    head = Text("    ")
    if calm:
        head.append(f"{sheet.symbols.dot} ", QUIET)
    else:
        level = Level.UNKNOWN if clamp.code.value.endswith("unknown") else Level.WARN
        head.append_text(Text.assemble(sign(level, sheet.symbols), " "))
    moved = ""
    if clamp.before_instances is not None and clamp.after_instances is not None:
        moved = f"{clamp.before_instances}{sheet.symbols.arrow}{clamp.after_instances} "
    said = "" if said_above else sentence(clamp.sentence)
    body = Text.assemble((f"{moved}{clamp.code.value.replace('_', ' ')}{': ' if said else ''}", "bold"), said)
    if calm:
        body.stylize(QUIET)
    wrap = sheet.wrap_lines // 2 if calm and sheet.wrap_lines > 1 else sheet.wrap_lines
    return hanging(head, body, sheet.width, lines_max=wrap, symbols=sheet.symbols)


def instance_lines(instances: list[InstanceStatus], sheet: Sheet) -> Lines:
    """Those with a note get a line each, and below it their last words; the others share lines."""
    noted = [i for i in instances if i.note or instance_unit(i.number) in sheet.last_words]
    digits = max([1, *(len(str(instance.number)) for instance in instances)])
    cell_width = {"wide": 36, "middle": 24, "small": 11}[sheet.cell_kind] + digits
    cells = [_instance_cell(instance, digits, sheet) for instance in instances if instance not in noted]
    lines = columns(cells, cell_width, sheet.width, 2)
    for instance in noted:
        cell = _instance_cell(instance, digits, sheet)
        head = Text.assemble("  ", cell, " " * max(1, cell_width - cell.cell_len + 1))
        lines += hanging(
            head, instance.note, sheet.width, lines_max=min(2, sheet.wrap_lines), symbols=sheet.symbols
        )
        lines += words_lines(instance_unit(instance.number), sheet)
    for line in lines:
        line.truncate(sheet.width)
    return lines


def words_lines(unit: str, sheet: Sheet) -> Lines:
    """What a failed unit said last, as far as whoever looks may read it."""
    words = sheet.last_words.get(unit)
    if words is None:
        return []
    said = [words.why] if words.why else words.lines[-sheet.journal_lines :]
    lines: Lines = []
    for line in said:
        head = Text.assemble(" " * 6, (f"{sheet.symbols.quote} ", STYLES[Level.BAD]))
        text = Text(clean(line, ascii_only=sheet.symbols.ascii_only), QUIET)
        lines += hanging(head, text, sheet.width, lines_max=min(2, sheet.wrap_lines), symbols=sheet.symbols)
    return lines


_STATE_LEVELS = {
    "serving": Level.OK,
    "starting": Level.MOVING,
    "quieting": Level.MOVING,
    "draining": Level.MOVING,
    "stopping": Level.MOVING,
    "stopped": Level.OK,
    "failed": Level.BAD,
    "outdated": Level.MOVING,
    "pinned": Level.OK,
    "undrainable": Level.WARN,
    "unresponsive": Level.BAD,
}
#: States in which nothing works, so that since when says more than how busy.
_IDLE_STATES = ("stopped", "failed", "starting", "unresponsive")
_STATE_CELLS = 8


def _instance_cell(instance: InstanceStatus, digits: int, sheet: Sheet) -> Text:
    level = _STATE_LEVELS.get(instance.state, Level.UNKNOWN)
    symbols = sheet.symbols
    idle = instance.state in _IDLE_STATES or (instance.state == "pinned" and instance.busy_threads is None)
    mark = (symbols.dot, QUIET) if instance.state == "stopped" else sign(level, symbols)
    if instance.state == "pinned":
        mark = (symbols.pin, PIN_STYLE)
    busy = f"{UNKNOWN if instance.busy_threads is None else instance.busy_threads}/{instance.threads}"
    cell = Text.assemble(mark, f" {instance.number:>{digits}} ")
    if sheet.cell_kind == "small":
        calm = level == Level.OK and not idle
        cell.append(fit(busy if calm else instance.state, _STATE_CELLS, symbols))
        return cell
    long = len(instance.state) > _STATE_CELLS  # takes the room of the bar, or of the memory
    state_cells = _STATE_CELLS + (8 if sheet.cell_kind == "wide" else 4) * long
    cell.append(left(instance.state, state_cells, symbols), STYLES[level] if level != Level.OK else "")
    if sheet.cell_kind == "wide" and not long:
        share = (instance.busy_threads or 0) / max(instance.threads, 1)
        blank = idle or instance.busy_threads is None
        if not idle:
            cell.append(" ")
            cell.append_text(Text(" " * 7) if blank else bar(share, 7, "blue", symbols))
    if idle:
        if instance.state_age_seconds is not None:  # systemd forgets a unit that has stopped
            cell.append(f" for {duration(instance.state_age_seconds)}", QUIET)
        return cell
    cell.append(right(busy, 6, symbols))
    if sheet.cell_kind == "wide" or not long:
        cell.append(right(size(instance.resident_bytes), 7 + (sheet.cell_kind == "wide"), symbols), QUIET)
    return cell


def _or_unknown(number: int | None) -> str:
    return UNKNOWN if number is None else str(number)
