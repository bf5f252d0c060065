"""How to reach Mastodon's Redis, Postgres and PgBouncer, as plain values; their text form never shows a secret."""

from __future__ import annotations

from typing import Any

from fleetd.core.model.facts import Value

PGBOUNCER_PORT = 6432
#: PgBouncer's console is a database of this name.
CONSOLE = "pgbouncer"

_SECRETS = frozenset({"password", "sentinel_password"})


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
    namespace: str | None = None  # Mastodon ≤ 4.3: every Sidekiq key begins with "<namespace>:"

    @property
    def key_prefix(self) -> str:
        return f"{self.namespace}:" if self.namespace else ""

    @property
    def place(self) -> str:
        """Where this is, for a sentence to the operator."""
        if self.unix_socket:
            return self.unix_socket
        if self.sentinel_master:
            return f"Sentinel's '{self.sentinel_master}'"
        return f"{self.host}:{self.port}"


class PostgresSettings(_WithSecrets, frozen=True, kw_only=True):
    """Mastodon's Postgres, or the PgBouncer before it. None where libpq's own default holds."""

    host: str | None = "localhost"  # a path: directory of the unix socket
    port: int | None = 5432
    dbname: str = "mastodon_production"
    user: str = "mastodon"
    password: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None

    @property
    def place(self) -> str:
        """Where this is, for a sentence to the operator."""
        return f"{self.host or 'the local socket'}:{self.port or 5432}/{self.dbname}"
