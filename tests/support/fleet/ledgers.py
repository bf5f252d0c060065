"""A ledger as the hosts of a fleet have written it."""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd import __version__
from fleetd.config import parse
from fleetd.core.fleet.state import BySource, Entry, Lease, LedgerState, Slot
from fleetd.core.sharing.report import HostReport, SchedulerReport, written
from fleetd.core.sharing.settings import settings_of
from tests.support.builders.hosts import host, profile

CLOCK_MS = 900_000
TIME_MS = 1_700_000_000_000
SOURCE = "7301"
FLEET = "m.example mastodon_production"

_USUAL = settings_of(parse('[profiles.default-first]\ninstances = "1-3"\n').policy)


def report(
    name: str,
    low: int = 1,
    *,
    place: Literal["auto", "here", "elsewhere"] = "auto",
    takeover: float = 300.0,
    tick: float = 5.0,
    fleetd: str = __version__,
    mastodon: str = "4.5.3",
) -> HostReport:
    """A host with one profile whose instances claim 27 connections. `low`: its min."""
    numbers = {**_USUAL.numbers, "scheduler.takeover_seconds": takeover, "pace.tick_seconds": tick}
    settings = structs.replace(_USUAL, numbers=numbers)
    found = host(name, profile(name="default-first", threads=25, low=low), scheduler=SchedulerReport(place=place))
    return structs.replace(
        found, fleetd=fleetd, code_version=mastodon, tick_seconds=tick, settings=settings, digest=settings.digest
    )


def entry(
    told: HostReport | None,
    *,
    silent_seconds: float = 2.0,
    missing: BySource | None = None,
    scheduler: BySource | None = None,
    boot_id: str = "boot",
    gone: bool = False,
) -> Entry:
    """`told`: None: it told nothing that can be read."""
    return Entry(
        boot_id=boot_id,
        nonce="nonce",
        beat_ms=CLOCK_MS - round(1000 * silent_seconds),
        told_generation=1,
        gone=gone,
        missing={SOURCE: 0} if missing is None else missing,
        scheduler={SOURCE: 12} if scheduler is None else scheduler,
        record="" if told is None else written(told),
    )


def ledger(
    *,
    leader: str = "w1",
    holder: str = "w1",
    fleet: str = FLEET,
    claims: dict[str, dict[str, BySource]] | None = None,
    **hosts: Entry,
) -> LedgerState:
    return LedgerState(
        fleet=fleet,
        run_id="run-1",
        clock_ms=CLOCK_MS,
        time_ms=TIME_MS,
        lease=Lease(host=leader, nonce="nonce", token=1, until_ms=CLOCK_MS + 20_000),
        slot=Slot(holder=holder, unit="there"),
        hosts=hosts,
        claims=claims or {},
    )
