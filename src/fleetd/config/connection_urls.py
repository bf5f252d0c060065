"""redis:// rediss:// unix:// and postgres:// addresses to settings.

A problem names the key and never the address: it may hold a password.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlsplit

from fleetd.config.connections import PostgresSettings, RedisSettings
from fleetd.errors import ConfigProblem

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
DATABASES_MAX = 1_000_000  # of Redis; a sane bound, its own default is 16
_REDIS_CURE = "Write redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH[?db=DB]."
_POSTGRES_CURE = "Write postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=MODE]."
_RESERVED = "percent-encode reserved characters in the password (@ as %40, / as %2F, # as %23)"


def whole_number(text: str, key: str, low: int, high: int, problems: list[ConfigProblem]) -> int | None:
    """The number in `text` if it lies in low…high; otherwise a problem is added and None returned."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 9 and low <= int(digits) <= high:
        return int(digits)
    what = f"must be a whole number from {low} to {high}"
    problems.append(ConfigProblem(key, what, f"Correct {key}, or remove it for the default."))
    return None


def redis_from_url(
    url: str, key: str, namespace: str | None, problems: list[ConfigProblem]
) -> RedisSettings | None:
    """Settings of a Redis address, as redis-client reads it; None when a problem was added."""
    parts = _split(url, key, _REDIS_CURE, problems)
    if parts is None:
        return None
    if parts.scheme not in ("redis", "rediss", "unix"):
        problems.append(ConfigProblem(key, "does not begin with redis://, rediss:// or unix://", _REDIS_CURE))
        return None
    # Without a colon the part before @ is the password: redis-client reads it so.
    user, password = (
        (parts.username, parts.password) if parts.password is not None else (None, parts.username)
    )
    username, secret = unquote(user) if user else None, unquote_plus(password) if password else None
    unix = parts.scheme == "unix"
    if unix and not parts.path:
        problems.append(ConfigProblem(key, "names no socket", _REDIS_CURE))
        return None
    db_text = dict(parse_qsl(parts.query)).get("db") or ("" if unix else parts.path.strip("/")) or "0"
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
    """`base` with each part that the address gives replaced, as ActiveRecord merges DATABASE_URL."""
    parts = _split(url, key, _POSTGRES_CURE, problems)
    if parts is None:
        return None
    if parts.scheme not in ("postgres", "postgresql", "postgis"):
        problems.append(ConfigProblem(key, "does not begin with postgresql://", _POSTGRES_CURE))
        return None
    query = dict(parse_qsl(parts.query.replace("+", "%2B")))
    sslmode = query.get("sslmode", base.sslmode)
    if sslmode not in SSL_MODES:
        problems.append(
            ConfigProblem(f"{key}'s sslmode", "is not one of libpq's", f"One of {', '.join(SSL_MODES)}.")
        )
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
        problems.append(ConfigProblem(key, "has a # in it", f"{cure[:-1]}; {_RESERVED}."))
        return None
    return parts
