"""The hosts of a fleet as the ledger in Redis has them; this one as it is configured, since that is to be looked at."""

from __future__ import annotations

from msgspec import structs

from fleetd import __version__
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.model.facts import HostFacts, Value
from fleetd.core.model.policy_tables import Policy
from fleetd.core.sharing.orders.situation import beats
from fleetd.core.sharing.report import HostReport, read


class Member(Value, frozen=True, kw_only=True):
    """One host that is not gone. None and "": it told nothing that this version can read."""

    host: str
    own: bool
    silent_seconds: float
    silent: bool = False  # its fleetd is down, or can't reach Redis; of this host other checks say so
    report: HostReport | None = None
    place: str | None = None  # of the scheduler
    takeover_seconds: float | None = None
    fleetd: str = ""
    mastodon: str = ""


def members_of(policy: Policy, state: LedgerState, now_ms: int | None, machine: HostFacts | None) -> tuple[Member, ...]:
    """By name, this host always among them. `now_ms`: Redis's clock; None: unknown."""
    found = {name: _member(name, entry, state, now_ms) for name, entry in state.hosts.items() if not entry.gone}
    told = found.get(policy.host)
    found[policy.host] = Member(
        host=policy.host,
        own=True,
        silent_seconds=told.silent_seconds if told is not None else 0.0,
        report=told.report if told is not None else None,
        place=policy.scheduler.place,
        takeover_seconds=policy.scheduler.takeover_seconds,
        fleetd=__version__,
        mastodon=machine.code.version if machine is not None and machine.code is not None else "",
    )
    return tuple(found[name] for name in sorted(found))


def _member(name: str, entry: Entry, state: LedgerState, now_ms: int | None) -> Member:
    report = read(entry.record, name)
    found = Member(
        host=name,
        own=False,
        silent_seconds=silent_seconds(state, entry, now_ms),
        silent=not beats(entry, report, state.clock_ms + _stood_ms(state, now_ms)),
    )
    if report is None:
        return found
    return structs.replace(
        found,
        report=report,
        place=report.scheduler.place,
        takeover_seconds=None if report.settings is None else report.settings.numbers.get("scheduler.takeover_seconds"),
        fleetd=report.fleetd,
        mastodon=report.code_version,
    )


def silent_seconds(state: LedgerState, entry: Entry, now_ms: int | None) -> float:
    """For how long a host has told nothing."""
    return (max(0, state.clock_ms - entry.beat_ms) + _stood_ms(state, now_ms)) / 1000


def _stood_ms(state: LedgerState, now_ms: int | None) -> int:
    """What passed on Redis's own clock since the last beat of any host: the fleet clock stands while nobody beats."""
    return 0 if now_ms is None else max(0, now_ms - state.time_ms)
