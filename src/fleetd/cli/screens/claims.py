"""Who has the connections: others by name, ours by host and profile, and what the headroom would buy."""

from __future__ import annotations

from rich.text import Text

from fleetd.cli.screens.sheet import Sheet
from fleetd.cli.terminal.lines import Lines, hanging, left, right
from fleetd.cli.terminal.symbols import QUIET
from fleetd.core.model.status import ClaimStatus, ConnectionSourceStatus, Status
from fleetd.words.formatting import count, times

CONSUMERS_MAX = 12
CLAIMS_MAX = 40


def consumer_lines(source: ConnectionSourceStatus, sheet: Sheet) -> Lines:
    """Others of one source: what is seen of each, and what is declared."""
    if not source.consumers:
        return []
    symbols = sheet.symbols
    shown, rest = source.consumers[:CONSUMERS_MAX], source.consumers[CONSUMERS_MAX:]
    cells = min(max(len(consumer.name) for consumer in shown), 60)
    cells = max(8, min(max(cells, 30), sheet.width - 4 - 18))
    title = "CLIENTS, OURS AMONG THEM" if source.name == "pgbouncer" else "OTHERS"
    head = left(title, cells, symbols) + right("SEEN", 8, symbols) + right("DECLARED", 10, symbols)
    lines = [Text("    " + head, f"bold {QUIET}")]
    for consumer in shown:
        line = Text("    " + left(consumer.name, cells, symbols))
        for number, room in ((consumer.observed_connections, 8), (consumer.declared_connections, 10)):
            line.append(
                right(symbols.minus if number is None else count(number), room, symbols),
                "" if number else QUIET,
            )
        lines.append(line)
    if rest:
        lines.append(Text(f"    and {len(rest)} more", QUIET))
    return lines


def claim_lines(status: Status, sheet: Sheet) -> Lines:
    """What our instances may open, wherever they run."""
    claims = status.connections.claims
    if not claims:
        return []
    symbols = sheet.symbols
    narrow = sheet.width < 70
    host_cells = 10 if narrow else min(max([14, *(len(claim.host) for claim in claims)]), 30)
    name_cells = 13 if narrow else min(max([16, *(len(claim.profile) for claim in claims)]), 30)
    widths = (6, 7, 6) if narrow else (11, 13, 7)
    words = ("RUN", "CLAIM", "EACH") if narrow else ("INSTANCES", "CONNECTIONS", "EACH")
    head = "  " + left("CLAIMS ON" if narrow else "CLAIMS ON HOST", host_cells + 2, symbols)
    head += left("PROFILE", name_cells, symbols)
    head += "".join(right(word, room, symbols) for word, room in zip(words, widths, strict=True))
    lines = [Text(head, f"bold {QUIET}")]
    for claim in claims[:CLAIMS_MAX]:
        line = Text("  " + left(_host(claim), host_cells + 2, symbols))
        line.append(left(claim.profile or "its own", name_cells, symbols), "" if claim.profile else QUIET)
        each = claim.connections / claim.instances if claim.instances else None
        for number, room in zip((claim.instances, claim.connections, each), widths, strict=True):
            line.append(right(count(number), room, symbols))
        lines.append(line)
    if len(claims) > CLAIMS_MAX:
        lines.append(Text(f"  and {len(claims) - CLAIMS_MAX} more rows", QUIET))
    instances = sum(claim.instances for claim in claims)
    total = "  " + left("all", host_cells + 2 + name_cells, symbols)
    total += right(count(instances), widths[0], symbols)
    total += right(count(sum(claim.connections for claim in claims)), widths[1], symbols)
    return [*lines, Text(total, "bold")]


def _host(claim: ClaimStatus) -> str:
    return {"": "unknown", "more": "other hosts"}.get(claim.host, claim.host)


def more_lines(status: Status, sheet: Sheet) -> Lines:
    """`155 headroom buys 2 more default-first (62 each), or …`; what a maximum withholds is said so."""
    connections = status.connections
    headroom, more = connections.headroom_connections, connections.more_instances
    if headroom is None or not more:
        return []
    if not any(more.values()):
        each = ", ".join(f"{profile} {claim}" for profile, claim in connections.claim_per_instance.items())
        words = f"One more instance claims: {each}."
        return hanging(Text("  "), words, sheet.width, lines_max=6, symbols=sheet.symbols)
    text = Text(f"{times(headroom, 'connection buys', 'connections buy')} ")
    for place, (profile, instances) in enumerate(more.items()):
        claim = connections.claim_per_instance.get(profile, 0)
        text.append(" or " if place else "")
        text.append(f"{instances or 'no'} more {profile}", "bold" if instances else "")
        withheld = bool(claim) and headroom // claim > instances
        why = "at its max" if withheld else ""
        text.append(f" ({claim} each{', ' + why if why else ''})" if claim else "", QUIET)
    text.append(".")
    return hanging(Text("  "), text, sheet.width, lines_max=6, symbols=sheet.symbols)
