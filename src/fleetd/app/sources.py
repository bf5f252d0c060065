"""Real adapters at their places."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import PostgresConnections
from fleetd.adapters.host.readings import LinuxHost
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.app.endpoints import Endpoints
from fleetd.config import Settings
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy import Policy
from fleetd.daemon.observe import Sources
from fleetd.ports import Clock

#: Each source's own deadline, and a little later the one of whoever waits for it.
READING_SECONDS_MAX = 3.0
WAITING_SECONDS_MAX = 4.0

Close = Callable[[], Awaitable[None]]


def numbers(policy: Policy) -> list[InstanceKey]:
    return [number for profile in policy.profiles for number in profile.numbers]


def open_sources(settings: Settings, places: Endpoints, clock: Clock) -> tuple[Sources, SystemdUnits]:
    """All sources at their places; connects to nothing yet."""
    units = SystemdUnits(
        numbers(settings.policy), unit_files=UnitFiles(), read_deadline_seconds=READING_SECONDS_MAX
    )
    sources = Sources(
        _sidekiq(settings, places),
        _database(settings, places),
        units,
        LinuxHost(),
        clock,
        deadline_seconds=WAITING_SECONDS_MAX,
        pgbouncer=_pgbouncer(places),
        replica=_replica(settings, places),
    )
    return sources, units


def exchange(sources: Sources, settings: Settings, places: Endpoints) -> list[Close]:
    """Other sources instead of those of an older configuration, which are to be closed by what is returned."""
    old = _closes(sources)
    sources.sidekiq = _sidekiq(settings, places)
    sources.database = _database(settings, places)
    sources.pgbouncer = _pgbouncer(places)
    sources.replica = _replica(settings, places)
    return old


async def close_sources(sources: Sources) -> None:
    """Leave Redis, the databases and the bus; touches no unit."""
    for close in _closes(sources):
        await close()
    await sources.units.close()


def _closes(sources: Sources) -> list[Close]:
    there = (sources.sidekiq, sources.database, sources.pgbouncer, sources.replica)
    return [source.close for source in there if source is not None]


def _sidekiq(settings: Settings, places: Endpoints) -> SidekiqRedis:
    queues = dict.fromkeys(queue for profile in settings.policy.profiles for queue, _ in profile.queues)
    return SidekiqRedis(places.redis, queues=queues, read_timeout_seconds=READING_SECONDS_MAX)


def _database(settings: Settings, places: Endpoints) -> PostgresConnections | None:
    if places.postgres is None:
        return None
    return _postgres(places.postgres, settings.role, settings.database, standby=False)


def _replica(settings: Settings, places: Endpoints) -> PostgresConnections | None:
    if places.replica is None:
        return None
    # Mastodon's own login there has limits of its own; mastodon.role is for where fleetd uses another.
    if places.replica_login_is_mastodons:
        return _postgres(places.replica, None, None, standby=True)
    return _postgres(places.replica, settings.role, settings.database, standby=True)


def _postgres(
    place: PostgresSettings, role: str | None, database: str | None, *, standby: bool
) -> PostgresConnections:
    return PostgresConnections(
        place,
        monotonic=time.monotonic,
        mastodon_role=role,
        mastodon_database=database,
        standby=standby,
        deadline_seconds=READING_SECONDS_MAX,
    )


def _pgbouncer(places: Endpoints) -> PgBouncerConsole | None:
    if places.pgbouncer is None:
        return None
    return PgBouncerConsole(
        places.pgbouncer,
        mastodon=places.mastodon_pool,
        monotonic=time.monotonic,
        deadline_seconds=READING_SECONDS_MAX,
    )
