"""The part of `fleetctl status` about instances: each profile with its instances, and what people ordered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.advice.verdict import Level, change_words, clamp_level, profile_level, told_for_all
from fleetd.cli.terminal.lines import NBSP, Lines, Page, columns, right
from fleetd.cli.terminal.symbols import PIN_STYLE, QUIET, STYLES, Symbols, bar, sign
from fleetd.core.model.identity import InstanceKey, unit_of
from fleetd.core.model.status import (
    ON_ALL,
    ClampStatus,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    RolloutStatus,
    Status,
)
from fleetd.words.formatting import count, duration, numbers, sentence, size


def profile_lines(
    status: Status, profile: ProfileStatus, page: Page, last_words: Mapping[str, LastWords] | None = None
) -> Lines:
    """How many run, each clamp that changed that number, and the profile's instances. `last_words`: by unit.

    A clamp gets no line of its own if its reason is told for the whole host, or on a dense page if it is fleetd's
    ordinary work. `fleetctl explain` has every reason.
    """
    instances = [instance for instance in status.instances if instance.profile == profile.name]
    level = profile_level(profile, observed=status.mode == "observe")
    short = [c for c in profile.clamps if told_for_all(status, c) or (page.dense and clamp_level(c) == Level.OK)]
    running = f"{count(profile.running_instances)} of {count(profile.admitted_instances)} instances"
    head = Text.assemble((profile.name, "bold"), "  ")
    head.append(running.replace(" ", NBSP), f"bold {STYLES[level]}" if level > Level.OK else "")
    for fact in _facts(profile, instances, short):
        head.append(f", {fact.replace(' ', NBSP)}")
    queues = " ".join(profile.queues)
    if not page.dense or head.cell_len + len(queues) + 4 <= page.width:
        head.append(f"  {queues}", QUIET)
    lines = page.item(level, head)
    for clamp in profile.clamps:
        lines += [] if clamp in short else clamp_lines(clamp, page)
    shown = [i for i in instances if i.state != "stopped" or i.note]
    return lines + instance_lines(shown, page, last_words or {})


def _facts(profile: ProfileStatus, instances: list[InstanceStatus], short: list[ClampStatus]) -> Iterator[str]:
    """More about a profile, the most important first. `short`: clamps without a line of their own."""
    if profile.needed_instances is None:
        yield "need unknown"
    elif profile.needed_instances != profile.admitted_instances:
        yield f"{profile.needed_instances} needed"
    yield from (_short_words(clamp, profile.needed_instances) for clamp in short)
    if profile.serving_instances != profile.running_instances:
        yield f"{profile.serving_instances} serving"
    leaving = sum(1 for i in instances if i.state in ("quieting", "draining", "undrainable", "stopping"))
    if leaving:
        yield f"{leaving} leaving"
    yield f"min {profile.min_instances} max {profile.max_instances}"
    stopped = [i.number for i in instances if i.state == "stopped" and not i.note]
    if stopped:
        yield f"stopped: {numbers(stopped)}"


def _short_words(clamp: ClampStatus, needed_instances: int | None) -> str:
    """Beside what is needed: `3 allowed: paused`, `1 kept: min`."""
    before, after = clamp.before_instances, clamp.after_instances
    words = change_words(clamp)
    if before is not None and after is not None and before == needed_instances != after:
        words = f"{after} {'allowed' if after < before else 'kept'}"
    return f"{words}: {clamp.code.value.replace('_', ' ')}".removeprefix(": ")


def clamp_lines(clamp: ClampStatus, page: Page) -> Lines:
    """From what to what, the code, and why."""
    level = clamp_level(clamp)
    body = Text.assemble((_change(clamp, page.symbols), "bold"), f": {sentence(clamp.sentence)}")
    if level > Level.OK:
        return page.item(level, body, indent=4)
    body.stylize(QUIET)
    return page.wrap(Text(f"    {page.symbols.dot} ", QUIET), body)


def _change(clamp: ClampStatus, symbols: Symbols) -> str:
    """`9→6 connections`; without numbers where they are the same."""
    code = clamp.code.value.replace("_", " ")
    if None in (clamp.before_instances, clamp.after_instances) or clamp.before_instances == clamp.after_instances:
        return code
    return f"{clamp.before_instances}{symbols.arrow}{clamp.after_instances} {code}"


def instance_lines(instances: list[InstanceStatus], page: Page, last_words: Mapping[str, LastWords]) -> Lines:
    """Instances with a note or last words get a line each; the others share lines."""
    noted = [i for i in instances if i.note or unit_of(InstanceKey(i.number)) in last_words]
    digits = max([1, *(len(str(instance.number)) for instance in instances)])
    cells = [_instance_cell(i, digits, page) for i in instances if i not in noted]
    lines = columns(cells, page, indent=2)
    noted_cells = [_instance_cell(i, digits, page) for i in noted]
    cells_max = max([cell.cell_len for cell in noted_cells], default=0)
    for instance, cell in zip(noted, noted_cells, strict=True):
        head = Text.assemble("  ", cell, " " * (cells_max - cell.cell_len + 2))
        lines += page.wrap(head, instance.note) + last_words_lines(
            unit_of(InstanceKey(instance.number)), page, last_words
        )
    return lines


def last_words_lines(unit: str, page: Page, last_words: Mapping[str, LastWords]) -> Lines:
    """What a failed unit wrote last, or why that can't be read. A dense page has only its very last line."""
    words = last_words.get(unit)
    if words is None:
        return []
    said, lines = words.lines if words.why is None else (words.why,), Lines()
    for line in said[-1:] if page.dense else said:
        head = Text.assemble(" " * 6, (f"{page.symbols.mark} ", STYLES[Level.BAD]))
        lines += page.wrap(head, Text(line, QUIET))
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
    "stalled": Level.BAD,
}
#: In these states no job is run, so their age says more than the load.
_IDLE_STATES = ("stopped", "failed", "starting", "unresponsive")
#: A longer state takes the place of the bar.
_STATE_CELLS, _BAR_CELLS = 8, 7


