"""[redis], [postgres], [pgbouncer] and [replica]: how to reach them, as plain values that never show a secret.

A table replaces all of Mastodon's settings: nothing is mixed from two files. A problem names the key and never the
address, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit

import msgspec

from fleetd.config.access_tables import DATABASES_MAX, PostgresSection, RedisSection, Section, SslMode
from fleetd.core.model.facts import Value
from fleetd.errors import ConfigProblem

PGBOUNCER_PORT = 6432
SENTINEL_PORT = 26_379
#: PgBouncer's console is a database of this name.
CONSOLE = "pgbouncer"

#: `more` may hold sslpassword.
_SECRETS = frozenset({"password", "sentinel_password", "more"})


class _WithSecrets(Value, frozen=True, kw_only=True):
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, "***" if name in _SECRETS and value else value) for name, value in fields]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in self.__rich_repr__())})"


class RedisSettings(_WithSecrets, frozen=True, kw_only=True):
    """The Redis that Sidekiq uses: a unix socket, else Sentinels, else host and port."""

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = None
    unix_socket: str | None = None
    tls: bool = False  # server certificate and host name are verified
    tls_ca_file: str | None = None  # None: the system's
    sentinel_master: str | None = None  # with `sentinels`: the primary's name there
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    namespace: str | None = None  # Mastodon ≤ 4.3: every Sidekiq key begins with "<namespace>:", also if that is ""

    @property
    def key_prefix(self) -> str:
        return f"{self.namespace}:" if self.namespace is not None else ""

    @property
    def endpoint(self) -> str:
        """Where this is, for a sentence to the admin."""
        if self.unix_socket:
            return self.unix_socket
        if self.sentinel_master:
            return f"Sentinel's '{self.sentinel_master}'"
        return f"{self.host}:{self.port}"

    @property
    def place(self) -> str:
        """Where Sidekiq's keys are: the endpoint, the database in it, and the namespace in that."""
        return f"{self.endpoint}, database {self.db}" + (
            f", namespace {self.namespace or '(empty)'}" if self.namespace is not None else ""
        )


class PostgresSettings(_WithSecrets, frozen=True, kw_only=True):
    """Mastodon's Postgres, or the PgBouncer in front of it. None: libpq's own default."""

    host: str | None = "localhost"  # a path: directory of the unix socket
    port: int | None = 5432
    dbname: str = "mastodon_production"
    user: str = "mastodon"
    password: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    cleartext_password: bool = False  # the server may ask for it even where others could read it
    more_ports: tuple[int, ...] = ()  # of the second host in `host` and the following ones
    more: tuple[tuple[str, str], ...] = ()  # what else libpq is told, such as target_session_attrs

    @property
    def ports(self) -> tuple[int, ...]:
        """One for each host, or one for all."""
        return (self.port, *self.more_ports) if self.port is not None else ()


SSL_MODES = get_args(SslMode)
_REDIS_CURE = "Write redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH[?db=DB]."
_POSTGRES_CURE = "Write postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=MODE]."
_RESERVED = "percent-encode reserved characters in the password (@ as %40, / as %2F, # as %23)"


