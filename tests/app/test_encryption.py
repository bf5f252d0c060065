"""Connections that leave this host without TLS are warned of, and only those."""

from __future__ import annotations

import pytest

from fleetd.app.encryption import unencrypted_postgres, unencrypted_redis
from fleetd.config.connections import PostgresSettings, RedisSettings

PRIVATE = ("10.8.0.0/24", "fd00::/8", "db1.vpn", "192.168.1.9")


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "localhost"}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "/var/run/postgresql"}, False),
        ({"host": None}, False),
        ({"host": "10.0.0.2"}, True),
        ({"host": "10.0.0.2", "sslmode": "disable"}, True),
        ({"host": "10.0.0.2", "sslmode": "allow"}, True),
        ({"host": "10.0.0.2", "sslmode": "require"}, False),
        ({"host": "10.0.0.2", "sslmode": "verify-full"}, False),
        ({"host": "db.example.org"}, True),
        ({"host": "127.0.0.1,10.0.0.2"}, True),
        ({"host": "10.8.0.7"}, False),
        ({"host": "fd00::1"}, False),
        ({"host": "192.168.1.9"}, False),
        ({"host": "db1.vpn"}, False),
        ({"host": "db1.vpn.example.org"}, True),
    ],
)
def test_postgres(settings: dict[str, str], *, warned: bool) -> None:
    said = unencrypted_postgres("Postgres", "there:5432", PostgresSettings(**settings), PRIVATE)  # type: ignore[arg-type]
    assert len(said) == warned
    for sentence in said:
        assert "Postgres at there:5432" in sentence
        assert "network.private" in sentence


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (RedisSettings(), False),
        (RedisSettings(unix_socket="/run/redis.sock"), False),
        (RedisSettings(host="10.0.0.2"), True),
        (RedisSettings(host="10.0.0.2", tls=True), False),
        (RedisSettings(host="10.8.0.2", password="Geheim7"), False),
        (RedisSettings(sentinel_master="m", sentinels=(("10.8.0.2", 1), ("127.0.0.1", 2))), False),
        (RedisSettings(sentinel_master="m", sentinels=(("10.8.0.2", 1), ("10.9.0.2", 2))), True),
    ],
)
def test_redis(settings: RedisSettings, *, warned: bool) -> None:
    assert len(unencrypted_redis(settings, PRIVATE)) == warned


def test_the_password_is_mentioned_where_one_is_sent_but_never_shown() -> None:
    (without,) = unencrypted_redis(RedisSettings(host="10.0.0.2"), ())
    (with_one,) = unencrypted_redis(RedisSettings(host="10.0.0.2", password="Geheim7"), ())
    assert "password" not in without
    assert "the password too" in with_one
    assert "Geheim7" not in with_one
