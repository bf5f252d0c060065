"""[redis], [postgres], [pgbouncer] and [replica]: where to read, if not as Mastodon's .env.production says.

A table replaces Mastodon's settings whole: nothing is mixed from two files. No problem worded here repeats a value
that may hold a password.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fleetd.config.connection_urls import DATABASES_MAX, postgres_from_url, redis_from_url
from fleetd.config.connections import CONSOLE, PGBOUNCER_PORT, PostgresSettings, RedisSettings
from fleetd.config.schema import AbsolutePath, Port, Section
from fleetd.errors import ConfigProblem

Text = Annotated[str, Meta(min_length=1, max_length=1024)]
# Places are shown in sentences: an address with a password in it belongs under url.
Host = Annotated[
    str, Meta(pattern=r"^[^\s@]{1,255}\Z", extra_json_schema={"description": "a host name, address or path"})
]


class RedisSection(Section, frozen=True, kw_only=True):
    url: Text | None = None
    host: Host | None = None
    port: Port | None = None
    db: Annotated[int, Meta(ge=0, le=DATABASES_MAX)] | None = None
    username: Text | None = None
    password: Text | None = None
    unix_socket: AbsolutePath | None = None
    tls: bool | None = None
    tls_ca_file: AbsolutePath | None = None
    sentinel_master: Text | None = None
    sentinels: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)] | None = None
    sentinel_username: Text | None = None
    sentinel_password: Text | None = None
    namespace: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class PostgresSection(Section, frozen=True, kw_only=True):
    """[postgres], and likewise [replica] and PgBouncer's console."""

    url: Text | None = None
    host: Host | None = None
    port: Port | None = None
    dbname: Text | None = None
    user: Text | None = None
    password: Text | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    sslrootcert: Text | None = None
    sslcert: Text | None = None
    sslkey: Text | None = None


def redis_settings(section: RedisSection | None, problems: list[ConfigProblem]) -> RedisSettings | None:
    """The Redis the file names; None when it leaves that to .env.production."""
    given = _given(section)
    if section is None or not given:
        return None
    if section.url is not None:
        fitting = {"url", "namespace", "tls_ca_file"}
        _refuse_beside("redis", given, fitting, problems)
        settings = redis_from_url(section.url, "redis.url", section.namespace, problems)
        return settings and msgspec.structs.replace(settings, tls_ca_file=section.tls_ca_file)
    if not given.keys() & {"host", "unix_socket", "sentinel_master", "sentinels"}:
        problems.append(_nowhere("redis", "Redis"))
    if (section.sentinel_master is None) != (section.sentinels is None):
        missing = "sentinels" if section.sentinels is None else "sentinel_master"
        cure = "Set both sentinel_master (the primary's name) and sentinels, or neither."
        problems.append(ConfigProblem(f"redis.{missing}", "missing", cure))
    given["sentinels"] = _sentinels(section.sentinels or (), problems)
    return RedisSettings(**given)


def postgres_settings(
    section: PostgresSection | None, problems: list[ConfigProblem], table: str = "postgres"
) -> PostgresSettings | None:
    """The Postgres that [postgres] or [replica] names; None when it leaves that to .env.production."""
    return _settings(section, table, PostgresSettings(), problems)


def pgbouncer_settings(
    section: PostgresSection | None, problems: list[ConfigProblem]
) -> PostgresSettings | None:
    """The console that [pgbouncer] names; None when it leaves that to .env.production."""
    base = PostgresSettings(port=PGBOUNCER_PORT, dbname=CONSOLE)
    settings = _settings(section, "pgbouncer", base, problems)
    if settings is not None and settings.dbname != CONSOLE:
        key = "url" if section is not None and section.url is not None else "dbname"
        what = f"names another database than {CONSOLE}, which is PgBouncer's console"
        problems.append(ConfigProblem(f"pgbouncer.{key}", what, "Leave the database out."))
    return settings


def _settings(
    section: PostgresSection | None, table: str, base: PostgresSettings, problems: list[ConfigProblem]
) -> PostgresSettings | None:
    given = _given(section)
    if section is None or not given:
        return None
    if section.url is not None:
        fitting = {"url", "sslrootcert", "sslcert", "sslkey"}
        _refuse_beside(table, given, fitting, problems)
        certificates = {key: given[key] for key in fitting & given.keys() if key != "url"}
        base = msgspec.structs.replace(base, **certificates)
        return postgres_from_url(section.url, f"{table}.url", base, problems)
    if section.host is None:
        problems.append(
            _nowhere(table, {"pgbouncer": "PgBouncer", "replica": "the replica"}.get(table, "Postgres"))
        )
    return msgspec.structs.replace(base, **given)


def _given(section: Section | None) -> dict[str, Any]:
    if section is None:
        return {}
    return {k: v for k in section.__struct_fields__ if (v := getattr(section, k)) is not None}


def _nowhere(table: str, what: str) -> ConfigProblem:
    cure = (
        f"Set {table}.url or {table}.host, or remove the table to use what Mastodon's .env.production says."
    )
    return ConfigProblem(table, f"does not say where {what} is", cure)


def _refuse_beside(
    table: str, given: dict[str, Any], fitting: set[str], problems: list[ConfigProblem]
) -> None:
    for key in sorted(given.keys() - fitting):
        problems.append(
            ConfigProblem(
                f"{table}.{key}", f"given beside {table}.url", "Say it in the url, or drop the url."
            )
        )


def _sentinels(entries: tuple[str, ...], problems: list[ConfigProblem]) -> tuple[tuple[str, int], ...]:
    """("host", port) of each "HOST[:PORT]"; Sentinel's own port is 26379."""
    pairs = []
    for entry in entries:
        host, _, port = entry.rpartition(":") if ":" in entry else (entry, "", "26379")
        if (
            not host
            or not host.isprintable()
            or "@" in host
            or not (port.isascii() and port.isdecimal())
            or not 1 <= int(port[:9]) <= 65_535
        ):
            what = 'an entry is not "HOST" or "HOST:PORT"'
            problems.append(ConfigProblem("redis.sentinels", what, 'Write e.g. ["10.0.0.5:26379"].'))
            continue
        pairs.append((host, int(port)))
    return tuple(pairs)
