"""The screen of `fleetctl explain`: for each profile a ladder from what its queues need to what runs."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs
from rich.text import Text

from fleetd.cli.advice.explanation import advice, host_reasons
from fleetd.cli.advice.findings import observes, other_version, stuck
from fleetd.cli.advice.verdict import Level, change_words, clamp_level, late_queues, profile_level, told_for_all
from fleetd.cli.screens.head import finding_lines, origin_lines, would_lines
from fleetd.cli.terminal.lines import Lines, Page, fit, right
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, sign
from fleetd.core.model.status import ClampStatus, ProfileStatus, Status
from fleetd.words.formatting import UNKNOWN, count, duration, sentence

WIDTH_MAX = 120
_NUMBER_CELLS = 7


def explain_screen(status: Status, page: Page, *, profile: str | None = None) -> Lines:
    """The whole screen, of one profile or of all."""
    if profile is not None:
        status = structs.replace(status, profiles=tuple(p for p in status.profiles if p.name == profile))
    status = cleaned(status, ascii_only=page.symbols.ascii_only)
    page = replace(page, width=min(page.width, WIDTH_MAX))
    return page.joined(
        [
            finding_lines([*stuck(status), *other_version(status), *observes(status)], page)
            + origin_lines(status, page),
            *(_ladder(status, p, page) for p in status.profiles),
            _host_lines(status, page),
            would_lines(status, page),
            page.wrap(Text("Next  ", "bold"), sentence(status.next_sentence) or UNKNOWN),
        ]
    )


def _ladder(status: Status, profile: ProfileStatus, page: Page) -> Lines:
    """`9 instances needed`, each clamp as `9→6`, `6 instances admitted`, `6 instances running`."""
    bounds = f"  min {profile.min_instances} max {profile.max_instances}"
    name = Text.assemble((fit(profile.name, 24, page.symbols), "bold"), (bounds, QUIET))
    clamps = [_clamp_lines(status, clamp, page) for clamp in profile.clamps]
    at = len(clamps) if profile.clamps_before_admission is None else profile.clamps_before_admission
    lines = page.item(profile_level(profile, observed=status.mode == "observe"), name)
    lines += _rung(profile.needed_instances, _needed(status, profile), page)
    lines += [line for clamp in clamps[:at] for line in clamp]
    lines += _rung(profile.admitted_instances, Text(_instances(profile.admitted_instances, "admitted"), "bold"), page)
    lines += [line for clamp in clamps[at:] for line in clamp]
    return lines + _rung(profile.running_instances, _running(status, profile), page)


def _instances(number: int | None, what: str) -> str:
    return f"{'instance' if number == 1 else 'instances'} {what}"


def _rung(number: int | None, text: Text, page: Page) -> Lines:
    style = "bold" if number is not None else f"bold {STYLES[Level.UNKNOWN]}"
    head = Text.assemble("    ", (right(count(number), _NUMBER_CELLS, page.symbols), style), "  ")
    return page.wrap(head, text)


def _needed(status: Status, profile: ProfileStatus) -> Text:
    """What is needed, and which of the profile's queues are late, the worst first."""
    if profile.needed_instances is None:
        return Text("instances needed: how long jobs wait is unknown")
    names = {queue.partition(",")[0] for queue in profile.queues}
    late = [
        f"{q.name} waits {duration(q.latency_seconds)} (target {duration(q.target_seconds)})"
        for q in late_queues(status)
        if q.name in names
    ]
    rest = f" and {len(late) - 3} more queues" if len(late) > 3 else ""
    needed = (_instances(profile.needed_instances, "needed"), "bold")
    return Text.assemble(needed, f": {', '.join(late[:3])}{rest}" if late else " by its queues")


def _running(status: Status, profile: ProfileStatus) -> Text:
    """What runs; if not all of it serves, in which states."""
    if profile.running_instances is None:
        return Text("instances running: systemd can't be read", "bold")
    states: dict[str, int] = {}
    for i in status.instances:
        stopped = i.state == "stopped" or (i.state == "pinned" and i.busy_threads is None)
        if i.profile == profile.name and not stopped:
            states[i.state] = states.get(i.state, 0) + 1
    failed = states.pop("failed", 0)  # which run no more
    said = ", ".join(f"{number} {state}" for state, number in states.items())
    running = (_instances(profile.running_instances, "running"), "bold")
    said = f": {said}" if said and set(states) != {"serving"} else ""
    return Text.assemble(running, said, f"; {failed} failed" if failed else "")


def _clamp_lines(status: Status, clamp: ClampStatus, page: Page) -> Lines:
    """From what to what, the code, why, and what to do about it."""
    moved = ""
    before, after = clamp.before_instances, clamp.after_instances
    if before is not None and after is not None and before != after:
        moved = f"{before}{page.symbols.arrow}{after}"
    head = Text(f"{right(moved, _NUMBER_CELLS, page.symbols)}  ", "bold")
    if told_for_all(status, clamp):
        said = f": {change_words(clamp)} (see below)"
        return _reason_lines(clamp_level(clamp), head, clamp.code, said, None, page)
    do = advice(status, clamp.code)
    return _reason_lines(clamp_level(clamp), head, clamp.code, f": {sentence(clamp.sentence)}", do, page)


def _host_lines(status: Status, page: Page) -> Lines:
    """What concerns every profile of this host."""
    reasons = host_reasons(status)
    lines: Lines = [Text("The whole host", "bold")] if reasons else []
    for level, reason in reasons:
        said = f": {sentence(reason.sentence)}"
        lines += _reason_lines(level, Text(), reason.code, said, reason.what_to_do, page)
    return lines


def _reason_lines(level: Level, head: Text, code: str, said: str, do: str | None, page: Page) -> Lines:
    """A sign, `head`, the code and why; below that, if something is wrong, what to do."""
    mark = (page.symbols.dot, QUIET) if level == Level.OK else sign(level, page.symbols)
    head = Text.assemble("  ", mark, " ", head)
    lines = page.wrap(head, Text.assemble((code.replace("_", " "), "bold"), said))
    if do is None or level == Level.OK:
        return lines
    return lines + page.wrap(Text.assemble(" " * head.cell_len, ("do: ", "bold cyan")), do)
