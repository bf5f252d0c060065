"""From the configuration's endpoints to the real adapters that read them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import PostgresConnections
from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.host.readings import LinuxHost, rendered_keys
from fleetd.adapters.ledger.ledger import RedisLedger
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.app.endpoints import Endpoints
from fleetd.config import Settings
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.facts import Snapshot
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.daemon.bugs import Bugs
from fleetd.daemon.observe import Sources
from fleetd.ports import Clock

#: The deadline of each source, and a little later that of whoever waits for it.
READING_SECONDS_MAX = 3.0
WAITING_SECONDS_MAX = 4.0

Close = Callable[[], Awaitable[None]]


def numbers(policy: Policy) -> list[InstanceKey]:
    return [number for profile in policy.profiles for number in profile.numbers]


def open_sources(
    settings: Settings, endpoints: Endpoints, clock: Clock, bugs: Bugs | None = None
) -> tuple[Sources, SystemdUnits]:
    """All sources that are watched; connects to nothing yet. `bugs`: see Sources."""
    ledger = _ledger(settings, endpoints)
    units = SystemdUnits(numbers(settings.policy), rendered=rendered_keys, read_deadline_seconds=READING_SECONDS_MAX)
    sources = Sources(
        _sidekiq(settings, endpoints, ledger, bugs),
        _database(endpoints),
        units,
        LinuxHost(directory=settings.units_directory),
        clock,
        deadline_seconds=WAITING_SECONDS_MAX,
        pgbouncer=_pgbouncer(settings, endpoints),
        replica=_replica(settings, endpoints),
        ledger=ledger,
        bugs=bugs,
    )
    return sources, units


def exchange(sources: Sources, settings: Settings, endpoints: Endpoints) -> list[Close]:
    """Put the sources of a new configuration in place of the old ones; returns what closes those."""
    old = _closes(sources)
    ledger = _ledger(settings, endpoints)
    sources.sidekiq, sources.ledger = _sidekiq(settings, endpoints, ledger, sources.bugs), ledger
    sources.database = _database(endpoints)
    sources.pgbouncer = _pgbouncer(settings, endpoints)
    sources.replica = _replica(settings, endpoints)
    sources.machine = LinuxHost(directory=settings.units_directory)
    return old


async def observe_once(settings: Settings, endpoints: Endpoints) -> Snapshot:
    """One reading of everything, with connections of its own."""
    sources, _ = open_sources(settings, endpoints, BoottimeClock(runtime_directory=None))
    try:
        return await sources.observe(settings.policy.host)
    finally:
        await close_sources(sources)


async def close_sources(sources: Sources) -> None:
    """Close the connections to Redis, the databases and the bus; touches no unit."""
    for close in _closes(sources):
        await close()
    await sources.units.close()


def _closes(sources: Sources) -> list[Close]:
    watched = (sources.sidekiq, sources.database, sources.pgbouncer, sources.replica, sources.ledger)
    return [source.close for source in watched if source is not None]


def _ledger(settings: Settings, endpoints: Endpoints) -> RedisLedger | None:
    """What the hosts of a fleet share; None: this is the only one. Its calls but the beat have their own connection."""
    if settings.ledger == "local":
        return None
    connection = RedisConnection(endpoints.redis, timeout_seconds=READING_SECONDS_MAX)
    return RedisLedger(endpoints.redis, connection, deadline_seconds=READING_SECONDS_MAX)


def _sidekiq(settings: Settings, endpoints: Endpoints, ledger: RedisLedger | None, bugs: Bugs | None) -> SidekiqRedis:
    queues = dict.fromkeys(queue for profile in settings.policy.profiles for queue, _ in profile.queues)
    return SidekiqRedis(
        endpoints.redis,
        queues=queues,
        read_timeout_seconds=READING_SECONDS_MAX,
        workers_place=endpoints.workers_redis,
        rider=ledger,
        rider_bug=None if bugs is None else bugs.take,
    )


def _database(endpoints: Endpoints) -> PostgresConnections | None:
    if endpoints.postgres is None:
        return None
    return _postgres(endpoints.postgres, *endpoints.limits_of, standby=False)


def _replica(settings: Settings, endpoints: Endpoints) -> PostgresConnections | None:
    if endpoints.replica is None:
        return None
    # With Mastodon's own login its own limits bind; mastodon.role is for a login of fleetd's.
    if endpoints.replica_login_is_mastodons:
        return _postgres(endpoints.replica, None, None, standby=True)
    return _postgres(endpoints.replica, settings.mastodon.role, settings.mastodon.database, standby=True)


def _postgres(login: PostgresSettings, role: str | None, database: str | None, *, standby: bool) -> PostgresConnections:
    return PostgresConnections(
        login,
        monotonic=time.monotonic,
        mastodon_role=role,
        mastodon_database=database,
        standby=standby,
        deadline_seconds=READING_SECONDS_MAX,
    )


def _pgbouncer(settings: Settings, endpoints: Endpoints) -> PgBouncerConsole | None:
    if endpoints.pgbouncer is None:
        return None
    return PgBouncerConsole(
        endpoints.pgbouncer,
        mastodon=endpoints.mastodon_pool,
        identity=_pgbouncer_identity(endpoints.pgbouncer, settings.policy.host),
        monotonic=time.monotonic,
        deadline_seconds=READING_SECONDS_MAX,
    )


def _pgbouncer_identity(login: PostgresSettings, host: str) -> str:
    """One on loopback or a socket is this host's own; any other goes by its address. It has no identifier."""
    place = login.host or ""
    own = place.startswith(("/", "127.")) or place in ("", "localhost", "::1")
    return f"pgbouncer {host if own else place}:{login.port}"
