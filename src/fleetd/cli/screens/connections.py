"""The screen of `fleetctl connections`: each limit as a bar with its arithmetic, the tightest first; who has what."""

from __future__ import annotations

from rich.text import Text

from fleetd.cli.advice.findings import connection_findings, stuck
from fleetd.cli.advice.verdict import (
    Finding,
    Level,
    binding,
    connection_level,
    doubt_costs,
    left_connections,
    source_level,
)
from fleetd.cli.screens.claims import claim_lines, consumer_lines, more_lines
from fleetd.cli.screens.shares import carries_pools, share_bar, shares_of, tightest_shares
from fleetd.cli.screens.sheet import LABEL_CELLS, Sheet
from fleetd.cli.screens.status import origin_line
from fleetd.cli.terminal.lines import NBSP, Lines, hanging, left
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, SEGMENT_STYLES, STYLES, Symbols, sign
from fleetd.core.model.status import ConnectionSourceStatus, SourceStatus, Status
from fleetd.words.formatting import CONNECTION_SOURCES, UNKNOWN, capitalised, count, duration, sentence, times

_WIDTH_MAX = 120  # sentences and tables, not bars, are what is read here


def connection_screen(status: Status, *, width: int, symbols: Symbols, clock: str = "") -> Lines:
    """The whole screen as lines of at most `width` cells."""
    status = cleaned(status, ascii_only=symbols.ascii_only)
    sheet = Sheet(width=max(20, min(width, _WIDTH_MAX)), symbols=symbols)
    known = sorted(status.connections.sources, key=lambda source: not source.binds)
    lost = [source for source in status.sources if source.name in CONNECTION_SOURCES and not source.ok]
    blocks = [_head(status, sheet, clock)]
    several = len(known) + len(lost) > 1
    blocks += [source_lines(source, sheet, several) + consumer_lines(source, sheet) for source in known]
    blocks += [_lost_lines(source, sheet) for source in lost]
    if not known and status.connections.limit_connections is not None:
        blocks.append(_summary_lines(status, sheet))
    blocks += [claim_lines(status, sheet), more_lines(status, sheet), _note_lines(status, sheet)]
    blocks.append(_key_lines(known, sheet))
    lines: Lines = []
    for block in blocks:
        lines += [Text(), *block] if lines and block else block
    for line in lines:
        line.truncate(width)
    return lines


def _head(status: Status, sheet: Sheet, clock: str) -> Lines:
    """What is wrong, worst first, then how much is left."""
    wrong = sorted(connection_findings(status), key=lambda finding: -finding.level)
    found = [*stuck(status), *wrong, *_left_over(status)]
    lines: Lines = []
    for finding in found:
        text = Text(finding.sentence, f"bold {STYLES[finding.level]}" if finding is found[0] else "")
        head = Text.assemble(sign(finding.level, sheet.symbols), " ")
        lines += hanging(head, text, sheet.width, lines_max=5, symbols=sheet.symbols)
    return [*lines, origin_line(status, sheet, clock)]


def _left_over(status: Status) -> list[Finding]:
    """How many connections are left where it binds, and whether that is enough for anything."""
    connections, source = status.connections, binding(status)
    left_over, limit = connections.headroom_connections, connections.limit_connections
    if left_over is None or limit is None:
        unsaid = all(s.ok for s in status.sources if s.name in CONNECTION_SOURCES)
        words = "How many connections are left is unknown: nothing grows above min."
        return [Finding(level=Level.UNKNOWN, sentence=words)] if unsaid else []
    who = CONNECTION_SOURCES[source.name] if source is not None else "Postgres"
    said = f"{times(left_over, 'connection is', 'connections are')} left of {who}'s {limit:,}"
    claims, more = connections.claim_per_instance, connections.more_instances
    if claims and left_over < min(claims.values()):
        return [Finding(level=Level.WARN, sentence=f"{said}, too few for one more instance.")]
    level = min(connection_level(status), Level.WARN)
    if more and not any(more.values()):
        return [Finding(level=level, sentence=f"{said}; every profile runs as many instances as it may.")]
    return [Finding(level=level, sentence=f"{said}.")]


