"""Logins of fleetd's own with the least rights: the commands that make them for this installation, and the settings.

fleetd reads with Mastodon's logins otherwise, which may do anything to its data.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from fleetd.adapters.database.login import own_role_line
from fleetd.adapters.ledger.rights import RIGHTS, key_right
from fleetd.adapters.sidekiq.rights import rights
from fleetd.app.endpoints import Endpoints
from fleetd.app.redis_cli import redis_cli
from fleetd.app.route import OWN_ROLE
from fleetd.config.connections import PostgresSettings, RedisSettings
from fleetd.core.model.facts import Value


class Grant(Value, frozen=True, kw_only=True):
    """For one server: what to run there, and what then stands in fleetd.toml. `notes`: what else is to be known."""

    server: str
    commands: tuple[str, ...]
    settings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def grants(endpoints: Endpoints, passwords: tuple[str, str, str]) -> tuple[Grant, ...]:
    """`passwords`: new ones, for Redis, Postgres and PgBouncer; of letters and digits, so that they need no quotes."""
    of_redis, of_postgres, of_pgbouncer = passwords
    found = [_redis(endpoints.redis, of_redis)]
    if endpoints.postgres is not None:
        found.append(_postgres(endpoints, endpoints.postgres, of_postgres))
    if endpoints.pgbouncer is not None:
        found.append(_pgbouncer(endpoints.pgbouncer, of_pgbouncer))
    return tuple(found)


def _redis(redis: RedisSettings, password: str) -> Grant:
    words = ["ACL", "SETUSER", OWN_ROLE, "reset", "on", f">{password}", *rights(redis.key_prefix)]
    words += [*RIGHTS, key_right(redis.key_prefix)]
    place: list[tuple[str, object]]
    if redis.unix_socket:
        place = [("unix_socket", redis.unix_socket)]
    elif redis.sentinel_master:
        addresses = [f"{host}:{port}" for host, port in redis.sentinels]
        place = [("sentinel_master", redis.sentinel_master), ("sentinels", addresses)]
    else:
        place = [("host", redis.host), ("port", redis.port)]
    more: list[tuple[str, object]] = [("db", redis.db)] if redis.db else []
    more += [("tls", True)] if redis.tls else []
    more += [("tls_ca_file", redis.tls_ca_file)] if redis.tls_ca_file else []
    more += [("namespace", redis.namespace)] if redis.namespace else []
    more += [("sentinel_username", redis.sentinel_username)] if redis.sentinel_username else []
    notes = [
        "as a user who may: add --user and -a, or --askpass",
        "ACL SAVE, or CONFIG REWRITE where no aclfile is set: else it is gone with the next start of Redis",
        "Redis 6: ~* for %R~*, without |setname and |usage, and without the words that begin with %RW",
        'the last four words are for a fleet of several hosts; with fleet.ledger = "local" they are not needed',
    ]
    if redis.sentinel_master:
        notes.append("on each server of that primary, since users are not replicated; Sentinels keep their own login")
    if redis.sentinel_password:
        notes.append("sentinel_password has to be added to the table: Mastodon's own stands in .env.production")
    table = [*place, *more, ("username", OWN_ROLE), ("password", password)]
    return Grant(
        server=f"Redis, {redis.endpoint}",
        commands=(shlex.join([*redis_cli(redis), *words]),),
        settings=_table("redis", table),
        notes=tuple(notes),
    )


def _postgres(endpoints: Endpoints, login: PostgresSettings, password: str) -> Grant:
    role, database = endpoints.limits_of
    limits = [("role", role or login.user), ("database", database or login.dbname)]
    if login.user == OWN_ROLE and not login.password:  # it goes by the operating system's user
        return Grant(server="Postgres, over the local socket", commands=(own_role_line(login.port),), settings=())
    at = f" -p {login.port}" if login.port not in (None, 5432) else ""
    sql = f"CREATE ROLE {OWN_ROLE} LOGIN PASSWORD '{password}' IN ROLE pg_monitor"
    table = [
        ("host", login.host or "localhost"),
        ("port", login.port or 5432),
        ("dbname", login.dbname),
        ("user", OWN_ROLE),
        ("password", password),
        *_tls(login),
    ]
    return Grant(
        server=f"Postgres, {login.host or 'the local socket'}",
        commands=(f'sudo -u postgres psql{at} -c "{sql}"',),
        settings=(*_table("postgres", table), "", *_table("mastodon", limits)),
        notes=(
            "it sees everybody's connections and may read no table",
            f"pg_hba.conf has to let {OWN_ROLE} in from here",
        ),
    )


def _pgbouncer(login: PostgresSettings, password: str) -> Grant:
    table = [
        ("host", login.host or "localhost"),
        ("port", login.port or 6432),
        ("user", OWN_ROLE),
        ("password", password),
        *_tls(login),
    ]
    return Grant(
        server=f"PgBouncer, {login.host or 'localhost'}",
        commands=(
            f"""echo '"{OWN_ROLE}" "{password}"' | sudo tee -a /etc/pgbouncer/userlist.txt > /dev/null""",
            "sudo systemctl reload pgbouncer",
        ),
        settings=_table("pgbouncer", table),
        notes=(f"in pgbouncer.ini: stats_users = {OWN_ROLE}, beside those that are there, without quotes",),
    )


def _tls(login: PostgresSettings) -> list[tuple[str, object]]:
    """As the workers have it: the table takes the place of all of their address."""
    files = [("sslrootcert", login.sslrootcert), ("sslcert", login.sslcert), ("sslkey", login.sslkey)]
    return [("sslmode", login.sslmode), *((key, file) for key, file in files if file)]


def _table(name: str, values: Sequence[tuple[str, object]]) -> tuple[str, ...]:
    """TOML: a text, a number, a truth or a list of texts is written as in JSON."""
    return (f"[{name}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values))
