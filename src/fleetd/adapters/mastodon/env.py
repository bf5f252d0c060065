"""From Mastodon's `.env.production` to connection settings, with Mastodon's own precedence.

Sources: Mastodon's `lib/mastodon/redis_configuration.rb` and `config/database.yml`. python-dotenv finds the bindings;
what a value means is taken from dotenv-ruby's `parser.rb` and `substitutions/variable.rb`, which differ. The process
environment is neither read nor changed, and no problem repeats a value.
"""

from __future__ import annotations

import io
import re

from dotenv.parser import Binding, parse_stream

from fleetd.config.access_tables import DATABASES_MAX
from fleetd.config.connections import (
    SENTINEL_PORT,
    SSL_MODES,
    PostgresSettings,
    RedisSettings,
    postgres_from_url,
    redis_from_url,
    sentinel_addresses,
    whole_number,
)
from fleetd.errors import ConfigProblem

_OURS = re.compile(r"\b(?:SIDEKIQ_)?REDIS_[A-Z_]+|\b(?:REPLICA_)?DB_[A-Z]+|\b(?:REPLICA_)?DATABASE_URL|\bPGSSL[A-Z]+")
_VALUE = re.compile(r"\s*(?:export\s+)?[^=\s]+\s*=[^\S\r\n]*(.*)", re.DOTALL)
_VARIABLE = re.compile(r"(\\)?\$(?!\()\{?([A-Za-z0-9_]+)?\}?")
_COMMAND = re.compile(r"(?<!\\)\$\(")
_ESCAPED = re.compile(r"\\([^$nr])")  # \n and \r stay two characters, as in dotenv 3


def read_env(text: str) -> tuple[dict[str, str], list[ConfigProblem]]:
    """The variables of a dotenv file as dotenv-ruby would set them in an otherwise empty environment."""
    env: dict[str, str] = {}
    problems: list[ConfigProblem] = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # Other lines may be as they like: fleetd does not need them.
            if name := _OURS.search(binding.original.string):
                what = f"line {binding.original.line} can't be understood"
                problems.append(ConfigProblem(name[0], what, "Write NAME=value, with both quotes or none."))
        elif binding.key and binding.value is not None:
            env[binding.key] = _value(binding, env, problems)
    return env, problems


def _value(binding: Binding, env: dict[str, str], problems: list[ConfigProblem]) -> str:
    """A value as dotenv-ruby reads it: it expands $NAME, and cuts an unquoted value at any #."""
    match = _VALUE.match(binding.original.string)
    raw = match[1] if match else ""
    if raw.startswith("'"):
        return raw[1 : raw.rindex("'")] if raw.count("'") > 1 else raw
    if raw.startswith('"'):
        quoted = re.match(r'"((?:\\.|[^"\\])*)"', raw, re.DOTALL)
        value = quoted[1] if quoted else raw
    else:
        value = raw.split("#", 1)[0].strip()
    value = _ESCAPED.sub(r"\1", value)
    if _COMMAND.search(value) and binding.key and _OURS.fullmatch(binding.key):
        what = "takes its value from a command, which fleetd does not run"
        problems.append(ConfigProblem(binding.key, what, "Write the value itself."))
    return _VARIABLE.sub(lambda m: _variable(m, env), value)


def _variable(match: re.Match[str], env: dict[str, str]) -> str:
    if match[1]:
        return match[0][1:]
    return env.get(match[2], "") if match[2] else match[0]


def redis_settings(env: dict[str, str], problems: list[ConfigProblem]) -> RedisSettings | None:
    """Sidekiq's Redis: all settings with the prefix SIDEKIQ_, or else all without it; never a mixture."""
    before = len(problems)
    for prefix in ("SIDEKIQ_", ""):
        settings = _redis(env, f"{prefix}REDIS_", problems)
        if settings is not None:
            return settings
        if len(problems) > before:
            return None
    return _redis_by_host(env, "REDIS_", problems)


def _redis(env: dict[str, str], prefix: str, problems: list[ConfigProblem]) -> RedisSettings | None:
    """The settings with one prefix; None when there is no address, Sentinel or host, or a problem was added."""
    if url := env.get(f"{prefix}URL"):
        return redis_from_url(url, f"{prefix}URL", env.get("REDIS_NAMESPACE") or None, problems)
    if env.get(f"{prefix}SENTINEL_MASTER") and env.get(f"{prefix}SENTINELS", "").strip(", "):
        return _redis_by_sentinel(env, prefix, problems)
    if env.get(f"{prefix}HOST"):
        return _redis_by_host(env, prefix, problems)
    return None