def source_lines(source: ConnectionSourceStatus, sheet: Sheet, several: bool) -> Lines:
    """Its bar, its arithmetic, where others come from, and PgBouncer's pool."""
    symbols, level, shares = sheet.symbols, source_level(source), shares_of(source)
    head = _name(source.name, level, sheet)
    tail = Text(f" of {count(source.limit_connections)}")
    tail.append(", binds" if source.binds and several else "", "bold")
    cells = max(4, min(100, sheet.width - head.cell_len - tail.cell_len))
    lines = [Text.assemble(head, share_bar(shares, cells, symbols), tail)]
    rows = [("", _arithmetic(source, symbols)), ("others", _others(source, sheet))]
    if source.name == "pgbouncer" and source.pool_connections is not None:
        rows.append(("pool", _pool(source)))
    if not source.exact:
        hint = "an upper bound: GRANT pg_monitor TO fleetd's role, and others are counted exactly"
        rows.append(("", Text(hint, QUIET)))
    rows.append(
        ("open now", Text(f"{count(source.open_connections)} clients, fleetd's own among them", QUIET))
    )
    for label, text in rows:
        lines += _row(label, text, sheet)
    return lines


def _name(name: str, level: Level, sheet: Sheet) -> Text:
    name = capitalised(CONNECTION_SOURCES[name].removeprefix("the "))
    return Text.assemble(
        sign(level, sheet.symbols), " ", (left(name, LABEL_CELLS - 2, sheet.symbols), "bold")
    )


def _note_lines(status: Status, sheet: Sheet) -> Lines:
    """How to tell others apart, where that is not among what is wrong."""
    doubt = status.connections.unattributable
    if not doubt or doubt_costs(status):
        return []
    text = Text(sentence(capitalised(doubt)), QUIET)
    return hanging(Text("  "), text, sheet.width, lines_max=5, symbols=sheet.symbols)


def _key_lines(sources: list[ConnectionSourceStatus], sheet: Sheet) -> Lines:
    """What the bars' segments are, in their order."""
    rests = {shares.rest_word for shares in map(shares_of, sources) if shares.rest}
    words = ("others", " or ".join(sorted(rests)), "claims", "headroom", "reserve")
    text = Text()
    for word, glyph, style in zip(words, sheet.symbols.segments, SEGMENT_STYLES, strict=True):
        if word and sources:
            text.append(glyph, style).append(NBSP + word.replace(" ", NBSP) + "  ", QUIET)
    return hanging(Text("  "), text, sheet.width, lines_max=3, symbols=sheet.symbols) if sources else []


def _row(label: str, text: Text, sheet: Sheet) -> Lines:
    cells = LABEL_CELLS if sheet.width >= 50 else 4
    head = Text(left(f"  {label}" if cells == LABEL_CELLS else "", cells, sheet.symbols), QUIET)
    if cells != LABEL_CELLS and label:
        text = Text.assemble((f"{label}: ", QUIET), text)
    return hanging(head, text, sheet.width, lines_max=6, symbols=sheet.symbols)


def _arithmetic(source: ConnectionSourceStatus, symbols: Symbols) -> Text:
    """`697 limit − 10 reserve − 160 others − 372 claims = 155 headroom`."""
    over, minus = left_connections(source), f" {symbols.minus}{NBSP}"
    others = "others" if source.exact else f"others{NBSP}at{NBSP}most"
    claims = f"PgBouncer's{NBSP}pools" if carries_pools(source) else "claims"
    terms = (
        (source.limit_connections, "limit"),
        (source.reserve_connections, "reserve"),
        (source.others_connections, others),
        (source.claims_connections, claims),
    )
    text = Text(minus.join(f"{count(number)}{NBSP}{word}" for number, word in terms))
    headroom = f"{count(source.headroom_connections)}{NBSP}headroom"
    if source.refused:
        return text.append(f" ={NBSP}{over:,}, but it ").append("refuses new clients: 0 headroom", "bold red")
    if over < 0:
        text.append(f" ={NBSP}{symbols.minus}{-over:,}: ")
        return text.append(f"{-over:,} too many, fleetd gives way", "bold red")
    if source.headroom_connections < over:
        bound = source.others_bound_connections
        text.append(
            f" ={NBSP}{over:,}; but up to {bound:,} may be others', and growth is held against that: "
        )
    else:
        text.append(f" ={NBSP}")
    return text.append(headroom, "bold")


