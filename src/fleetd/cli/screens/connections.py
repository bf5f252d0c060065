"""The screen of `fleetctl connections`: each limit as a bar with its arithmetic, the tightest first, and who has what.

`fleetctl status` shows the limit that binds.
"""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text

from fleetd.cli.advice.findings import connection_findings, other_version, stuck
from fleetd.cli.advice.verdict import (
    Finding,
    Level,
    binding,
    connection_level,
    doubt_costs,
    left_connections,
    source_level,
)
from fleetd.cli.screens.head import finding_lines, origin_lines
from fleetd.cli.terminal.lines import NBSP, Column, Lines, Page, Row, table
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.cli.terminal.symbols import QUIET, SEGMENT_STYLES, STYLES, Symbols, sign, stacked
from fleetd.core.model.status import ConnectionSourceStatus, SourceStatus, Status
from fleetd.words.formatting import (
    CONNECTION_SOURCES,
    UNKNOWN,
    capitalised,
    count,
    duration,
    limit_source,
    sentence,
    times,
)

WIDTH_MAX = 120  # sentences in longer lines are hard to read
_BAR_CELLS_LEAST, _BAR_CELLS_MAX = 20, 100


def connection_screen(status: Status, page: Page, *, clock: str | None = None) -> Lines:
    """The whole screen. `clock`: the time, if it is drawn again and again."""
    status = cleaned(status, ascii_only=page.symbols.ascii_only)
    page = replace(page, width=min(page.width, WIDTH_MAX))
    known = sorted(status.connections.sources, key=lambda source: not source.binds)
    lost = [source for source in status.sources if source.name in CONNECTION_SOURCES and not source.ok]
    several = len(known) + len(lost) > 1
    return page.joined(
        [
            _head(status, page, clock),
            *(_source_lines(source, page, several) + _consumer_lines(source, page) for source in known),
            *(_lost_lines(source, page) for source in lost),
            _claim_lines(status, page),
            _more_lines(status, page),
            _key_lines(known, page),
        ]
    )


def limit_lines(status: Status, page: Page) -> Lines:
    """The limit that binds, as a bar and in numbers, for `fleetctl status`."""
    source, level, label = binding(status), connection_level(status), page.label("Connections")
    if source is None or level == Level.UNKNOWN:
        why = [sentence(s.why) for s in status.sources if s.name in CONNECTION_SOURCES and s.why]
        claims = count(status.connections.claims_connections)
        said = f"unknown: {' '.join(why) or 'no reading.'} Our instances claim {claims}."
        return page.wrap(Text.assemble(label, sign(Level.UNKNOWN, page.symbols), " "), said)
    owner = "" if source.name == "postgres" else f"{CONNECTION_SOURCES[source.name]}'s "
    limit, where = f" of {owner}{count(source.limit_connections)}", _in_brackets(source, page.symbols)
    beside = label.cell_len + len(limit + where) + 2 + _BAR_CELLS_LEAST <= page.width
    tail = Text.assemble(limit, where if beside else "", " ", sign(level, page.symbols))
    legend = _legend(source, page)
    if where and not beside:
        legend.append(f"  limit{NBSP}{count(source.limit_connections)}{where}", QUIET)
    return [_bar_line(source, label, tail, page), *page.wrap(" " * label.cell_len, legend)]


def _bar_line(source: ConnectionSourceStatus, head: Text, tail: Text, page: Page) -> Text:
    parts = tuple(connections for _, connections in _parts(source))
    cells = max(4, min(_BAR_CELLS_MAX, page.width - head.cell_len - tail.cell_len))
    return Text.assemble(head, stacked(parts, cells, page.symbols), tail)


def _parts(source: ConnectionSourceStatus) -> tuple[tuple[str, int], ...]:
    """The parts of the limit, in the order of the bar's segments."""
    others, claims = source.others_connections, source.claims_connections
    headroom, reserve = source.headroom_connections, source.reserve_connections
    withheld = max(0, source.limit_connections - others - claims - headroom - reserve)
    return (
        ("others" if source.exact else "others at most", others),
        ("refused" if source.refused else "perhaps others'", withheld),
        ("pools" if _carries_pools(source) else "claims", claims),
        ("headroom", headroom),
        ("reserve", reserve),
    )


def _carries_pools(source: ConnectionSourceStatus) -> bool:
    """Whether this is Postgres behind a PgBouncer: then its pools are counted there, and not the workers' claims."""
    return source.name == "postgres" and source.pool_connections is not None


def _legend(source: ConnectionSourceStatus, page: Page) -> Text:
    legend = Text()
    for i, (name, connections) in enumerate(_parts(source)):
        if connections or i != 1:  # the second segment is seldom there
            legend.append_text(_segment(i, name, page))
            legend.append(f"{NBSP}{count(connections)}", "bold").append("  ")
    legend.append(f"open{NBSP}{count(source.open_connections)}", QUIET)
    if not source.exact:
        legend.append("  GRANT pg_monitor TO fleetd's role for an exact count", QUIET)
    return legend


