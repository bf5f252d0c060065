"""From Mastodon's variables to its database and the replica, by the rules of each release.

Sources: Mastodon's `config/database.yml`, `app/helpers/database_helper.rb`; ActiveRecord 7.0 to 8.1,
`database_configurations/` (an address replaces each part that it has, and its query goes to ActiveRecord and libpq
whole) and `postgresql_adapter.rb`; libpq's environment variables. tests/adapters/mastodon/settings_table.jsonl has what
they made of it. No problem repeats a value.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias
from urllib.parse import unquote

from fleetd.adapters.mastodon.dotenv import Variables
from fleetd.adapters.mastodon.plain_yaml import NOTHING, UnclearError, plain_scalar
from fleetd.adapters.mastodon.releases import NEWEST, Release
from fleetd.config.connections import SSL_MODES, PostgresSettings
from fleetd.core.model.facts import Value
from fleetd.errors import ConfigProblem

Which: TypeAlias = Literal["primary", "replica"]

#: What libpq 15 takes: ActiveRecord leaves everything else in an address away.
_LIBPQ = frozenset(
    [
        "service",
        "user",
        "password",
        "passfile",
        "channel_binding",
        "connect_timeout",
        "dbname",
        "host",
        "hostaddr",
        "port",
        "client_encoding",
        "options",
        "application_name",
        "fallback_application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslmode",
        "sslcompression",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslrootcert",
        "sslcrl",
        "sslcrldir",
        "sslsni",
        "requirepeer",
        "require_auth",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "gssencmode",
        "krbsrvname",
        "gsslib",
        "replication",
        "target_session_attrs",
        # libpq 16 to 18
        "sslcertmode",
        "load_balance_hosts",
        "sslnegotiation",
    ]
)
#: fleetd logs in under its own name, with its own deadlines and without Mastodon's options for a session.
_NOT_FOR_FLEETD = frozenset(
    [
        "application_name",
        "fallback_application_name",
        "options",
        "connect_timeout",
        "client_encoding",
        "replication",
        "host",
        "port",
        "dbname",
        "user",
        "password",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
    ]
)
#: libpq's variables for what Mastodon leaves out.
_PG_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "channel_binding": "PGCHANNELBINDING",
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "sslsni": "PGSSLSNI",
    "sslcertmode": "PGSSLCERTMODE",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "sslnegotiation": "PGSSLNEGOTIATION",
}

_CURE = "Write postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=MODE]"
_RESERVED = "percent-encode reserved characters in the password (@ as %40, / as %2F, # as %23)"
_SEVERAL = "several hosts stand in its query: ?host=A,B"
_ESCAPED = "%[0-9A-Fa-f]{2}"
_MARKS = r"\-_.!~*'()A-Za-z0-9"
#: RFC 2396, as Ruby's URI::RFC2396_Parser splits an address: a host has no underscore and no comma.
_PATH = rf"(?:[{_MARKS}:@&=+$,;/]|{_ESCAPED})*"
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):"
    rf"(?:(?P<opaque>(?:[{_MARKS};:@&=+$,]|{_ESCAPED})(?:[{_MARKS};/:@&=+$,\[\]]|{_ESCAPED})*)"
    rf"|(?://(?:(?:(?P<userinfo>(?:[{_MARKS};:&=+$,]|{_ESCAPED})*)@)?"
    rf"(?P<host>\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-.]|{_ESCAPED})+)(?::(?P<port>[0-9]*))?)?(?=[/?#]|\Z)|(?!//))"
    rf"(?P<path>/{_PATH})?)"
    rf"(?:\?(?P<query>(?:[{_MARKS};/?:@&=+$,\[\]]|{_ESCAPED})*))?(?:\#(?:[{_MARKS};/?:@&=+$,\[\]]|{_ESCAPED})*)?"
)


class Database(Value, frozen=True, kw_only=True):
    """What a worker connects to."""

    login: PostgresSettings  # user "": the name of the account that the workers run as
    pool: int | None  # connections, where an address says so: it beats DB_POOL
    prepared_statements: bool
    names_itself: str  # the key of the address that takes our name from its connections; "": there is none


class Parameters(Value, frozen=True, kw_only=True):
    """What ActiveRecord hands to libpq, and what it keeps."""

    libpq: dict[str, str]
    pool: str | None  # as an address has it
    prepared_statements: bool
    from_address: frozenset[str] = frozenset()  # which of libpq's an address says


def database_settings(
    variables: Variables, problems: list[ConfigProblem], release: Release = NEWEST
) -> Database | None:
    """Mastodon's database; None: a problem was added."""
    return _database(variables, problems, release, "primary")


