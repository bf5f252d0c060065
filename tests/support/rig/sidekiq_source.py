"""SidekiqRedis on a test's real server."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import SidekiqFacts
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer


def source_at(server: RedisServer, **settings: Any) -> SidekiqRedis:
    return SidekiqRedis(
        RedisSettings(unix_socket=server.socket, **settings),
        queues=("default", "pull"),
        read_timeout_seconds=WAIT_SECONDS,
    )


def read(source: SidekiqRedis) -> SidekiqFacts:
    async def once() -> SidekiqFacts:
        try:
            return await source.read()
        finally:
            await source.close()

    return asyncio.run(once())
