"""How fleetd logs in to Postgres, a replica or PgBouncer, and how it reports failures without a secret.

libpq hands over the SQLSTATE of a failed query, but of a failed login only the server's text, which is in the language
of the server's lc_messages. English is understood, and PgBouncer speaks no other; in any other language a full server
is an unknown reading, during which the fleet does not grow (law 3). The phrases are those of PostgreSQL's postmaster.c
and postinit.c.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg

from fleetd.adapters.logging.redaction import HIDDEN, without_secrets
from fleetd.config.connections import PostgresSettings

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
    "timeout expired": "is the network between up, and its firewall open?",
}
_WRONG_PASSWORD = ("password authentication failed", "SASL authentication failed", "no password supplied")
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
        self.user = str(self._parameters.get("user") or "")
        self.database = str(self._parameters.get("dbname") or self.user)
        host = str(self._parameters.get("host") or os.environ.get("PGHOST", ""))
        port = str(self._parameters.get("port") or 5432)
        at = f"in {host} ({port})" if host.startswith("/") else f"at {host}:{port}"
        self.where = f"{_NAMES[kind]} {at}"
        secret = settings.password or ""
        # Replacing a shorter one would garble every message; libpq itself never repeats a password.
        self._secrets = [text for text in (secret, quote(secret, safe="")) if len(text) >= 4]

    def parameters(self) -> dict[str, Any]:
        return dict(self._parameters)

    def clean(self, error: BaseException) -> str:
        """The error's first line, without secrets and not too long."""
        text = " ".join(str(error).split("Multiple connection attempts failed")[0].split())
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return without_secrets(text)[:_MESSAGE_LENGTH_MAX]

    def sentence(self, error: psycopg.Error) -> str:
        """What is wrong, where, and what to do; without advice where the error is not known."""
        message = self.clean(error)
        cure = self._cure(error.sqlstate, message)
        who = f", database {self.database} as {self.user or 'the default role'}"
        return f"{self.where}{who}: {message}" + (f" ({cure})" if cure else "")

    def _cure(self, sqlstate: str | None, message: str) -> str | None:
        prefix = "REPLICA_DB" if self._kind == "replica" else "DB"
        source = f"in .env.production, or [{self._kind}] in the configuration"
        if sqlstate == "28P01" or any(phrase in message for phrase in _WRONG_PASSWORD):
            unknown = " or the user has no line in auth_file" if self._kind == "pgbouncer" else ""
            return f"the password is wrong{unknown}: check {prefix}_PASS {source}"
        if sqlstate == "3D000":
            return f"the database does not exist: check {prefix}_NAME {source}"
        by_phrase = (cure for phrase, cure in _CURES_BY_PHRASE.items() if phrase in message)
        return _CURES_BY_SQLSTATE.get(sqlstate or "") or next(by_phrase, None)


def _parameters(settings: PostgresSettings) -> dict[str, Any]:
    names = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) not in (None, "")}
    if "host" not in given and "PGHOST" not in os.environ:
        given["host"] = _SOCKET_DIRECTORY if Path(_SOCKET_DIRECTORY).is_dir() else "localhost"
    return given


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