def _redis_by_host(env: dict[str, str], prefix: str, problems: list[ConfigProblem]) -> RedisSettings | None:
    port = whole_number(env.get(f"{prefix}PORT") or "6379", f"{prefix}PORT", 1, 65535, problems)
    db = whole_number(env.get(f"{prefix}DB") or "0", f"{prefix}DB", 0, DATABASES_MAX, problems)
    if port is None or db is None:
        return None
    return RedisSettings(
        host=env.get(f"{prefix}HOST") or "localhost",
        port=port,
        db=db,
        username=env.get(f"{prefix}USER") or None,
        password=env.get(f"{prefix}PASSWORD") or None,
        namespace=env.get("REDIS_NAMESPACE") or None,
    )


def _redis_by_sentinel(env: dict[str, str], prefix: str, problems: list[ConfigProblem]) -> RedisSettings | None:
    before = len(problems)
    port_key, list_key = f"{prefix}SENTINEL_PORT", f"{prefix}SENTINELS"
    default_port = whole_number(env.get(port_key) or str(SENTINEL_PORT), port_key, 1, 65535, problems)
    db = whole_number(env.get(f"{prefix}DB") or "0", f"{prefix}DB", 0, DATABASES_MAX, problems)
    entries = filter(None, (part.strip() for part in env[list_key].split(",")))
    sentinels = sentinel_addresses(entries, list_key, default_port, problems)
    if db is None or len(problems) > before:
        return None
    return RedisSettings(
        db=db,
        username=env.get(f"{prefix}USER") or None,
        password=env.get(f"{prefix}PASSWORD") or None,
        sentinel_master=env[f"{prefix}SENTINEL_MASTER"],
        sentinels=sentinels,
        sentinel_username=env.get(f"{prefix}SENTINEL_USERNAME") or None,
        sentinel_password=env.get(f"{prefix}SENTINEL_PASSWORD") or None,
        namespace=env.get("REDIS_NAMESPACE") or None,
    )


def postgres_settings(env: dict[str, str], problems: list[ConfigProblem]) -> PostgresSettings | None:
    """Mastodon's database: DB_*, of which DATABASE_URL replaces each part that it has, as in ActiveRecord."""
    return _postgres(env, ("DB_",), "DATABASE_URL", problems)


def replica_settings(env: dict[str, str], problems: list[ConfigProblem]) -> PostgresSettings | None:
    """The replica that Mastodon reads from; None: there is none, or a problem was added.

    REPLICA_DB_NAME or REPLICA_DATABASE_URL make Mastodon use one (app/helpers/database_helper.rb); REPLICA_DB_HOST by
    itself changes nothing. What REPLICA_DB_* leaves out comes from DB_*.
    """
    if not (env.get("REPLICA_DB_NAME") or env.get("REPLICA_DATABASE_URL")):
        return None
    return _postgres(env, ("REPLICA_DB_", "DB_"), "REPLICA_DATABASE_URL", problems)


def without_prepared_statements(env: dict[str, str]) -> bool:
    """Whether prepared statements are off, as Mastodon's documentation asks for PgBouncer in transaction mode."""
    return env.get("PREPARED_STATEMENTS", "").lower() in ("false", "no", "off") or (
        "prepared_statements=false" in env.get("DATABASE_URL", "")
    )


def _postgres(
    env: dict[str, str], prefixes: tuple[str, ...], url_key: str, problems: list[ConfigProblem]
) -> PostgresSettings | None:
    """A DB_HOST or DB_PORT that is set but empty means libpq's default, which is the local socket for the host."""

    def key(name: str) -> str:
        return next((prefix + name for prefix in prefixes if prefix + name in env), prefixes[-1] + name)

    before = len(problems)
    port_text = env.get(key("PORT"), "5432")
    port = whole_number(port_text, key("PORT"), 1, 65535, problems) if port_text else None
    sslmode = env.get("DB_SSLMODE") or "prefer"
    if sslmode not in SSL_MODES:
        problems.append(ConfigProblem("DB_SSLMODE", "is not one of libpq's", f"One of {', '.join(SSL_MODES)}."))
    if len(problems) > before:
        return None
    settings = PostgresSettings(
        host=env.get(key("HOST"), "localhost") or None,
        port=port,
        dbname=env.get(key("NAME")) or "mastodon_production",
        user=env.get(key("USER")) or "mastodon",
        password=env.get(key("PASS")) or None,
        sslmode=sslmode,
        sslrootcert=env.get("PGSSLROOTCERT") or None,
        sslcert=env.get("PGSSLCERT") or None,
        sslkey=env.get("PGSSLKEY") or None,
    )
    url = env.get(url_key)
    return postgres_from_url(url, url_key, settings, problems) if url else settings