def _instance_cell(instance: InstanceStatus, digits: int, page: Page) -> Text:
    """Sign, number, state and load of an instance. A dense page has only the load if it serves, else only the state."""
    symbols, state, busy_threads = page.symbols, instance.state, instance.busy_threads
    level = _STATE_LEVELS.get(state, Level.UNKNOWN)
    idle = state in _IDLE_STATES or (state == "pinned" and busy_threads is None)
    mark = sign(level, symbols)
    if state in ("stopped", "pinned"):
        mark = (symbols.pin, PIN_STYLE) if state == "pinned" else (symbols.dot, QUIET)
    busy = f"{count(busy_threads)}/{instance.threads}"
    cell = Text.assemble(mark, f" {instance.number:>{digits}} ")
    if page.dense:
        return cell.append(busy if level == Level.OK and not idle else state)
    long = len(state) > _STATE_CELLS
    cells = _STATE_CELLS + (_BAR_CELLS + 1) * long
    cell.append(f"{state:<{cells}}", STYLES[level] if level != Level.OK else "")
    if idle:
        age = instance.state_age_seconds  # None: systemd forgets a unit that has stopped
        return cell if age is None else cell.append(f" for {duration(age)}", QUIET)
    if not long:
        known = bar((busy_threads or 0) / max(instance.threads, 1), _BAR_CELLS, "blue", symbols)
        cell.append(" ").append_text(known if busy_threads is not None else Text(" " * _BAR_CELLS))
    cell.append(right(busy, 6, symbols))
    return cell.append(right(size(instance.resident_bytes), 8, symbols), QUIET)


def people_lines(status: Status, page: Page) -> Lines:
    """The rollout under way, then each order with the time it has left.

    A pause is left out if it is told as a hold. A dense page has all orders in a row, without the pins that are told as
    notes of instances.
    """
    held, rollout = {hold.kind for hold in status.holds}, status.rollout
    orders = [order for order in status.overrides if order.kind not in held]
    lines = [] if rollout is None or rollout.ended == "given_up" else _rollout_lines(rollout, page)
    if page.dense:
        noted = {f"@{instance.number}" for instance in status.instances if instance.note}
        row = Text("; ").join(_order(o) for o in orders if o.kind != "pin" or o.what not in noted)
        return lines + (page.labelled("Orders", row) if row else [])
    for order in orders:
        body = _order(order).append(f"{NBSP} {_ended_by(order, status).replace(' ', NBSP)}", QUIET)
        lines += page.labelled("Orders" if order is orders[0] else "", body)
    return lines


def _rollout_lines(rollout: RolloutStatus, page: Page) -> Lines:
    """How far a rollout is and what it waits for; or that it is done. One that was given up is among the findings."""
    label = page.label("Restart" if rollout.cause == "restart" else "Replacing")
    done = f"{rollout.done_instances} of {rollout.total_instances}"
    if rollout.ended:
        head = Text.assemble(label, sign(Level.OK, page.symbols), " ")
        said = sentence(f"{done} replaced: {rollout.sentence}".rstrip(": "))
        return page.wrap(head, Text(said, QUIET))
    head = label
    if not page.dense:
        share = rollout.done_instances / max(rollout.total_instances, 1)
        head = Text.assemble(label, bar(share, min(20, page.width // 8), "cyan", page.symbols), " ")
    at = f", at {rollout.current}" if rollout.current else ""
    return page.wrap(head, f"{done}{at}: {sentence(rollout.sentence) or 'being replaced.'}")


def _order(order: OverrideStatus) -> Text:
    said = f"{order.sentence.rstrip('.')}, {duration(order.seconds_left)} left"
    return Text.assemble((order.what, "bold"), f" {said}")


def _ended_by(order: OverrideStatus, status: Status) -> str:
    """The command that ends an order early. With several hosts a count of this one alone is ended for this one."""
    if order.kind == "pin":
        return f"fleetctl release {order.what.removeprefix('@')}"
    if order.kind == "pause":
        return "fleetctl resume"
    several = status.fleet is not None and len(status.fleet.hosts) > 1
    alone = several and not order.what.endswith(ON_ALL)
    return f"fleetctl set {order.what.removesuffix(ON_ALL)} auto{f' --host {status.host}' if alone else ''}"
