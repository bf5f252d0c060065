"""How fleetd logs in to Postgres, a replica or PgBouncer, and how it reports failures without a secret.

libpq hands over the SQLSTATE of a failed query, but of a failed login only the server's text, which is in the language
of the server's lc_messages. English is understood, and PgBouncer speaks no other; in any other language a full server
is an unknown reading, during which the fleet does not grow (law 3). The phrases are those of PostgreSQL's postmaster.c
and postinit.c.

A server that asks for the password in the clear is not given it, unless nobody else can read it or the configuration
allows it: with sslmode = "prefer" whoever answers instead of the server could refuse TLS and ask.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg

from fleetd.adapters.database.login_steps import STILL_COMPUTING
from fleetd.adapters.logging.redaction import HIDDEN, without_secrets
from fleetd.config.connections import PostgresSettings
from fleetd.errors import SourceUnavailableError

#: Debian's and upstream's socket directory; the libpq inside psycopg's wheels looks in /tmp.
_SOCKET_DIRECTORY = "/var/run/postgresql"

Kind = Literal["postgres", "replica", "pgbouncer"]
_NAMES: dict[Kind, str] = {"postgres": "Postgres", "replica": "Postgres's replica", "pgbouncer": "PgBouncer"}

_LOGIN_REFUSED = "the login is refused: check pg_hba.conf on the server, and user and sslmode here"
_NOT_SERVING = "the server is starting, stopping or in recovery"
_CURES_BY_SQLSTATE = {
    "28000": _LOGIN_REFUSED,
    "42501": "this role may not read the statistics: GRANT pg_monitor TO it",
    "42703": "PostgreSQL 10 or newer is needed",
    "42883": "PostgreSQL 10 or newer is needed",
    "57014": "the count took too long and was cancelled: look at the server's load",
    "57P03": _NOT_SERVING,
}
#: A failed login has no SQLSTATE in libpq, only a text.
_CURES_BY_PHRASE = {
    "pg_hba.conf": _LOGIN_REFUSED,
    "Connection refused": "is it running, and does it listen there?",
    "No such file or directory": "is it running, and is this its socket directory?",
    "certificate verify failed": "check sslrootcert and sslmode",
    "does not support SSL": "check sslmode",
    "the database system is": _NOT_SERVING,
    STILL_COMPUTING: "is that the right server?",
    "timeout expired": "is the network between up, and its firewall open?",
}
_READ_AGAIN = "`systemctl restart fleetd`, which reads it again"
_WRONG_PASSWORD = ("password authentication failed", "SASL authentication failed")
_NO_PASSWORD = "no password supplied"  # noqa: S105
#: libpq's own words (fe-secure-openssl.c), which it does not translate in psycopg's wheels.
_CERTIFICATE = re.compile(r'(root certificate|certificate|private key) file "([^"]+)"')
#: libpq's own words (fe-auth.c), which it does not translate in psycopg's wheels.
_CLEAR_PASSWORD = "server requested a cleartext password"  # noqa: S105
_CLEAR_CURE = 'sslmode = "verify-full" with sslrootcert; to allow it all the same, '
#: The first libpq that knows require_auth.
_LIBPQ_REQUIRE_AUTH = 160_000
#: Over the local socket, without a password, Postgres goes by the operating system's user (pg_hba.conf: peer).
_BY_USER = re.compile(r'Peer authentication failed|role ".*" does not exist')
_OWN_ROLE = "fleetd"
_MESSAGE_LENGTH_MAX = 300


class Login:
    """Connection parameters for libpq, and the words for the server they lead to."""

    def __init__(self, settings: PostgresSettings, deadline_seconds: float, *, kind: Kind = "postgres") -> None:
        self._kind = kind
        self._parameters = _parameters(settings)
        self._parameters.update(
            application_name="fleetd",
            client_encoding="utf8",
            connect_timeout=max(2, math.ceil(deadline_seconds)),  # libpq takes none below 2
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        self._keeps_password = not settings.cleartext_password and not _safe_for_passwords(self._parameters)
        if self._keeps_password:
            self._parameters["require_auth"] = _without_clear_text(str(self._parameters.get("require_auth") or ""))
        self.user = str(self._parameters.get("user") or "")
        self.database = str(self._parameters.get("dbname") or self.user)
        host = str(self._parameters.get("host") or os.environ.get("PGHOST", ""))
        port = str(self._parameters.get("port") or 5432)
        at = f"in {host} ({port})" if host.startswith("/") else f"at {host}:{port}"
        self.where = f"{_NAMES[kind]} {at}"
        self._port = settings.port
        self._by_user = not settings.password and kind != "pgbouncer" and host.startswith(("/", "@"))
        secrets = (settings.password or "", dict(settings.more).get("sslpassword", ""))
        # Replacing a shorter one would garble every message; libpq itself never repeats a password.
        self._secrets = [text for secret in secrets for text in (secret, quote(secret, safe="")) if len(text) >= 4]

    def parameters(self) -> dict[str, Any]:
        """For libpq. Raises SourceUnavailableError where this libpq would give the password to whoever asks."""
        if self._keeps_password and psycopg.pq.version() < _LIBPQ_REQUIRE_AUTH:
            raise SourceUnavailableError(
                f"libpq {psycopg.pq.version() // 10000}, which fleetd is installed with, gives {self.where} the "
                f"password in the clear if it asks: install psycopg[binary] with libpq 16 or newer, or {_CLEAR_CURE}"
                f'network.cleartext_password = ["{self._kind}"]'
            )
        return dict(self._parameters)

    def clean(self, error: BaseException) -> str:
        """The error's first line, without secrets and not too long."""
        text = " ".join(str(error).split("Multiple connection attempts failed")[0].split())
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return without_secrets(text)[:_MESSAGE_LENGTH_MAX]

    def sentence(self, error: psycopg.Error) -> str:
        """Where, what is wrong and what to do, then libpq's own words; these alone where the error is not known."""
        message = self.clean(error)
        cure = self._cure(error.sqlstate, message)
        who = f", database {self.database} as {self.user or 'the default role'}"
        said = f"{cure}{'' if cure.endswith('?') else '.'} It says: {message}" if cure else message
        return f"{self.where}{who}: {said}"

    def _cure(self, sqlstate: str | None, message: str) -> str | None:
        prefix = "REPLICA_DB" if self._kind == "replica" else "DB"
        source = f"in .env.production, or [{self._kind}] in the configuration"
        if _NO_PASSWORD in message:
            line = copy_line("~mastodon/.pgpass", ".pgpass", "fleetd", "0600")
            return (
                f"{prefix}_PASS is empty. If workers have it from the .pgpass of their user, which fleetd can't read, "
                f"run {line} (again when it changes); or give fleetd a role of its own under [{self._kind}]"
            )
        if found := _CERTIFICATE.search(message):
            return self._certificate_cure(found[1], found[2])
        if sqlstate == "28P01" or any(phrase in message for phrase in _WRONG_PASSWORD):
            unknown = " or the user has no line in auth_file" if self._kind == "pgbouncer" else ""
            then = f"{_READ_AGAIN}, and `fleetctl restart` for workers that were started with it"
            return f"the password is wrong{unknown}: see that {prefix}_PASS is right {source}, then {then}"
        if sqlstate == "3D000":
            return f"the database does not exist: see that {prefix}_NAME is right {source}, then {_READ_AGAIN}"
        if _CLEAR_PASSWORD in message:
            return (
                "anyone on the way could read it, so it was not sent: use scram-sha-256 on the server, or here "
                f'{_CLEAR_CURE}network.cleartext_password = ["{self._kind}"]'
            )
        if self._by_user and _BY_USER.search(message):
            return self._own_role_cure(message)
        by_phrase = (cure for phrase, cure in _CURES_BY_PHRASE.items() if phrase in message)
        return _CURES_BY_SQLSTATE.get(sqlstate or "") or next(by_phrase, None)

    def _certificate_cure(self, what: str, file: str) -> str:
        """Certificates of the workers' user, whose home fleetd can't enter."""
        if "private key" in what or not what.startswith("root"):
            return (
                f"it is the workers' own, which fleetd can't use: give fleetd a login of its own under [{self._kind}]"
            )
        if file.endswith("/.postgresql/root.crt"):
            line = copy_line("~mastodon/.postgresql/root.crt", ".postgresql/root.crt", "root", "0644")
            return f"workers use the one in the home of their user, which fleetd can't enter: run {line}"
        return (
            f"fleetd can't read it: run sudo install -m 0644 {file} /etc/ssl/certs/mastodon-postgres.crt, and name "
            "that copy instead, which workers can read as well"
        )

    def _own_role_cure(self, message: str) -> str:
        if self.user != _OWN_ROLE:
            return (
                f"without a password Postgres goes by the operating system's user, and fleetd runs as {_OWN_ROLE}: set "
                f'user = "{_OWN_ROLE}" under [postgres], and run {own_role_line(self._port)}'
            )
        if "does not exist" in message:
            return f"run {own_role_line(self._port)}"
        return f"pg_hba.conf needs a line such as `local all all peer`, and fleetd has to run as user {_OWN_ROLE}"


