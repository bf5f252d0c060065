"""The screen of `fleetctl hosts`: every host of the fleet in a line, and people's orders to them."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs
from rich.text import Text

from fleetd.cli.advice.verdict import LATE_SECONDS, LOST_SECONDS, Level, is_silent
from fleetd.cli.terminal.lines import Column, Lines, Page, table
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, STYLES, sign
from fleetd.core.model.hosts import FleetHosts, HostOfFleet, OrderOfFleet
from fleetd.words.formatting import UNKNOWN, capitalised, count, duration, sentence, times
from fleetd.words.sharing import code_words, restart_words, untold_words

WIDTH_MAX = 140

_COLUMNS = (
    Column("HOST", left=True, cells_min=8),
    Column("SEEN"),
    Column("RUN"),
    Column("CONN"),
    Column("CORES"),
    Column("MASTODON", left=True, cells_min=6),
    Column("FLEETD", left=True, cells_min=5),
    Column("", left=True, cells_min=12),
)


def hosts_screen(fleet: FleetHosts, page: Page) -> Lines:
    """The whole screen."""
    fleet = cleaned(fleet, ascii_only=page.symbols.ascii_only)
    page = replace(page, width=min(page.width, WIDTH_MAX))
    return page.joined([_head_lines(fleet, page), host_lines(fleet, page), _order_lines(fleet, page)])


def host_lines(fleet: FleetHosts, page: Page) -> Lines:
    """The table. CONN: of the source of which the host's workers may open most."""
    rows = []
    for host in fleet.hosts:
        level = host_level(host)
        rows.append(
            (
                Text.assemble(sign(level, page.symbols), " ", (host.host, "bold" if host.host == fleet.host else "")),
                Text(_seen(host), STYLES[level] if level > Level.MOVING else ""),
                count(host.instances),
                count(host.claims_connections),
                count(host.cores),
                host.mastodon or UNKNOWN,
                host.fleetd or UNKNOWN,
                ", ".join(_states(host)),
            )
        )
    return table(_COLUMNS, rows, page)


def host_level(host: HostOfFleet) -> Level:
    """How a host is."""
    if host.gone:
        return Level.MOVING
    if host.silent_seconds is None:
        return Level.UNKNOWN
    if is_silent(host, LOST_SECONDS):
        return Level.BAD
    if is_silent(host, LATE_SECONDS) or host.held:
        return Level.WARN
    return Level.MOVING if host.maintenance else Level.OK


def _seen(host: HostOfFleet) -> str:
    if host.silent_seconds is None:
        return UNKNOWN
    return f"{duration(host.silent_seconds)} ago" if is_silent(host, LATE_SECONDS) else "now"


def _is_empty(host: HostOfFleet) -> bool:
    """Whether nothing runs there any more. What drains is not counted as an instance, but keeps its connections."""
    return not (host.instances or host.scheduler or host.claims_connections)


def _states(host: HostOfFleet) -> list[str]:
    found = []
    if host.gone:
        found.append("gone")
    elif is_silent(host, LOST_SECONDS):
        found.append("lost")
    if host.leads:
        found.append("leads")
    if host.scheduler:
        found.append("scheduler")
    if host.maintenance:
        found.append("in maintenance, empty" if _is_empty(host) else "in maintenance")
    if host.held and not (host.maintenance and host.held == "maintenance"):
        found.append(code_words(host.held))
    return found


def _head_lines(fleet: FleetHosts, page: Page) -> Lines:
    lines: Lines = []
    if fleet.alone:
        said = f'{fleet.host} is alone: fleet.ledger = "local", so it shares nothing with other hosts.'
        return page.item(Level.OK, Text(said, "bold"))
    if fleet.problem:
        said = f"What other hosts do is unknown: {fleet.problem}"
        return page.item(Level.UNKNOWN, Text(sentence(said), f"bold {STYLES[Level.UNKNOWN]}"))
    there = sum(1 for host in fleet.hosts if not host.gone)
    leads = f"{fleet.leader} leads" if fleet.leader else "no host leads"
    scheduler = f"the scheduler is on {fleet.scheduler_host}" if fleet.scheduler_host else "no host has the scheduler"
    lines += page.item(Level.OK, Text(f"{times(there, 'host')}; {leads}, {scheduler}.", "bold"))
    lines += _silent_lines(fleet, page)
    if fleet.gathering is not None:
        waits = f" of {', '.join(fleet.gathering)}" if fleet.gathering else ""
        said = f"Every host is asked again what it runs, so nothing grows beyond min: the answer{waits} is waited for."
        lines += page.item(Level.WARN, said)
    if fleet.untold:
        lines += page.item(Level.WARN, untold_words(fleet.untold))
    return lines


def _silent_lines(fleet: FleetHosts, page: Page) -> Lines:
    """Of which hosts nothing is heard, what may be down, and what to do."""
    silent = [h for h in fleet.hosts if not h.gone and is_silent(h, LATE_SECONDS)]
    if not silent:
        return []
    said = ", ".join(f"{h.host} for {duration(h.silent_seconds or 0.0)}" for h in silent)
    lost = [h.host for h in silent if host_level(h) == Level.BAD]
    lines = page.item(
        Level.BAD if lost else Level.WARN,
        f"Not heard of: {said}. Its fleetd is down, or cut off from Redis, or the whole host is; what it runs is as it "
        "told last.",
    )
    if lost:
        said = f"For one that is gone for good: fleetctl hosts forget {lost[0]}"
        lines += page.wrap("  ", Text(said, QUIET))
    return lines


def _order_lines(fleet: FleetHosts, page: Page) -> Lines:
    lines: Lines = []
    for order in fleet.orders:
        where = order.host or "the whole fleet"
        if order.kind == "restart":
            said, level = f"{where}: {order.sentence}; {_restart_said(order, fleet)}", Level.MOVING
        else:
            said, level = (
                f"{where}: {order.sentence}; {duration(order.seconds_left)} left, {_ends(order)} ends it",
                Level.WARN,
            )
        lines += page.item(level, sentence(capitalised(said) if not order.host else said))
    return lines


def _ends(order: OrderOfFleet) -> str:
    """The command that ends an order early."""
    if order.kind == "maintenance":
        return f"fleetctl maintenance {order.host} --end"
    command = f"set {order.profile} auto" if order.kind == "set" else "resume"
    return f"fleetctl {command}{f' --host {order.host}' if order.host else ''}"


def _restart_said(order: OrderOfFleet, fleet: FleetHosts) -> str:
    found = next((r for r in fleet.restarts if r.host == order.host and r.profile == order.profile), None)
    return "fleetctl pause holds it" if found is None else restart_words(found)


def maintenance_screen(fleet: FleetHosts, page: Page) -> Lines:
    """The hosts that are in maintenance."""
    fleet = cleaned(fleet, ascii_only=page.symbols.ascii_only)
    page = replace(page, width=min(page.width, WIDTH_MAX))
    names = {order.host for order in fleet.orders if order.kind == "maintenance"}
    if fleet.problem or not names:
        nothing = page.item(Level.OK, "No host is in maintenance.")
        return _head_lines(fleet, page) if fleet.problem or fleet.alone else nothing
    shown = tuple(host for host in fleet.hosts if host.host in names)
    orders = tuple(order for order in fleet.orders if order.kind == "maintenance")
    fleet = structs.replace(fleet, hosts=shown, orders=orders)
    return page.joined([host_lines(fleet, page), _order_lines(fleet, page)])