def _segment(i: int, name: str, page: Page) -> Text:
    return Text.assemble((page.symbols.segments[i], SEGMENT_STYLES[i]), f" {name}".replace(" ", NBSP))


def _head(status: Status, page: Page, clock: str | None) -> Lines:
    """What is wrong, worst first; how many are left; which fleetd says so."""
    found = [*stuck(status), *connection_findings(status), *_headroom(status, page), *other_version(status)]
    lines = finding_lines(found, page)
    doubt = status.connections.unattributable
    if doubt and not doubt_costs(status):  # not among what is wrong, but worth a note
        lines += page.wrap("  ", Text(sentence(capitalised(doubt)), QUIET))
    return lines + origin_lines(status, page, clock)


def _headroom(status: Status, page: Page) -> list[Finding]:
    """How many connections the source that binds has left, and whether one more instance fits."""
    connections, source = status.connections, binding(status)
    if source is None:
        lost = any(not s.ok for s in status.sources if s.name in CONNECTION_SOURCES)
        words = "How many connections are left is unknown: nothing grows above min."
        return [] if lost else [Finding(Level.UNKNOWN, words)]
    headroom = source.headroom_connections
    said = times(headroom, "connection is", "connections are")
    said += f" left of {CONNECTION_SOURCES[source.name]}'s {source.limit_connections:,}"
    said += _in_brackets(source, page.symbols)
    claims, more = connections.claim_per_instance, connections.more_instances
    level = min(connection_level(status), Level.WARN)
    if claims and headroom < min(claims.values()):
        return [Finding(Level.WARN, f"{said}, too few for one more instance.")]
    if more and not any(more.values()):
        return [Finding(level, f"{said}; every profile runs as many instances as it may.")]
    return [Finding(level, f"{said}.")]


def _source_lines(source: ConnectionSourceStatus, page: Page, several: bool) -> Lines:
    """The bar of one source, its arithmetic, where the number of others comes from, and PgBouncer's pool."""
    tail = Text(f" of {count(source.limit_connections)}")
    tail.append(", binds" if source.binds and several else "", "bold")
    lines = [_bar_line(source, _name(source.name, source_level(source), page), tail, page)]
    lines += _row("", _arithmetic(source, page.symbols), page)
    lines += _row("others", _others(source), page)
    if source.name == "pgbouncer" and source.pool_connections is not None:
        lines += _row("pool", _pool(source), page)
    if not source.exact:
        hint = "at most: GRANT pg_monitor TO fleetd's role, and others are counted exactly"
        lines += _row("", Text(hint, QUIET), page)
    clients = f"{times(source.open_connections, 'client')}, fleetd's own among them"
    return lines + _row("open now", Text(clients, QUIET), page)


def _name(name: str, level: Level, page: Page) -> Text:
    label = page.label(capitalised(CONNECTION_SOURCES[name].removeprefix("the ")))
    label.right_crop(2)
    return Text.assemble(sign(level, page.symbols), " ", label)


def _row(label: str, text: Text, page: Page) -> Lines:
    if page.width >= 50:
        head = page.label(f"  {label}")
        head.stylize(f"not bold {QUIET}")
        return page.wrap(head, text)
    return page.wrap("    ", Text.assemble((f"{label}: " if label else "", QUIET), text))


def _in_brackets(source: ConnectionSourceStatus, symbols: Symbols) -> str:
    """` (100 − 3 reserved for superusers)`: where a limit comes from, if its number does not say that."""
    where = limit_source(source.limit_set, symbols.minus)
    return f" ({where})" if where else ""


def _arithmetic(source: ConnectionSourceStatus, symbols: Symbols) -> Text:
    """`697 limit − 10 reserve − 160 others − 372 claims = 155 headroom`."""
    left_over, headroom = left_connections(source), source.headroom_connections
    parts = (
        (source.limit_connections, "limit"),
        (source.reserve_connections, "reserve"),
        (source.others_connections, "others" if source.exact else "others at most"),
        (source.claims_connections, "PgBouncer's pools" if _carries_pools(source) else "claims"),
    )
    minus = f" {symbols.minus}{NBSP}"
    terms = [f"{count(number)} {word}".replace(" ", NBSP) for number, word in parts]
    terms[0] += _in_brackets(source, symbols)
    text = Text(minus.join(terms))
    text.append(f" ={NBSP}")
    if source.refused:
        return text.append(f"{left_over:,}, but it ").append("refuses new clients: 0 headroom", "bold red")
    if left_over < 0:
        text.append(f"{symbols.minus}{-left_over:,}: ")
        return text.append(f"{-left_over:,} too many", "bold red")
    if headroom < left_over:
        bound = source.others_bound_connections
        text.append(f"{left_over:,}; but up to {bound:,} may be others', which growth leaves alone: ")
    return text.append(f"{count(headroom)}{NBSP}headroom", "bold")