def _others(source: ConnectionSourceStatus, sheet: Sheet) -> Text:
    """Which of the three counts, and what a rise adds."""
    seen = f"{source.others_seen_connections:,} seen now"
    if source.others_bound_connections > source.others_connections:
        seen += " beyond all our claims"
    peak, declared = source.others_peak_connections, source.others_declared_connections
    parts = [
        (source.others_seen_connections, seen),
        (peak, f"{peak:,} fading peak"),
        (declared, f"{declared:,} declared (+ foreign Sidekiq)" if declared else "nothing declared"),
    ]
    total = source.others_connections
    rise = total - max(number for number, _ in parts)
    text = Text(f"{total:,}: ")
    if rise > 0:
        rise = total - source.others_seen_connections
        text.append(f"{seen}, {rise:,} more soon as they rise", "bold")
        parts = parts[1:]
        text.append(f" ({', '.join(word for _, word in parts)})", QUIET)
        return text
    text.append("the greatest of ")
    winner = max(parts, key=lambda part: part[0])
    for place, part in enumerate(parts):
        text.append(", " if place else "").append(part[1], "bold" if part is winner and total else QUIET)
    return text


def _pool(source: ConnectionSourceStatus) -> Text:
    """PgBouncer's connections to Postgres, and who waits for one."""
    at_work = UNKNOWN if source.active_servers is None else count(source.active_servers)
    text = Text(f"{count(source.pool_connections)} connections to Postgres, {at_work} at work, ")
    if not source.waiting_clients:
        return text.append("no client waits" if source.waiting_clients == 0 else "who waits is unknown")
    waits = times(source.waiting_clients, "client waits", "clients wait")
    return text.append(f"{waits}, the longest for {duration(source.longest_wait_seconds)}", "bold yellow")


def _lost_lines(source: SourceStatus, sheet: Sheet) -> Lines:
    """A source that can't be read; why stands at the top."""
    age = "never read" if source.age_seconds is None else f"last read {duration(source.age_seconds)} ago"
    errors = f", {times(source.errors_total, 'error')}" if source.errors_total else ""
    head = _name(source.name, Level.UNKNOWN, sheet)
    text = Text(f"unknown, {age}{errors}; nothing grows above min", STYLES[Level.UNKNOWN])
    return hanging(head, text, sheet.width, lines_max=3, symbols=sheet.symbols)


def _summary_lines(status: Status, sheet: Sheet) -> Lines:
    """Of a fleetd that tells of one source only."""
    shares, connections = tightest_shares(status), status.connections
    tail = Text(f" of {count(connections.limit_connections)}")
    head = _name("postgres", connection_level(status), sheet)
    cells = max(4, min(100, sheet.width - head.cell_len - tail.cell_len))
    minus = f" {sheet.symbols.minus}{NBSP}"
    terms = (
        (connections.limit_connections, "limit"),
        (connections.reserve_connections, "reserve"),
        (connections.others_connections, "others"),
        (connections.claims_connections, "claims"),
    )
    text = Text(minus.join(f"{count(number)}{NBSP}{word}" for number, word in terms))
    text.append(f" ={NBSP}").append(f"{count(connections.headroom_connections)}{NBSP}headroom", "bold")
    return [Text.assemble(head, share_bar(shares, cells, sheet.symbols), tail), *_row("", text, sheet)]
