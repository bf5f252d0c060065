"""How fleetd logs in to Postgres, and how it speaks about that without a secret."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fleetd.adapters.redaction import HIDDEN, without_secrets
from fleetd.config.connections import PostgresSettings

#: Debian's and upstream's socket directory; the libpq inside psycopg's wheels looks in /tmp.
_SOCKET_DIRECTORY = "/var/run/postgresql"
_CURES = {
    "28P01": "the password is wrong: check DB_PASS in .env.production, or [database] in the configuration",
    "28000": "the login is refused: check pg_hba.conf on the server, and user and sslmode here",
    "3D000": "the database does not exist: check DB_NAME in .env.production, or [database] in the configuration",
    "42501": "this role may not read the statistics: GRANT pg_monitor TO it",
    "42703": "PostgreSQL 10 or newer is needed",
    "42883": "PostgreSQL 10 or newer is needed",
    "57014": "the count took too long and was cancelled: look at the server's load",
    "57P03": "the server is starting, stopping or in recovery",
}
_MESSAGE_LENGTH_MAX = 300


class Login:
    """Connection parameters for libpq, and the words for where they lead."""

    def __init__(self, settings: PostgresSettings, deadline_seconds: float) -> None:
        self._parameters = _parameters(settings)
        self._parameters.update(
            application_name="fleetd",
            client_encoding="utf8",
            connect_timeout=max(2, math.ceil(deadline_seconds)),  # libpq knows none below 2
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        self.user = str(self._parameters.get("user") or "")
        self.database = str(self._parameters.get("dbname") or self.user)
        place = str(self._parameters.get("host") or os.environ.get("PGHOST", ""))
        port = str(self._parameters.get("port") or 5432)
        self.where = (
            f"Postgres at {place}:{port}" if not place.startswith("/") else f"Postgres in {place} ({port})"
        )
        secret = settings.password or ""
        # Shorter ones would tear holes into every message; libpq itself never repeats a password.
        self._secrets = [text for text in (secret, quote(secret, safe="")) if len(text) >= 4]

    def parameters(self) -> dict[str, Any]:
        return dict(self._parameters)

    def clean(self, error: BaseException) -> str:
        """The error's first line, without secrets and not too long."""
        text = " ".join(str(error).split("Multiple connection attempts failed")[0].split())
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return without_secrets(text)[:_MESSAGE_LENGTH_MAX]

    def sentence(self, sqlstate: str | None, message: str) -> str:
        """What is wrong, where, and what to do."""
        cure = _CURES.get(sqlstate or "") or _cure_by_text(message)
        who = f", database {self.database} as {self.user or 'the default role'}"
        return f"{self.where}{who}: {message}" + (f" ({cure})" if cure else "")


def _cure_by_text(message: str) -> str:
    """A failed login has no SQLSTATE in libpq, only the text; unknown text is passed on without a cure."""
    for part, cure in (
        ("password authentication failed", _CURES["28P01"]),
        ("pg_hba.conf", _CURES["28000"]),
        ("no password supplied", _CURES["28P01"]),
        ("Connection refused", "is it running, and does it listen there?"),
        ("No such file or directory", "is it running, and is this its socket directory?"),
        ("certificate verify failed", "check sslrootcert and sslmode"),
        ("does not support SSL", "check sslmode"),
        ("the database system is", _CURES["57P03"]),
        ("timeout expired", "is the network between up, and its firewall open?"),
    ):
        if part in message:
            return cure
    return ""


def _parameters(settings: PostgresSettings) -> dict[str, Any]:
    names = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) not in (None, "")}
    if "host" not in given and "PGHOST" not in os.environ:
        given["host"] = _SOCKET_DIRECTORY if Path(_SOCKET_DIRECTORY).is_dir() else "localhost"
    return given