def replica_settings(variables: Variables, problems: list[ConfigProblem], release: Release = NEWEST) -> Database | None:
    """The replica that Mastodon reads from; None: there is none, or a problem was added."""
    keys = ["REPLICA_DB_NAME", "REPLICA_DATABASE_URL"]
    if release >= (4, 6):
        keys.append("REPLICA_DB_HOST")
    if not any(variables.has(key) for key in keys):
        return None
    return _database(variables, problems, release, "replica")


def parameters_of(variables: Variables, problems: list[ConfigProblem], release: Release, which: Which) -> Parameters:
    """As ActiveRecord has them; without what a problem was added for."""
    config = _from_yaml(variables, problems, release, which)
    key, url = _address(variables, problems, which)
    given = _from_url(url, key, problems) if url is not None and not _is_ignored(url) else {}
    config |= given
    libpq = {name: value for name, value in config.items() if value is not None and name in _LIBPQ}
    for ours, theirs in (("username", "user"), ("database", "dbname")):
        if config.get(ours):
            libpq[theirs] = config[ours] or ""
    pool = given.get("max_connections") if release >= (4, 6) else None
    prepared = config["prepared_statements"]
    return Parameters(
        libpq=libpq,
        pool=pool if pool is not None else given.get("pool"),
        prepared_statements=prepared is not None and prepared != "false",
        from_address=frozenset(given),
    )


def _database(variables: Variables, problems: list[ConfigProblem], release: Release, which: Which) -> Database | None:
    before = len(problems)
    found = parameters_of(variables, problems, release, which)
    key, _ = _address(variables, problems, which)
    libpq = dict(found.libpq)
    for name, variable in _PG_VARIABLES.items():
        # An address has been set to something, an empty password too: libpq then asks no variable.
        if name not in libpq and (value := variables.get(variable, problems)):
            libpq[name] = value
    named = f"{key}'s port" if "port" in found.from_address else _key(variables, which, "DB_PORT")
    ports = _ports(libpq.get("port"), named, problems)
    pool = _pool(found.pool, key, problems)
    mode = libpq.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        where = f"{key}'s sslmode" if "sslmode" in found.from_address else "DB_SSLMODE"
        problems.append(ConfigProblem(where, "is not one of libpq's", f"One of {', '.join(SSL_MODES)}."))
    # An @ is a password at the wrong place, more likely than a name; a name is shown.
    if any(letter.isspace() for letter in libpq.get("host", "")) or "@" in libpq.get("host", "")[1:]:
        where = key if "host" in found.from_address else _key(variables, which, "DB_HOST")
        problems.append(ConfigProblem(where, "is no host", "Write a name, an address, or a socket's directory."))
    if "@" in libpq.get("dbname", ""):
        where = key if "database" in found.from_address else _key(variables, which, "DB_NAME")
        problems.append(ConfigProblem(where, "has an @ in the name of the database", f"{_CURE}; {_RESERVED}."))
    if len(problems) > before:
        return None
    more = tuple(sorted((name, value) for name, value in libpq.items() if name not in _NOT_FOR_FLEETD))
    login = PostgresSettings(
        host=libpq.get("host"),
        port=ports[0] if ports else None,
        more_ports=ports[1:],
        dbname=libpq.get("dbname", ""),
        user=libpq.get("user", ""),
        password=libpq.get("password") or None,
        sslmode=mode,
        sslrootcert=libpq.get("sslrootcert"),
        sslcert=libpq.get("sslcert"),
        sslkey=libpq.get("sslkey"),
        more=more,
    )
    itself = next((name for name in ("application_name", "options") if libpq.get(name)), "")
    return Database(
        login=login,
        pool=pool,
        prepared_statements=found.prepared_statements,
        names_itself=f"{key} has {itself}=" if itself else "",
    )


def _key(variables: Variables, which: Which, name: str) -> str:
    """The variable that is read: REPLICA_… if it is set, for the replica."""
    return f"REPLICA_{name}" if which == "replica" and variables.has(f"REPLICA_{name}") else name


def _from_yaml(
    variables: Variables, problems: list[ConfigProblem], release: Release, which: Which
) -> dict[str, str | None]:
    """config/database.yml: a variable that is set to nothing counts as set, and its part is left to libpq."""

    def scalar(name: str, default: str) -> str | None:
        key = _key(variables, "primary" if name == "DB_SSLMODE" else which, name)
        text = (variables.get(key, problems) or "") if variables.has(key) else default
        try:
            return plain_scalar(text)
        except UnclearError:
            what = "is not read as this text by Mastodon, which inserts it into YAML without quotes"
            problems.append(ConfigProblem(key, what, "Write it without special characters, or use DATABASE_URL."))
            return None

    return {
        "sslmode": scalar("DB_SSLMODE", "prefer"),
        "application_name": "",
        "connect_timeout": "15",
        "database": scalar("DB_NAME", "mastodon_production"),
        "username": scalar("DB_USER", "mastodon"),
        "password": _password(variables, problems, which),
        "host": scalar("DB_HOST", "localhost"),
        "port": scalar("DB_PORT", "5432"),
        "prepared_statements": _prepared(variables, problems, which if release >= (4, 4) else "primary"),
    }


