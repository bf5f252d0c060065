"""What people ordered and fleetd keeps or carries out: the replacement under way, pins, counts that were set."""

from __future__ import annotations

from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.screens.sheet import Sheet
from fleetd.cli.terminal.lines import Lines, fit, hanging, left
from fleetd.cli.terminal.symbols import QUIET, STYLES, bar, sign
from fleetd.core.model.status import OverrideStatus, RolloutStatus, Status
from fleetd.words.formatting import duration, sentence


def people_lines(status: Status, sheet: Sheet) -> Lines:
    """The roll first, for it moves; then each order with the time it has left. A pause stands at the top."""
    roll = status.rollout
    told = roll is None or (roll.ended == "given_up" and not sheet.blank_lines)  # why is among what is wrong
    lines = [] if roll is None or told else roll_lines(roll, sheet)
    told_above = {"pause"} if any(hold.kind == "pause" for hold in status.holds) else set()
    orders = [order for order in status.overrides if order.kind not in told_above]
    if sheet.blank_lines:
        return lines + _order_rows(orders, sheet)
    noted = {f"@{instance.number}" for instance in status.instances if instance.note}
    return lines + _orders_in_a_row([o for o in orders if o.kind != "pin" or o.what not in noted], sheet)


def roll_lines(roll: RolloutStatus, sheet: Sheet) -> Lines:
    """How far it is and what it waits for; for an hour, how it ended."""
    label = sheet.label("Restart" if roll.cause == "restart" else "Replacing")
    far = f"{roll.done_instances} of {roll.total_instances}"
    if roll.ended == "given_up":
        return [Text.assemble(label, sign(Level.WARN, sheet.symbols), f" given up at {far}")]
    if roll.ended:
        head = Text.assemble(label, sign(Level.OK, sheet.symbols), " ")
        text = Text(f"{far} replaced. {sentence(roll.sentence)}".rstrip(), QUIET)
        return hanging(head, text, sheet.width, lines_max=1, symbols=sheet.symbols)
    cells = max(6, min(20, sheet.width // 8))
    share = roll.done_instances / max(roll.total_instances, 1)
    head = Text.assemble(label, bar(share, cells, STYLES[Level.MOVING], sheet.symbols), f" {far}  ")
    said = sentence(roll.sentence)
    if roll.current and roll.current not in said:
        said = f"{roll.current}: {said or 'is being replaced.'}"
    return hanging(head, said, sheet.width, lines_max=min(3, sheet.wrap_lines), symbols=sheet.symbols)


def _order_rows(orders: list[OverrideStatus], sheet: Sheet) -> Lines:
    lines: Lines = []
    label = sheet.label("Orders")
    cells = min(max([5, *(len(order.what) for order in orders)]), 20)
    for order in orders:
        head = Text.assemble(label, (left(order.what, cells, sheet.symbols), "bold"), "  ")
        body = Text(f"{order.sentence.rstrip('.')}, {_left(order)}")
        end = _ended_by(order)
        if head.cell_len + body.cell_len + len(end) + 2 <= sheet.width:
            body.append(f"  {end}", QUIET)
        lines += hanging(head, body, sheet.width, lines_max=2, symbols=sheet.symbols)
        label = Text(" " * label.cell_len)
    return lines


def _orders_in_a_row(orders: list[OverrideStatus], sheet: Sheet) -> Lines:
    if not orders:
        return []
    text = Text()
    for order in orders:
        text.append("; " if text.plain else "")
        text.append(fit(order.what, 20, sheet.symbols), "bold")
        text.append(f" {order.sentence.rstrip('.')}, {_left(order)}")
    return hanging(sheet.label("Orders"), text, sheet.width, lines_max=4, symbols=sheet.symbols)


def _left(order: OverrideStatus) -> str:
    return f"{duration(order.seconds_left)} left"


def _ended_by(order: OverrideStatus) -> str:
    """The command that ends it before its time."""
    if order.kind == "pin":
        return f"fleetctl release {order.what.removeprefix('@')}"
    return "fleetctl resume" if order.kind == "pause" else f"fleetctl set {order.what} auto"