def copy_line(file: str, to: str, owner: str, mode: str) -> str:
    """The command that gives fleetd a copy of a file in the home of the workers' user; libpq looks for it there."""
    return f"sudo install -D -o {owner} -m {mode} {file} /var/lib/fleetd/{to}"


def own_role_line(port: int | None) -> str:
    """The command that gives fleetd a role of its own. It sees everybody's connections and reads no table."""
    at = f" -p {port}" if port not in (None, 5432) else ""
    return f"sudo -u postgres psql{at} -c 'CREATE ROLE {_OWN_ROLE} LOGIN IN ROLE pg_monitor'"


def _parameters(settings: PostgresSettings) -> dict[str, Any]:
    names = ("host", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) not in (None, "")}
    given |= settings.more
    if settings.ports:
        given["port"] = ",".join(map(str, settings.ports))
    if "host" not in given and "service" not in given and "PGHOST" not in os.environ:
        given["host"] = _SOCKET_DIRECTORY if Path(_SOCKET_DIRECTORY).is_dir() else "localhost"
    return given


def _safe_for_passwords(parameters: dict[str, Any]) -> bool:
    """Whether nobody but the right server can read a password in the clear: a unix socket, or TLS with a known peer.

    `require` is not enough, since whoever is on the way can answer with a certificate of their own; nor is loopback,
    where any user of this host can listen while the server is down.
    """
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    return parameters.get("sslmode") in ("verify-ca", "verify-full") or all(h.startswith(("/", "@")) for h in hosts)


def _without_clear_text(given: str) -> str:
    """libpq's require_auth with which no password goes out in the clear, as strict as what Mastodon's settings ask."""
    methods = [method.strip() for method in given.split(",") if method.strip()]
    if all(method.startswith("!") for method in methods):
        return ",".join(dict.fromkeys([*methods, "!password"]))
    return ",".join(method for method in methods if method != "password") or "!password"


Refusal = Literal["cluster", "role", "database"]
_REFUSALS: dict[str, Refusal] = {
    "too many clients already": "cluster",
    "remaining connection slots are reserved": "cluster",
    "too many connections for role": "role",
    "too many connections for database": "database",
}


def refusal(error: psycopg.Error) -> Refusal | None:
    """Whose connection limit the server says is reached; None: it is another failure."""
    return next((which for phrase, which in _REFUSALS.items() if phrase in str(error)), None)
