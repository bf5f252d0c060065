"""The ledger in Redis keeps the contract of Ledger, with a reading of nothing else that carries its beats."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from fleetd.adapters.ledger.ledger import RedisLedger
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.rider import Ride
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.config.connections import RedisSettings
from fleetd.core.fleet.calls import Server
from tests.support.contracts.ledger import LedgerCheck, ledger_contract
from tests.support.fleet.ledger_script import SCRIPT, pretend
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, redis_server

_NOTHING = Script("return {}")


class InRedis:
    """Two hosts on one Redis, whose clock stands until it is moved."""

    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        self._server, self._client = server, client
        self._now_ms = 1_700_000_000_000
        self._ledgers: dict[str, RedisLedger] = {}
        self.pass_time(0)

    def _connection(self) -> tuple[RedisSettings, RedisConnection]:
        settings = RedisSettings(unix_socket=self._server.socket)
        return settings, RedisConnection(settings, timeout_seconds=WAIT_SECONDS)

    def ledger_of(self, host: str) -> RedisLedger:
        if host not in self._ledgers:
            self._ledgers[host] = RedisLedger(*self._connection(), deadline_seconds=WAIT_SECONDS, script=SCRIPT)
        return self._ledgers[host]

    async def read(self, host: str) -> None:
        _, connection = self._connection()
        ride = Ride(self.ledger_of(host))
        rounds = Rounds(connection.client(), connection.allowance, until_seconds=time.monotonic() + WAIT_SECONDS)
        with contextlib.suppress(redis.exceptions.RedisError):
            await rounds.run(_NOTHING, ride=ride)
        ride.end()
        await connection.drop()

    def pass_time(self, milliseconds: int) -> None:
        self._now_ms += milliseconds
        pretend(self._client, Server(time_ms=self._now_ms, run_id="run"))

    def lose(self) -> None:
        self._client.flushall()
        self.pass_time(0)

    def break_connection(self) -> None:
        self._server.stop()

    def heal_connection(self) -> None:
        self._server.start()
        self.pass_time(0)

    async def close(self) -> None:
        for ledger in self._ledgers.values():
            await ledger.close()


@pytest.fixture(scope="module")
def in_redis() -> Iterator[Callable[[], InRedis]]:
    with redis_server() as server, admin(server) as client:

        def emptied() -> InRedis:
            client.flushall()
            return InRedis(server, client)

        yield emptied


@pytest.mark.parametrize("check", ledger_contract, ids=lambda check: check.__name__)
def test_in_redis(check: LedgerCheck, in_redis: Callable[[], InRedis]) -> None:
    async def checked() -> None:
        case = in_redis()
        try:
            await check(case)
        finally:
            await case.close()

    asyncio.run(checked())