def whole_number(text: str, key: str, low: int, high: int, problems: list[ConfigProblem]) -> int | None:
    """The number in `text` if it is from low to high; else a problem is added and None returned."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 9 and low <= int(digits) <= high:
        return int(digits)
    what = f"must be a whole number from {low} to {high}"
    problems.append(ConfigProblem(key, what, f"Correct {key}, or remove it for the default."))
    return None


def sentinel_addresses(
    entries: Iterable[str], key: str, default_port: int | None, problems: list[ConfigProblem]
) -> tuple[tuple[str, int], ...]:
    """("host", port) of each "HOST" or "HOST:PORT"."""
    addresses = []
    for entry in entries:
        host, _, port_text = entry.rpartition(":") if ":" in entry else (entry, "", "")
        if not host or not host.isprintable() or "@" in host:
            what = "has an entry that is not HOST or HOST:PORT"
            problems.append(ConfigProblem(key, what, "Write entries such as 10.0.0.5:26379."))
            continue
        port = whole_number(port_text, key, 1, 65_535, problems) if port_text else default_port
        if port is not None:
            addresses.append((host, port))
    return tuple(addresses)


def redis_from_url(url: str, key: str, namespace: str | None, problems: list[ConfigProblem]) -> RedisSettings | None:
    """The settings in a Redis address, as redis-client reads it; None when a problem was added."""
    parts = _split(url, key, _REDIS_CURE, problems)
    if parts is None:
        return None
    if parts.scheme not in ("redis", "rediss", "unix"):
        problems.append(ConfigProblem(key, "does not begin with redis://, rediss:// or unix://", _REDIS_CURE))
        return None
    # Without a colon the part before @ is the password: redis-client reads it so.
    user, password = (parts.username, parts.password) if parts.password is not None else (None, parts.username)
    username, secret = unquote(user) if user else None, unquote_plus(password) if password else None
    unix = parts.scheme == "unix"
    if unix and not parts.path:
        problems.append(ConfigProblem(key, "names no socket", _REDIS_CURE))
        return None
    db_text = ("" if unix else parts.path.strip("/")) or dict(parse_qsl(parts.query)).get("db") or "0"
    db = whole_number(db_text, f"{key}'s database", 0, DATABASES_MAX, problems)
    if db is None:
        return None
    if unix:
        return RedisSettings(
            unix_socket=unquote(parts.path), db=db, username=username, password=secret, namespace=namespace
        )
    return RedisSettings(
        host=parts.hostname or "localhost",
        port=parts.port or 6379,
        db=db,
        username=username,
        password=secret,
        tls=parts.scheme == "rediss",
        namespace=namespace,
    )


def postgres_from_url(
    url: str, key: str, base: PostgresSettings, problems: list[ConfigProblem]
) -> PostgresSettings | None:
    """`base`, of which the address replaces each part that it has, as ActiveRecord merges DATABASE_URL."""
    parts = _split(url, key, _POSTGRES_CURE, problems)
    if parts is None:
        return None
    if parts.scheme not in ("postgres", "postgresql", "postgis"):
        problems.append(ConfigProblem(key, "does not begin with postgresql://", _POSTGRES_CURE))
        return None
    query = dict(parse_qsl(parts.query.replace("+", "%2B")))
    sslmode = query.get("sslmode", base.sslmode)
    if sslmode not in SSL_MODES:
        problems.append(ConfigProblem(f"{key}'s sslmode", "is not one of libpq's", f"One of {', '.join(SSL_MODES)}."))
        return None
    port: int | None = parts.port or base.port
    if "port" in query:
        port = whole_number(query["port"], f"{key}'s port", 1, 65535, problems)
        if port is None:
            return None
    return PostgresSettings(
        host=query.get("host") or unquote(parts.hostname or "") or base.host,
        port=port,
        dbname=query.get("database") or unquote(parts.path.strip("/")) or base.dbname,
        user=query.get("username") or unquote(parts.username or "") or base.user,
        password=query.get("password") or unquote(parts.password or "") or base.password,
        sslmode=sslmode,
        sslrootcert=query.get("sslrootcert", base.sslrootcert),
        sslcert=query.get("sslcert", base.sslcert),
        sslkey=query.get("sslkey", base.sslkey),
    )


def _split(url: str, key: str, cure: str, problems: list[ConfigProblem]) -> SplitResult | None:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises ValueError for a port that is none
    except ValueError:
        problems.append(ConfigProblem(key, "is not a valid address", f"{cure[:-1]}; {_RESERVED}."))
        return None
    if parts.fragment:
        problems.append(ConfigProblem(key, "contains a #", f"{cure[:-1]}; {_RESERVED}."))
        return None
    return parts


def redis_settings(section: RedisSection | None, problems: list[ConfigProblem]) -> RedisSettings | None:
    """The Redis that the file names; None when it leaves that to .env.production."""
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
    entries = section.sentinels or ()
    given["sentinels"] = sentinel_addresses(entries, "redis.sentinels", SENTINEL_PORT, problems)
    return RedisSettings(**given)


def postgres_settings(
    section: PostgresSection | None, problems: list[ConfigProblem], table: str = "postgres"
) -> PostgresSettings | None:
    """The Postgres that [postgres] or [replica] names; None when it leaves that to .env.production."""
    return _settings(section, table, PostgresSettings(), problems)


def pgbouncer_settings(section: PostgresSection | None, problems: list[ConfigProblem]) -> PostgresSettings | None:
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
        problems.append(_nowhere(table, {"pgbouncer": "PgBouncer", "replica": "the replica"}.get(table, "Postgres")))
    return msgspec.structs.replace(base, **given)


def _given(section: Section | None) -> dict[str, Any]:
    if section is None:
        return {}
    return {k: v for k in section.__struct_fields__ if (v := getattr(section, k)) is not None}


def _nowhere(table: str, what: str) -> ConfigProblem:
    cure = f"Set {table}.url or {table}.host, or remove the table to use what Mastodon's .env.production says."
    return ConfigProblem(table, f"does not say where {what} is", cure)


def _refuse_beside(table: str, given: dict[str, Any], fitting: set[str], problems: list[ConfigProblem]) -> None:
    for key in sorted(given.keys() - fitting):
        problems.append(
            ConfigProblem(f"{table}.{key}", f"given beside {table}.url", "Say it in the url, or drop the url.")
        )
