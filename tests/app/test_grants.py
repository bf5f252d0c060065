"""`fleetctl grants`: what it prints for real servers makes logins that read, and settings that load."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator

import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.grants import Grant, grants
from fleetd.config import parse
from fleetd.config.connections import RedisSettings
from fleetd.core.model.found_pooler import FoundPooler
from tests.support.rig.mastodon_postgres import read_once, running_cluster, tcp
from tests.support.rig.postgres_cluster import Cluster
from tests.support.rig.redis_server import redis_server
from tests.support.rig.sidekiq_source import read, source_at

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-3"\n'
GUIDE = "REDIS_HOST=localhost\nDB_HOST=/var/run/postgresql\nDB_USER=mastodon\nDB_PASS=\n"
FAR = "REDIS_URL=rediss://:secret@r.example:6380/2\nDB_HOST=10.0.0.2\nDB_PASS=secret\nDB_NAME=masto\n"
PASSWORDS = ("a" * 32, "b" * 32, "c" * 32)


def endpoints(env: str = FAR, found: FoundPooler | None = None) -> Endpoints:
    return find_endpoints(parse(PROFILE), EnvFile(text=env), found)


def made(of: Endpoints) -> list[Grant]:
    return list(grants(of, PASSWORDS))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from running_cluster()


def test_the_redis_command_makes_a_user_that_reads_everything() -> None:
    with redis_server() as server:
        local = structs.replace(endpoints(), redis=RedisSettings(unix_socket=server.socket))
        [command] = made(local)[0].commands
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        facts = read(source_at(server, username="fleetd", password=PASSWORDS[0]))
        assert facts.writable is True


def test_the_postgres_command_makes_a_role_that_counts_exactly(cluster: Cluster) -> None:
    login = structs.replace(tcp(cluster), host="127.0.0.1")
    grant = made(structs.replace(endpoints(), postgres=login))[1]
    words = shlex.split(grant.commands[0])
    assert words[:4] == ["sudo", "-u", "postgres", "psql"]
    cluster.sql(words[-1])
    facts = read_once(structs.replace(login, user="fleetd", password=PASSWORDS[1]))
    assert facts.exact


def test_the_settings_load_and_name_mastodons_own_limits() -> None:
    table = "\n".join(line for grant in made(endpoints()) for line in grant.settings)
    settings = parse(f"{PROFILE}{table}\n")
    assert settings.redis == RedisSettings(
        host="r.example", port=6380, db=2, tls=True, username="fleetd", password=PASSWORDS[0]
    )
    assert settings.postgres is not None
    assert (settings.postgres.user, settings.postgres.dbname) == ("fleetd", "masto")
    assert (settings.mastodon.role, settings.mastodon.database) == ("mastodon", "masto")


def test_the_settings_keep_how_the_servers_are_reached() -> None:
    """With less of TLS the new password would go out in the clear; without the files the login would fail."""
    files = {"sslmode": "verify-full", "sslrootcert": "/etc/ssl/ca.pem", "sslcert": "/x/cert", "sslkey": "/x/key"}
    query = "&".join(f"{key}={value}" for key, value in files.items())
    of = endpoints(f"DATABASE_URL=postgresql://mastodon:secret@10.0.0.2/masto?{query}\n")
    found = FoundPooler(kind="pgbouncer", version="1.18.0", place="10.0.0.2:5432")
    through = endpoints(f"DATABASE_URL=postgresql://mastodon:secret@10.0.0.2/masto?{query}\n", found)
    sentinel = structs.replace(
        of.redis,
        sentinel_master="m",
        sentinels=(("s1", 26379),),
        sentinel_username="me",
        sentinel_password="secret",
        tls=True,
        tls_ca_file="/etc/ssl/redis.pem",
        unix_socket=None,
    )
    redis, postgres = made(structs.replace(of, redis=sentinel))
    bouncer = made(through)[-1]
    settings = parse(PROFILE + "\n".join((*redis.settings, *postgres.settings, *bouncer.settings)) + "\n")
    assert settings.redis is not None
    assert (settings.redis.tls_ca_file, settings.redis.sentinel_username) == ("/etc/ssl/redis.pem", "me")
    assert any("sentinel_password" in note for note in redis.notes)
    assert settings.postgres is not None
    assert settings.pgbouncer is not None
    for login in (settings.postgres, settings.pgbouncer):
        assert {key: getattr(login, key) for key in files} == files


def test_through_pgbouncer() -> None:
    found = FoundPooler(kind="pgbouncer", version="1.18.0", place="10.0.0.2:5432")
    [_, bouncer] = made(endpoints(found=found))
    assert bouncer.server == "PgBouncer, 10.0.0.2"
    assert "stats_users = fleetd" in bouncer.notes[0]
    assert parse(f"{PROFILE}{chr(10).join(bouncer.settings)}\n").pgbouncer is not None


def test_over_the_guides_socket_there_is_no_password() -> None:
    grant = made(endpoints(GUIDE))[1]
    assert grant.commands == ("sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN IN ROLE pg_monitor'",)
    assert grant.settings == ()


def test_mastodons_own_secrets_are_not_repeated() -> None:
    assert "secret" not in repr(made(endpoints()))


def test_odd_names_are_quoted() -> None:
    odd = RedisSettings(unix_socket="/run/my redis/s;ock", namespace="a b")
    [command] = made(structs.replace(endpoints(), redis=odd))[0].commands
    assert shlex.split(command)[2] == "/run/my redis/s;ock"
    assert "%RW~a b:fleetd:probe" in shlex.split(command)
