"""The tables of the configuration file: what fleetd reaches, where it keeps things, and the file as a whole.

Each key has its type, range and default here; config.example.toml explains it. The tables that say how to decide are in
core/model/policy_tables.py. Where a default is None it follows from other keys, which the example states.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fleetd.core.model.policy_tables import (
    INSTANCES_MAX,
    QUEUES_MAX,
    ConnectionPolicy,
    Connections,
    DeclaredClaim,
    Mode,
    PacePolicy,
    PolicyTables,
    Pool,
    QueueName,
    SchedulerPolicy,
    Target,
    Threads,
    size,
)

PROFILES_MAX = 16
DATABASES_MAX = 1_000_000  # of Redis; a sane bound, its own default is 16
#: Fewer boots at a time than this make a surge wait longer than they spare the cores.
BOOTING_MAX_LEAST = 4
#: Stands for a pool that follows from the number of threads; out of the key's range.
POOL_FROM_THREADS = 0


def _text(pattern: str, description: str) -> Meta:
    return Meta(pattern=pattern, extra_json_schema={"description": description})


_USER = r"^([A-Za-z_][A-Za-z0-9_.-]{0,30}|[0-9]{1,10})\Z"
Port = Annotated[int, Meta(ge=1, le=65_535)]
AbsolutePath = Annotated[str, _text(r"^(/[^\x00-\x1f\x7f]{1,250})\Z", "an absolute path")]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]  # libpq's
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
# Hosts are shown in sentences: an address with a password in it belongs under url.
Host = Annotated[str, _text(r"^[^\s@]{1,255}\Z", "a host name, address or path")]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file."""


class FleetSection(Section, frozen=True, kw_only=True):
    mode: Mode = "act"
    ledger: Literal["redis", "local"] = "redis"
    host: (
        Annotated[str, _text(r"^[A-Za-z0-9._-]{1,64}\Z", "1 to 64 letters, digits, dots, dashes or underscores")] | None
    ) = None


class MastodonSection(Section, frozen=True, kw_only=True):
    env_file: Annotated[str, _text(r"^(/[^\x00-\x1f\x7f:]{1,250})?\Z", 'an absolute path, or "" for none')] = (
        "/home/mastodon/live/.env.production"
    )
    directory: AbsolutePath | None = None
    user: Annotated[str, _text(_USER, "the name of a user of this host")] | None = None
    # Words for systemd, which starts it without a shell.
    exec: (
        Annotated[
            str,
            _text(
                r"^(?=.{1,500}\Z)/[A-Za-z0-9/_.,:=+@%~-]+( [A-Za-z0-9/_.,:=+@%~-]+)*\Z",
                "an absolute path and its arguments, without Sidekiq's and without a shell's signs",
            ),
        ]
        | None
    ) = None
    name_connections: bool | None = None
    role: Annotated[str, Meta(max_length=63)] | None = None
    database: Annotated[str, Meta(max_length=63)] | None = None


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
    sslmode: SslMode | None = None
    sslrootcert: Text | None = None
    sslcert: Text | None = None
    sslkey: Text | None = None


class NetworkSection(Section, frozen=True, kw_only=True):
    """How far the network to Redis and Postgres is trusted."""

    private: Annotated[tuple[Host, ...], Meta(max_length=64)] = ()
    cleartext_password: tuple[Literal["postgres", "pgbouncer", "replica"], ...] = ()


class ProfileSection(Section, frozen=True, kw_only=True):
    order: str | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1, max_length=QUEUES_MAX)] | None = None
    weights: dict[QueueName, Annotated[int, Meta(ge=1, le=100)]] | None = None
    threads: Threads = 25
    db_pool: Pool | None = None
    # A lone number is refused with both things that it could mean.
    instances: (
        Annotated[
            int | str | tuple[int, ...],
            Meta(description="a range in quotes or a list of numbers", examples=['"1-4"']),
        ]
        | None
    ) = None
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None
    max: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None


class ConnectionsSection(ConnectionPolicy, frozen=True, kw_only=True):
    """The policy's keys, and those that have another form in the policy."""

    others: Connections = 0
    claims: tuple[DeclaredClaim, ...] = ()
    through: Literal["auto", "postgres", "pgbouncer"] = "auto"
    replica: Literal["auto", "none"] = "auto"


class HttpSection(Section, frozen=True, kw_only=True):
    listen: Annotated[str, Meta(max_length=255)] = "127.0.0.1:9849"


class LogSection(Section, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class StateSection(Section, frozen=True, kw_only=True):
    directory: AbsolutePath = "/var/lib/fleetd"


class HistorySection(Section, frozen=True, kw_only=True):
    days: Annotated[float, Meta(ge=0, le=366)] = 14.0
    # Below a mebibyte hardly a day fits, which would not be what somebody meant.
    size_bytes: Annotated[int, size(1024**2, 16 * 1024**3, "from 1 MiB to 16 GiB")] = 64 * 1024**2


class File(PolicyTables, frozen=True, kw_only=True):
    """The tables of the file; where a table's default here differs from its struct's, this one holds."""

    fleet: FleetSection = FleetSection()
    mastodon: MastodonSection = MastodonSection()
    redis: RedisSection | None = None
    postgres: PostgresSection | None = None
    pgbouncer: PostgresSection | None = None
    replica: PostgresSection | None = None
    network: NetworkSection = NetworkSection()
    profiles: dict[str, ProfileSection] = {}
    targets: dict[str, Target] = {}
    scheduler: SchedulerPolicy = SchedulerPolicy(db_pool=POOL_FROM_THREADS)
    connections: ConnectionsSection = ConnectionsSection()
    pace: PacePolicy = PacePolicy(booting_max=min(INSTANCES_MAX, max(BOOTING_MAX_LEAST, os.cpu_count() or 0)))
    http: HttpSection = HttpSection()
    log: LogSection = LogSection()
    state: StateSection = StateSection()
    history: HistorySection = HistorySection()
