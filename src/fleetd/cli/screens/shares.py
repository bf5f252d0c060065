"""Who has what of a limit on connections, as one bar and its legend."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.advice.verdict import Level, binding
from fleetd.cli.terminal.lines import NBSP
from fleetd.cli.terminal.symbols import QUIET, SEGMENT_STYLES, STYLES, Symbols, stacked
from fleetd.core.model.status import ConnectionSourceStatus, Status
from fleetd.words.formatting import count


@dataclass(frozen=True)
class Shares:
    """Together they are the limit, unless claims exceed it; None: unknown."""

    others: int | None
    rest: int  # not surely others', but nothing that growth may take either
    claims: int | None
    headroom: int | None
    reserve: int | None
    open: int | None
    exact: bool = True
    rest_word: str = "perhaps others'"
    claims_word: str = "claims"


def shares_of(source: ConnectionSourceStatus) -> Shares:
    """Of one source."""
    others, claims = source.others_connections, source.claims_connections
    headroom, reserve = source.headroom_connections, source.reserve_connections
    return Shares(
        others=others,
        rest=max(0, source.limit_connections - others - claims - headroom - reserve),
        claims=claims,
        headroom=headroom,
        reserve=reserve,
        open=source.open_connections,
        exact=source.exact,
        rest_word="refused" if source.refused else Shares.rest_word,
        claims_word="pools" if carries_pools(source) else Shares.claims_word,
    )


def carries_pools(source: ConnectionSourceStatus) -> bool:
    """Postgres behind a PgBouncer whose pools it carries whole: their sizes count there, not the workers' claims."""
    return source.name == "postgres" and source.pool_connections is not None


def tightest_shares(status: Status) -> Shares:
    """Of the source that binds, as `fleetctl status` shows it."""
    source = binding(status)
    if source is not None:
        return shares_of(source)
    c = status.connections
    return Shares(
        others=c.others_connections,
        rest=0,
        claims=c.claims_connections,
        headroom=c.headroom_connections,
        reserve=c.reserve_connections,
        open=c.open_connections,
    )


def share_bar(shares: Shares, cells: int, symbols: Symbols) -> Text:
    """Exactly `cells` wide."""
    parts = (shares.others, shares.rest, shares.claims, shares.headroom, shares.reserve)
    return stacked(tuple(max(0, part or 0) for part in parts), cells, symbols)


def share_legend(shares: Shares, symbols: Symbols) -> Text:
    """The bar's segments with their numbers; a part stays on one line."""
    parts = (
        ("others" if shares.exact else f"others{NBSP}{symbols.at_most}", shares.others),
        (shares.rest_word.replace(" ", NBSP), shares.rest),
        (shares.claims_word, shares.claims),
        ("headroom", shares.headroom),
        ("reserve", shares.reserve),
    )
    legend = Text()
    for (name, number), glyph, style in zip(parts, symbols.segments, SEGMENT_STYLES, strict=True):
        if number == 0 and name == parts[1][0]:
            continue
        legend.append(glyph, style)
        legend.append(f"{NBSP}{name}{NBSP}")
        legend.append(count(number), "bold" if number is not None else f"bold {STYLES[Level.UNKNOWN]}")
        legend.append("  ")
    legend.append(f"open{NBSP}{count(shares.open)}", QUIET)
    if not shares.exact:
        legend.append(f"  {symbols.at_most}: GRANT pg_monitor would tell", QUIET)
    return legend
