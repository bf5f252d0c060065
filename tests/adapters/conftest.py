"""Servers that the tests of several adapters use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.support.rig.private_bus import PrivateBus, private_bus
from tests.support.rig.redis_server import RedisServer, admin, redis_server


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    """A private dbus-daemon for one test."""
    with private_bus() as bus:
        yield bus


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One redis-server for all tests. `client` empties it before each."""
    with redis_server() as server:
        yield server


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with admin(shared_redis) as client:
        client.flushall()
        client.script_flush()
        yield client
