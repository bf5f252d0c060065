"""[redis] and [postgres], whose secrets never appear in any text."""

import pytest

from fleetd.config import parse
from fleetd.config.connections import PostgresSettings, RedisSettings
from tests.support.builders.config import PROFILE, problems

SECRET = "Geheim7"


def redis(body: str) -> RedisSettings | None:
    return parse(f"{PROFILE}[redis]\n{body}").redis


def postgres(body: str) -> PostgresSettings | None:
    return parse(f"{PROFILE}[postgres]\n{body}").postgres


def test_an_empty_table_means_mastodons_settings() -> None:
    assert redis("") is None
    assert postgres("") is None


def test_redis_by_url_and_by_parts() -> None:
    by_url = redis('url = "rediss://fleetd:Geheim7@h:1/2"\nnamespace = "m"\ntls_ca_file = "/ca"')
    by_parts = redis(
        'host = "h"\nport = 1\ndb = 2\nusername = "fleetd"\npassword = "Geheim7"\ntls = true\n'
        'namespace = "m"\ntls_ca_file = "/ca"'
    )
    assert by_url == by_parts
    assert by_url is not None
    assert (by_url.host, by_url.port, by_url.db, by_url.tls, by_url.password) == ("h", 1, 2, True, SECRET)


def test_redis_by_sentinel() -> None:
    got = redis('sentinel_master = "mymaster"\nsentinels = ["a", "b:7"]')
    assert got is not None
    assert (got.sentinel_master, got.sentinels) == ("mymaster", (("a", 26379), ("b", 7)))


def test_postgres_by_url_and_by_parts() -> None:
    by_url = postgres('url = "postgresql://u:Geheim7@h:1/d?sslmode=verify-full"')
    assert by_url == postgres(
        'host = "h"\nport = 1\ndbname = "d"\nuser = "u"\npassword = "Geheim7"\nsslmode = "verify-full"'
    )


def test_pgbouncer_and_replica_take_the_keys_of_postgres() -> None:
    got = parse(f'{PROFILE}[pgbouncer]\nhost = "h"\nuser = "stats"\n[replica]\nurl = "postgresql://u:Geheim7@r:1/d"')
    assert got.pgbouncer == PostgresSettings(host="h", port=6432, dbname="pgbouncer", user="stats")
    assert got.replica == PostgresSettings(host="r", port=1, dbname="d", user="u", password=SECRET)
    by_url = parse(f'{PROFILE}[pgbouncer]\nurl = "postgresql://stats@h?sslmode=require"').pgbouncer
    assert by_url == PostgresSettings(host="h", port=6432, dbname="pgbouncer", user="stats", sslmode="require")


def test_pgbouncer_and_replica_are_mastodons_by_default() -> None:
    got = parse(PROFILE + "[pgbouncer]\n[replica]")
    assert (got.pgbouncer, got.replica, got.through, got.watch_replica) == (None, None, "auto", True)
    got = parse(PROFILE + '[connections]\nthrough = "pgbouncer"\nreplica = "none"')
    assert (got.through, got.watch_replica) == ("pgbouncer", False)


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ('[pgbouncer]\nhost = "h"\ndbname = "mastodon"', "pgbouncer.dbname"),
        ('[pgbouncer]\nurl = "postgresql://u:Geheim7@h/mastodon"', "pgbouncer.url"),
        ('[pgbouncer]\nurl = "postgresql://u:Geheim7@h"\npassword = "Geheim7"', "pgbouncer.password"),
        ('[pgbouncer]\npassword = "Geheim7"', "pgbouncer"),
        ('[pgbouncer]\nhost = "h"\npassword = {Geheim7 = 1}', "pgbouncer.password"),
        ('[replica]\npassword = "Geheim7"', "replica"),
        ('[replica]\nhost = "h"\nport = "Geheim7"', "replica.port"),
        ('[replica]\nurl = "Geheim7"', "replica.url"),
        ('[redis]\npassword = "Geheim7"', "redis"),
        ('[redis]\nurl = "Geheim7"', "redis.url"),
        ('[redis]\nurl = "redis://:Geheim7@h:port"', "redis.url"),
        ('[redis]\nurl = "redis://:Geheim7@h"\npassword = "Geheim7"', "redis.password"),
        ('[redis]\nurl = ["Geheim7"]', "redis.url"),
        ('[redis]\npasswort = "Geheim7"', "redis.passwort"),
        ('[redis]\nhost = "h"\nsentinel_password = ["Geheim7"]', "redis.sentinel_password"),
        ('[redis]\nsentinel_master = "m"\npassword = "Geheim7"', "redis.sentinels"),
        ('[redis]\nsentinels = ["a"]\npassword = "Geheim7"', "redis.sentinel_master"),
        ('[redis]\nsentinel_master = "m"\nsentinels = ["a:b"]\npassword = "Geheim7"', "redis.sentinels"),
        ('[redis]\nhost = "redis://:Geheim7@h"', "redis.host"),
        ('[redis]\nhost = "h"\nport = "Geheim7"', "redis.port"),
        ('[redis]\nsentinel_master = "m"\nsentinels = [":Geheim7@a"]', "redis.sentinels"),
        ('[redis.url]\nredis = "Geheim7"', "redis.url"),
        ('[postgres]\npassword = "Geheim7"', "postgres"),
        ('[postgres]\nhost = "h"\npassword = {Geheim7 = 1}', "postgres.password"),
        ('[postgres]\nurl = "postgresql://u:Geheim7@[/d"', "postgres.url"),
        ('[postgres]\nhost = "h"\npassword = "Geheim7"\nsslmode = "on"', "postgres.sslmode"),
    ],
)
def test_no_problem_contains_a_secret(table: str, path: str) -> None:
    got = problems(PROFILE + table)
    assert path in got
    assert SECRET not in "\n".join([*got, *got.values()])


def test_the_settings_as_text_contain_no_secret() -> None:
    got = parse(PROFILE + '[redis]\nurl = "redis://:Geheim7@h"\n[postgres]\nurl = "postgresql://u:Geheim7@h/d"')
    assert got.redis is not None
    assert got.redis.password == SECRET
    assert SECRET not in f"{got!r} {got}"
