"""How fleetd logs in to Postgres, a replica or PgBouncer, and how it speaks about that without a secret.

libpq hands the SQLSTATE of a failed query over, but of a failed login only the server's text, in the language of
the server's lc_messages; and on a German server that text is German. The phrases are those of PostgreSQL's own
message catalogues (src/backend/po): postmaster.c "sorry, too many clients already", and postinit.c "remaining
connection slots are reserved …", "too many connections for role/database …".
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from fleetd.adapters.logging.redaction import HIDDEN, without_secrets
from fleetd.config.connections import PostgresSettings

#: Debian's and upstream's socket directory; the libpq inside psycopg's wheels looks in /tmp.
_SOCKET_DIRECTORY = "/var/run/postgresql"

Kind = Literal["postgres", "replica", "pgbouncer"]
_NAMES: dict[Kind, str] = {"postgres": "Postgres", "replica": "Postgres's replica", "pgbouncer": "PgBouncer"}

_LOGIN_FAILED = "28P01"
_CURES = {
    "28000": "the login is refused: check pg_hba.conf on the server, and user and sslmode here",
    "42501": "this role may not read the statistics: GRANT pg_monitor TO it",
    "42703": "PostgreSQL 10 or newer is needed",
    "42883": "PostgreSQL 10 or newer is needed",
    "57014": "the count took too long and was cancelled: look at the server's load",
    "57P03": "the server is starting, stopping or in recovery",
}
_MESSAGE_LENGTH_MAX = 300


class Login:
    """Connection parameters for libpq, and the words for where they lead."""

    def __init__(
        self, settings: PostgresSettings, deadline_seconds: float, *, kind: Kind = "postgres"
    ) -> None:
        self._kind = kind
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
            f"{_NAMES[kind]} in {place} ({port})"
            if place.startswith("/")
            else f"{_NAMES[kind]} at {place}:{port}"
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
        cure = self._cure(sqlstate or _sqlstate_by_text(message), message)
        who = f", database {self.database} as {self.user or 'the default role'}"
        return f"{self.where}{who}: {message}" + (f" ({cure})" if cure else "")

    def _cure(self, sqlstate: str, message: str) -> str:
        prefix = "REPLICA_DB" if self._kind == "replica" else "DB"
        place = f"in .env.production, or [{self._kind}] in the configuration"
        if sqlstate == _LOGIN_FAILED:
            unknown = " or the user has no line in auth_file" if self._kind == "pgbouncer" else ""
            return f"the password is wrong{unknown}: check {prefix}_PASS {place}"
        if sqlstate == "3D000":
            return f"the database does not exist: check {prefix}_NAME {place}"
        return _CURES.get(sqlstate) or _cure_by_text(message)


def _sqlstate_by_text(message: str) -> str:
    """A failed login has no SQLSTATE in libpq, only the text."""
    wrong = ("password authentication failed", "SASL authentication failed", "no password supplied")
    return _LOGIN_FAILED if any(part in message for part in wrong) else ""


def _cure_by_text(message: str) -> str:
    """Unknown text is passed on without a cure."""
    for part, cure in (
        ("pg_hba.conf", _CURES["28000"]),
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


Refusal = Literal["cluster", "role", "database"]

_CLUSTER = (
    "too many clients already",
    "remaining connection slots are reserved",
    "schon zu viele Verbindungen",
    "die verbleibenden Verbindungen sind für",
    "ya tenemos demasiados clientes",
    "las conexiones restantes están reservadas",
    "trop de clients sont déjà connectés",
    "les emplacements de connexions restants sont réservés",
    "troppi client già connessi",
    "i rimanenti slot di connessione sono riservati",
    "クライアント数が多すぎます",
    "残りの接続スロットは",
    "უკვე მეტისმეტად ბევრი კლიენტია",
    "최대 동시 접속자 수를 초과했습니다",
    "남은 연결 슬롯은",
    "уже слишком много клиентов",
    "оставшиеся слоты подключений зарезервированы",
    "ledsen, för många klienter",
    "resterande anslutningsslottar är reserverade",
    "вже забагато клієнтів",
    "слоти підключень, які залишились, зарезервовані",
    "已经有太多的客户",
    "客户端连接过多",
    "剩余连接槽位保留给",
    "抱歉，客戶端過多",
    "剩餘的連線槽保留給",
    "已保留的连接位置",
)
_ROLE = (
    "too many connections for role",
    "zu viele Verbindungen von Rolle",
    "demasiadas conexiones para el rol",
    "trop de connexions pour le rôle",
    "troppe connessioni per il ruolo",
    "からの接続が多すぎます",
    "მეტისმეტად ბევრი კავშირი როლისთვის",
    "롤의 최대 동시 접속수를 초과했습니다",
    "слишком много подключений для роли",
    "för många uppkopplingar för roll",
    "занадто багато підключень для ролі",
    "发起的连接太多了",
    "角色…的连接过多",
    "角色…的連線太多",
)
_DATABASE = (
    "too many connections for database",
    "zu viele Verbindungen für Datenbank",
    "demasiadas conexiones para la base de datos",
    "trop de connexions pour la base de données",
    "troppe connessioni al database",
    "への接続が多すぎます",
    "ძალიან ბევრი კავშირი ბაზისთვის",
    "데이터베이스 최대 접속수를 초과했습니다",
    "слишком много подключений к БД",
    "för många uppkopplingar till databasen",
    "занадто багато підключень до бази даних",
    "数据库…的连接过多",
    "資料庫…的連線太多",
    "的连接太多了",  # after the role's, which ends in it
)


def refusal(message: str) -> Refusal | None:
    """Which limit the server named in `message`: the cluster's, the role's or the database's; None: another
    failure."""
    text = " ".join(message.split())  # catalogues wrap long phrases
    phrases: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
        ("cluster", _CLUSTER),
        ("role", _ROLE),
        ("database", _DATABASE),
    )
    for which, known in phrases:
        if any(all(part in text for part in phrase.split("…")) for phrase in known):
            return which
    return None