def _others(source: ConnectionSourceStatus) -> Text:
    """Where the number of others comes from: what is seen now and a rise, a fading peak, or a declaration."""
    seen = f"{source.others_seen_connections:,} seen now"
    if source.others_bound_connections > source.others_connections:
        seen += " beyond all our claims"
    peak, declared = source.others_peak_connections, source.others_declared_connections
    told = [
        (source.others_seen_connections, seen),
        (peak, f"{peak:,} fading peak"),
        (declared, f"{declared:,} declared (foreign Sidekiq included)" if declared else "nothing declared"),
    ]
    total = source.others_connections
    text = Text(f"{total:,}: ")
    if total > max(number for number, _ in told):
        rise = total - source.others_seen_connections
        text.append(f"{seen}, {rise:,} more soon as they rise", "bold")
        return text.append(f" ({', '.join(word for _, word in told[1:])})", QUIET)
    winner = max(told, key=lambda part: part[0])
    words = [Text(part[1], "bold" if part is winner and total else QUIET) for part in told]
    return text.append("the greatest of ").append_text(Text(", ").join(words))


def _pool(source: ConnectionSourceStatus) -> Text:
    """PgBouncer's connections to Postgres, and the clients that wait for one."""
    at_work = UNKNOWN if source.active_servers is None else count(source.active_servers)
    text = Text(f"{count(source.pool_connections)} connections to Postgres, {at_work} at work, ")
    if not source.waiting_clients:
        return text.append("no client waits" if source.waiting_clients == 0 else "who waits is unknown")
    waits = times(source.waiting_clients, "client waits", "clients wait")
    return text.append(f"{waits}, the longest for {duration(source.longest_wait_seconds)}", "bold yellow")


def _consumer_lines(source: ConnectionSourceStatus, page: Page) -> Lines:
    """Who the others of one source are: what is seen of each, and what is declared."""
    if not source.consumers:
        return []
    title = "CLIENTS, OURS AMONG THEM" if source.name == "pgbouncer" else "OTHERS"
    nothing = page.symbols.minus
    rows = []
    for consumer in source.consumers:
        numbers = (consumer.observed_connections, consumer.declared_connections)
        rows.append([f"  {consumer.name}", *(nothing if n is None else count(n) for n in numbers)])
    columns = (Column(f"  {title}", left=True, cells_min=10), Column("SEEN"), Column("DECLARED"))
    return table(columns, rows, page)


def _lost_lines(source: SourceStatus, page: Page) -> Lines:
    """A source that can't be read. The reason is among what is wrong."""
    age = "never read" if source.age_seconds is None else f"last read {duration(source.age_seconds)} ago"
    errors = f", {times(source.errors_total, 'error')}" if source.errors_total else ""
    text = Text(f"unknown, {age}{errors}; nothing grows above min", STYLES[Level.UNKNOWN])
    return page.wrap(_name(source.name, Level.UNKNOWN, page), text)


def _claim_lines(status: Status, page: Page) -> Lines:
    """What our instances may open, wherever they run."""
    claims = status.connections.claims
    if not claims:
        return []
    rows: list[Row] = []
    for claim in claims:
        host = {"": "unknown", "more": "other hosts"}.get(claim.host, claim.host)
        numbers = (claim.instances, claim.connections, claim.connections / max(claim.instances, 1))
        left_over = "" if claim.configured else ", left over"
        rows.append([host, f"{claim.profile or 'its own'}{left_over}", *map(count, numbers)])
    instances, connections = sum(c.instances for c in claims), sum(c.connections for c in claims)
    total = [Text(text, "bold") for text in ("all", "", count(instances), count(connections), "")]
    columns = (
        Column("HOST", left=True, cells_min=6),
        Column("PROFILE", left=True, cells_min=7),
        Column("INSTANCES"),
        Column("CLAIMS"),
        Column("EACH"),
    )
    return table(columns, [*rows, total], page)


def _more_lines(status: Status, page: Page) -> Lines:
    """`Room for 2 more default-first (62 each) or …`."""
    connections = status.connections
    headroom, more = connections.headroom_connections, connections.more_instances
    if headroom is None or not more:
        return []
    if not any(more.values()):
        each = ", ".join(f"{profile} {claim}" for profile, claim in connections.claim_per_instance.items())
        return page.wrap("  ", f"One more instance claims: {each}.")
    words = []
    for profile, instances in more.items():
        claim = connections.claim_per_instance.get(profile, 0)
        at_max = ", at its max" if claim and headroom // claim > instances else ""
        word = Text(f"{instances or 'no'} more {profile}", "bold" if instances else "")
        words.append(word.append(f" ({claim} each{at_max})" if claim else "", f"not bold {QUIET}"))
    return page.wrap("  ", Text.assemble("Room for ", Text(" or ").join(words), "."))


def _key_lines(sources: list[ConnectionSourceStatus], page: Page) -> Lines:
    """What the segments of the bars mean."""
    withheld = sorted({parts[1][0] for parts in map(_parts, sources) if parts[1][1]})
    names = ("others", " or ".join(withheld), "claims", "headroom", "reserve")
    key = Text("  ").join(_segment(i, name, page) for i, name in enumerate(names) if name)
    return page.wrap("  ", key) if sources else []
