"""What is asked of Redis besides a reading: rights, replication, Sentinels, and the ledger that a fleet's hosts share.

With connections of its own, and whether or not fleetd runs. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path
from typing import Final

from fleetd.adapters.host.clock import boot_id_kept_in
from fleetd.adapters.ledger.ledger import RedisLedger
from fleetd.adapters.ledger.rights import trials as ledger_trials
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.sentinel_look import SentinelSeen
from fleetd.adapters.redis.server_look import ServerSeen, look_at_server
from fleetd.adapters.sidekiq.rights import trials as reading_trials
from fleetd.app.endpoints import Endpoints
from fleetd.app.sources import READING_SECONDS_MAX
from fleetd.config import Settings
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model.facts import Value
from fleetd.errors import SourceUnavailableError

#: Where fleetd.service keeps the mark of this boot.
_RUNTIME_DIRECTORY: Final = Path("/run/fleetd")


class RedisSeen(Value, frozen=True, kw_only=True):
    """None: it could not be asked, or there is none."""

    server: ServerSeen | None = None
    sentinels: tuple[SentinelSeen, ...] = ()
    ledger: LedgerState | None = None
    ledger_why: str = ""  # it could not be read
    boot_id: str = ""  # of this machine, as fleetd tells it to the ledger; "": unknown
    hostname: str = ""  # as the kernel calls this machine
    settings_hidden: bool = False  # whoever looks may not read Mastodon's settings, which name the fleet

    def ledger_of(self, fleet: str) -> LedgerState | None:
        """The ledger, if it is this fleet's or nobody can tell."""
        theirs = self.ledger is not None and self.ledger.fleet != fleet and not self.settings_hidden
        return None if theirs else self.ledger


async def look_at_redis(settings: Settings, endpoints: Endpoints) -> RedisSeen:
    """Everything at once, each with its deadline. Raises nothing foreseeable."""
    redis = endpoints.redis
    ledger = RedisLedger(redis, RedisConnection(redis, timeout_seconds=READING_SECONDS_MAX))
    shared = settings.ledger == "redis"
    try:
        (server, sentinels), (state, why) = await asyncio.gather(
            _server(endpoints, shared=shared), _ledger(ledger) if shared else _none()
        )
    finally:
        await ledger.close()
    return RedisSeen(
        server=server,
        sentinels=sentinels,
        ledger=state,
        ledger_why=why,
        boot_id=boot_id_kept_in(_RUNTIME_DIRECTORY),
        hostname=platform.node(),
    )


async def _server(endpoints: Endpoints, *, shared: bool) -> tuple[ServerSeen | None, tuple[SentinelSeen, ...]]:
    redis = endpoints.redis
    trials = reading_trials(redis.key_prefix, redis.db)
    trials += ledger_trials(redis.key_prefix) if shared else ()
    connection = RedisConnection(redis, timeout_seconds=READING_SECONDS_MAX, bare=True)
    try:
        server = await look_at_server(connection, redis, trials, READING_SECONDS_MAX)
    except SourceUnavailableError:
        server = None  # the reading says why
    try:
        return server, await connection.look_at_sentinels()  # of the server that answered
    finally:
        await connection.drop()


async def _ledger(ledger: RedisLedger) -> tuple[LedgerState | None, str]:
    try:
        return await ledger.read(), ""
    except SourceUnavailableError as error:
        return None, str(error)


async def _none() -> tuple[LedgerState | None, str]:
    return None, ""