def _password(variables: Variables, problems: list[ConfigProblem], which: Which) -> str:
    key = _key(variables, which, "DB_PASS")
    text = variables.get(key, problems) or ""
    if "\x85" in text:  # in quotes, of which YAML makes a blank
        what = "has a letter (U+0085, an old line break) of which Mastodon makes a blank"
        problems.append(ConfigProblem(key, what, "Give the role another password."))
    return text


def _prepared(variables: Variables, problems: list[ConfigProblem], which: Which) -> str | None:
    """ "false" if prepared statements are off; None if the variable is empty, which turns them off as well."""
    key = _key(variables, which, "PREPARED_STATEMENTS")
    text = ((variables.get(key, problems) or "") if variables.has(key) else "true").strip()
    match = re.fullmatch(r"(['\"]?)([\w.]*)\1", text)
    if text in NOTHING:
        return None
    if match is None:
        problems.append(ConfigProblem(key, "is neither true nor false", f"Write {key}=true or false."))
        return None
    if not match[2]:
        return None
    if match[1]:  # a text, and ActiveRecord knows but one that means no
        return "false" if match[2] == "false" else "true"
    return "false" if match[2].lower() in ("false", "no", "off") else "true"


def _address(variables: Variables, problems: list[ConfigProblem], which: Which) -> tuple[str, str | None]:
    """The name of the variable with the address, and the address; ("", None): there is none."""
    keys = ("PRIMARY_DATABASE_URL", "DATABASE_URL") if which == "primary" else ("REPLICA_DATABASE_URL",)
    for key in keys:
        if variables.has(key):
            return key, variables.get(key, problems)
    return "", None


def _is_ignored(url: str) -> bool:
    return url.startswith(("jdbc:", "http:", "https:"))


def _from_url(url: str, key: str, problems: list[ConfigProblem]) -> dict[str, str | None]:
    """ActiveRecord's ConnectionUrlResolver: without what is blank, and with %XX decoded."""
    if not url.strip():
        problems.append(ConfigProblem(key, "is empty, with which Mastodon does not start", f"{_CURE}, or remove it."))
        return {}
    match = _URL.fullmatch(url.strip())
    query = match["query"] or "" if match else ""
    pairs = [pair.partition("=") for pair in query.rstrip("&").split("&")] if query else []
    empty = match is not None and match["opaque"] is match["host"] is match["path"] is None
    if match is None or empty or any(not name and not equals for name, equals, _ in pairs):
        cure = f"{_CURE}; {_RESERVED}; {_SEVERAL}."
        problems.append(ConfigProblem(key, "is not an address with which Mastodon starts", cure))
        return {}
    scheme = match["scheme"].lower()
    user, colon, password = (match["userinfo"] or "").partition(":")
    given: dict[str, str | None] = {
        "adapter": scheme,
        "username": user,
        "password": password if colon else None,
        "port": match["port"],
        "database": (match["path"] or "").removeprefix("/"),
        "host": (match["host"] or "").removeprefix("[").removesuffix("]"),
    }
    asked = {name: value if equals else None for name, equals, value in pairs}
    if match["opaque"] is None:
        given |= asked
    else:
        given = asked | {"adapter": scheme, "database": match["opaque"]}
    if "requiressl" in asked:
        problems.append(ConfigProblem(key, "has requiressl=, of which libpq makes sslmode=", "Write sslmode=require."))
        return {}
    if given["adapter"] != "postgresql" and (given["adapter"] != "postgres" or "adapter" in asked):
        problems.append(ConfigProblem(key, "does not begin with postgresql://", f"{_CURE}."))
        return {}
    try:
        return {name: unquote(value, errors="strict") for name, value in given.items() if value and value.strip()}
    except UnicodeDecodeError:
        problems.append(ConfigProblem(key, "has a %XX that is not UTF-8", f"{_CURE}; {_RESERVED}."))
        return {}


def _ports(text: str | None, key: str, problems: list[ConfigProblem]) -> tuple[int, ...]:
    if text is None:
        return ()
    ports = text.split(",")
    if all(re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65_535 for port in ports):
        return tuple(map(int, ports))
    cure = f"Correct {key}, or remove it for the default."
    problems.append(ConfigProblem(key, "must be a whole number from 1 to 65535", cure))
    return ()


def _pool(text: str | None, key: str, problems: list[ConfigProblem]) -> int | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= POOL_MAX:
        return int(text)
    what = f"is not a whole number from 1 to {POOL_MAX}"
    problems.append(ConfigProblem(f"{key}'s pool", what, "Correct it, or remove it: fleetd sets DB_POOL."))
    return None


#: As for db_pool in the configuration.
POOL_MAX = 1000
