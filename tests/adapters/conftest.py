"""One redis-server for all tests of this directory, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.support.rig.redis_server import RedisServer, admin, redis_server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with admin(shared_redis) as client:
        client.flushall()
        client.script_flush()
        yield client
