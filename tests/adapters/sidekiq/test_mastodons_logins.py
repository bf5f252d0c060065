"""Logins that Mastodon's settings lead to, against real servers: fleetd gets in where Mastodon gets in."""

from __future__ import annotations

import contextlib

import pytest
from msgspec import structs

from fleetd.adapters.mastodon.dotenv import read_dotenv
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.config.connections import RedisSettings
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.redis_server import RedisServer, admin, command, redis_server, wait_until
from tests.support.rig.sidekiq_source import read


def of(text: str) -> RedisSettings:
    found = redis_settings(read_dotenv([(".env.production", text)]), [])
    assert found is not None
    return found


def reading(text: str) -> None:
    """Raises SourceUnavailableError if fleetd does not get in."""
    read(SidekiqRedis(of(text), queues=("default",)))


@pytest.mark.parametrize("left", ["REDIS_PASSWORD=left-over", "REDIS_USER=left-over"])
def test_a_left_over_password_does_not_matter_to_a_redis_without_one(left: str) -> None:
    """redis-client sends HELLO 3 AUTH default PASSWORD, which such a Redis takes; it refuses AUTH PASSWORD."""
    port = free_port()
    with redis_server(port=port):
        reading(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\n{left}\n")
        reading(f"REDIS_URL=redis://:left-over@127.0.0.1:{port}/0\n")
        without_a_user = structs.replace(of(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\n{left}\n"), username=None)
        with pytest.raises(SourceUnavailableError):
            read(SidekiqRedis(without_a_user, queues=("default",)))


@pytest.mark.parametrize("written", ["p%40ss%2Fw%3Ard", "p@ss/w:rd", "'p@ss/w:rd' # don't share"])
def test_a_password_however_it_is_written(written: str) -> None:
    port = free_port()
    with redis_server("--requirepass", "p@ss/w:rd", port=port):
        reading(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\nREDIS_PASSWORD={written}\n")
        with pytest.raises(SourceUnavailableError):
            reading(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\n")


def test_a_user_of_its_own() -> None:
    port = free_port()
    with redis_server("--requirepass", "other", port=port) as server, admin(server, password="other") as client:
        command(client, "ACL", "SETUSER", "masto", "on", ">p#1", "~*", "&*", "+@all")
        reading(f"REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\nREDIS_USER=masto\nREDIS_PASSWORD='p#1'\n")
        reading(f"REDIS_URL=redis://masto:p%231@127.0.0.1:{port}\n")


@pytest.mark.parametrize(
    ("required", "extra"),
    [
        ("", ""),  # a Sentinel without a password takes Redis's as well
        ("primary-pw", ""),
        ("sentinel-pw", "REDIS_SENTINEL_PASSWORD=sentinel-pw\n"),
        ("", "REDIS_SENTINEL_PASSWORD=left-over\n"),
    ],
)
def test_sentinels_get_the_password_of_redis_unless_they_have_their_own(required: str, extra: str) -> None:
    port, sentinel_port = free_port(), free_port()
    config = f"sentinel monitor mastodon 127.0.0.1 {port} 1\nsentinel auth-pass mastodon primary-pw\n"
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis_server("--requirepass", "primary-pw", port=port))
        sentinel = RedisServer(
            port=sentinel_port, sentinel_config=config + (f"requirepass {required}\n" if required else "")
        )
        stack.callback(sentinel.close)
        sentinel.start()
        asker = stack.enter_context(admin(sentinel, password=required or None))
        wait_until(lambda: bool(asker.ping()), "the Sentinel to answer")
        reading(
            f"REDIS_SENTINEL_MASTER=mastodon\nREDIS_SENTINELS=127.0.0.1:{sentinel_port}\n"
            f"REDIS_PASSWORD=primary-pw\n{extra}"
        )
