"""Where fleetd reads Redis and Postgres, and how workers reach Postgres: as configured, or as `.env.production` says.

fleetd and fleetd-render take the same decision on whether workers can name their connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from msgspec import structs

from fleetd.adapters.mastodon.env import (
    postgres_settings,
    read_env,
    redis_settings,
    replica_settings,
    without_prepared_statements,
)
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.encryption import unencrypted_postgres, unencrypted_redis
from fleetd.config import Settings
from fleetd.config.connections import PGBOUNCER_PORT, PostgresSettings, RedisSettings
from fleetd.core.model.facts import Value
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.core.model.policy_tables import Policy
from fleetd.errors import ConfigError, ConfigProblem

#: The user of fleetd.service. Where Postgres goes by the operating system's user, fleetd's role has the same name.
OWN_ROLE = "fleetd"
_UNNAMED = "so the workers' database connections have no names."
_NOT_WATCHED_BEHIND = "Postgres behind PgBouncer is not watched: name it under [postgres]."
_REPLICA_BEHIND = (
    "The replica of .env.production is behind PgBouncer too, whose client slots are not watched: name the replica "
    "itself under [replica]."
)

_STRANGE_POOLER = (
    "A pooler that fleetd does not know answers where workers reach Postgres (pgcat, Odyssey, Supavisor, a managed "
    "one): its own limits are not watched, and workers' connections have no names. Set connections.limit to what it "
    "allows you, declare web and streaming under [[connections.claims]], and name Postgres itself under [postgres]."
)

T = TypeVar("T")
_Reader: TypeAlias = Callable[[dict[str, str], list[ConfigProblem]], T | None]


class Route(Value, frozen=True, kw_only=True):
    """What the workers connect to."""

    through: Literal["postgres", "pgbouncer"]
    reason: str | None  # "because .env.production names port 6432"; None: nothing points to PgBouncer
    named: bool  # workers are given names for their connections
    unnamed_reason: str | None  # a sentence, when they are not and the configuration does not say so
    asked: bool  # what answers there is known
    strange: bool = False  # it is a pooler that fleetd does not know

    @property
    def countable(self) -> bool:
        """Postgres may show which connections are our workers'; whether it does, the core finds out."""
        return self.through == "postgres" and (self.named or not self.asked)


def route(settings: Settings, env_text: str | None, found: FoundPooler | None = None) -> Route:
    """From the configuration, the text of Mastodon's `.env.production` (None: it can't be read), and what was found.

    PgBouncer refuses a client that names its connection, so a worker that wrongly did could not start at all: names are
    given only where fleetd has asked, and one arrived.
    """
    env, problems = read_env(env_text or "")
    database = postgres_settings(env, problems)
    known = found if found is not None and database is not None and found.place == place_of(database) else None
    through, reason = _through(settings, env, database, known)
    unnamed = _refused(settings, known)
    if unnamed is None and settings.mastodon.name_connections is None:
        unnamed = _unnamed(settings, env_text, env, database, through, known)
    named = settings.mastodon.name_connections is not False and unnamed is None
    return Route(
        through=through,
        reason=reason,
        named=named,
        unnamed_reason=unnamed,
        asked=known is not None or unnamed != _not_asked(database),
        strange=known is not None and known.kind == "unknown" and through == "postgres",
    )


def place_of(database: PostgresSettings) -> str:
    """The address that workers connect to, by which FoundPooler knows it."""
    return _address(database)


def _through(
    settings: Settings, env: dict[str, str], database: PostgresSettings | None, found: FoundPooler | None
) -> tuple[Literal["postgres", "pgbouncer"], str | None]:
    if settings.through != "auto":
        return settings.through, "because connections.through says so"
    if settings.pgbouncer is not None:
        return "pgbouncer", "because there is a [pgbouncer] table"
    if found is not None:
        answers = f"because it answers as PgBouncer {found.version}".rstrip()
        return ("pgbouncer", answers) if found.kind == "pgbouncer" else ("postgres", None)
    if database is not None and database.port == PGBOUNCER_PORT:
        return "pgbouncer", f"because .env.production names port {PGBOUNCER_PORT}"
    if without_prepared_statements(env):
        return "pgbouncer", "because .env.production says PREPARED_STATEMENTS=false"
    return "postgres", None


def _refused(settings: Settings, found: FoundPooler | None) -> str | None:
    """Why no worker may have a name, whatever the configuration says; None: nothing is known to refuse it."""
    if found is None or found.takes_names or settings.mastodon.name_connections is False:
        return None
    if found.kind == "none":
        return f"What answers at {found.place} takes no names from workers, {_UNNAMED}"
    who = "PgBouncer" if found.kind == "pgbouncer" else "A pooler that fleetd does not know"
    return f"{who} answers at {found.place}, {_UNNAMED}"


def _unnamed(
    settings: Settings,
    env_text: str | None,
    env: dict[str, str],
    database: PostgresSettings | None,
    through: str,
    found: FoundPooler | None,
) -> str | None:
    """Why workers get no names, if the configuration leaves that to us; None: they get some."""
    if through == "pgbouncer":
        return f"Workers reach Postgres through PgBouncer, {_UNNAMED}"
    if env_text is None:
        return f"{settings.mastodon.env_file or 'mastodon.env_file'} can't be read, {_UNNAMED}"
    if "PGOPTIONS" in env:
        return f".env.production uses PGOPTIONS itself, {_UNNAMED}"
    if database is None:
        return f"{settings.mastodon.env_file} does not say how workers reach Postgres, {_UNNAMED}"
    return None if found is not None else _not_asked(database)


def _not_asked(database: PostgresSettings | None) -> str | None:
    if database is None:
        return None
    return f"fleetd has not yet found out what answers at {place_of(database)}: until then {_UNNAMED[3:]}"


def workers_logins(settings: Settings, env: EnvFile) -> tuple[PostgresSettings, ...]:
    """With what to ask who answers where the workers connect: as they do, or as fleetd does to the same address.

    Empty: the configuration says it already, or `.env.production` does not say where.
    """
    if settings.through == "pgbouncer" or (settings.through == "auto" and settings.pgbouncer is not None):
        return ()
    workers = postgres_settings(read_env(env.text)[0], []) if env.text is not None else None
    if workers is None:
        return ()
    own = settings.postgres
    return (workers,) if own is None or place_of(own) != place_of(workers) else (workers, own)


class Endpoints(Value, frozen=True, kw_only=True):
    """Where each source is; None: not watched."""

    redis: RedisSettings
    workers_redis: str  # where Mastodon's settings say that workers connect to, if that is elsewhere; "": it is not
    postgres: PostgresSettings | None
    limits_of: tuple[str | None, str | None]  # role and database whose limits bind there; None: those of the login
    pgbouncer: PostgresSettings | None
    mastodon_pool: tuple[str, str]  # database and user that the workers connect with; of use with `pgbouncer` only
    replica: PostgresSettings | None
    replica_login_is_mastodons: bool
    countable: bool  # Postgres may show which connections are our workers' (application_name)
    named: bool  # workers are to have names; fleetd-render decides the same
    sentence: str  # what is watched, and how it was found
    warnings: tuple[str, ...]

    def policy(self, configured: Policy) -> Policy:
        """The policy, knowing whether our workers' connections can be told from others'."""
        connections = structs.replace(configured.connections, named=self.countable)
        return structs.replace(configured, connections=connections)


def find_endpoints(settings: Settings, env: EnvFile, found: FoundPooler | None = None) -> Endpoints:
    """Where everything is. Raises ConfigError with all that is missing or wrong.

    `found`: what answers where the workers connect; None: not known yet.
    """
    return _Search(settings, env, found).endpoints()


class _Search:
    """Looks in the configuration, then in Mastodon's file, and collects what is wrong in either."""

    def __init__(self, settings: Settings, env: EnvFile, found: FoundPooler | None) -> None:
        self._settings = settings
        self._env_file = env
        self._route = route(settings, env.text, found)
        self._problems: list[ConfigProblem] = []
        self._env: dict[str, str] | None = None
        self._syntax: list[ConfigProblem] = []  # counts only where something in the file is needed
        self._mastodons: PostgresSettings | None = None
        if env.text is not None:
            self._env, self._syntax = read_env(env.text)
            self._mastodons = postgres_settings(self._env, [])

    def _workers_redis(self, redis: RedisSettings) -> str:
        mastodons = redis_settings(self._env, []) if self._env is not None else None
        return mastodons.place if mastodons is not None and mastodons.place != redis.place else ""

    def endpoints(self) -> Endpoints:
        settings, pgbouncer = self._settings, self._route.through == "pgbouncer"
        redis = settings.redis or self._from_env("redis", redis_settings)
        console = settings.pgbouncer if pgbouncer else None
        if pgbouncer and console is None:
            console = self._from_env("pgbouncer", postgres_settings)
        postgres, limits_of = settings.postgres, (settings.mastodon.role, settings.mastodon.database)
        if not pgbouncer and postgres is None:
            postgres = self._from_env("postgres", postgres_settings)
            if postgres is not None and _goes_by_user(postgres):
                limits_of = (settings.mastodon.role or postgres.user, settings.mastodon.database)
                postgres = structs.replace(postgres, user=OWN_ROLE)
        replica = self._replica()
        pool = self._pool() if pgbouncer else ("", "")
        if self._problems or redis is None:
            # Each problem once: Postgres and its replica share most of Mastodon's settings.
            problems = {str(problem): problem for problem in self._problems}
            raise ConfigError(settings.mastodon.env_file or "fleetd.toml", list(problems.values()))
        return Endpoints(
            redis=redis,
            workers_redis=self._workers_redis(redis),
            postgres=self._trusted("postgres", postgres),
            limits_of=limits_of,
            pgbouncer=self._trusted("pgbouncer", console),
            mastodon_pool=pool,
            replica=self._trusted("replica", replica),
            replica_login_is_mastodons=settings.replica is None,
            countable=self._route.countable,
            named=self._route.named,
            sentence=self._sentence(console, postgres, replica),
            warnings=(*self._warnings(postgres, replica), *self._unencrypted(redis, console, postgres, replica)),
        )

    def _trusted(
        self, name: Literal["postgres", "pgbouncer", "replica"], login: PostgresSettings | None
    ) -> PostgresSettings | None:
        if login is None or name not in self._settings.network.cleartext_password:
            return login
        return structs.replace(login, cleartext_password=True)

    def _from_env(self, table: str, read: _Reader[T]) -> T | None:
        if self._env is None:
            self._problems.append(self._nowhere(table))
            return None
        self._problems += self._syntax
        return read(self._env, self._problems)

    def _nowhere(self, table: str) -> ConfigProblem:
        env, file = self._env_file, self._settings.mastodon.env_file or ".env.production"
        why = f": {env.why}" if env.why else ""
        cure = f"Write a [{table}] table, or let mastodon.env_file name the file; then restart fleetd."
        what = f"not configured, and Mastodon's {file} can't be read{why}"
        return ConfigProblem(table, what, f"{env.cure} Or: {cure}" if env.cure else cure)

    def _replica(self) -> PostgresSettings | None:
        if not self._settings.watch_replica:
            return None
        if self._settings.replica is not None or self._env is None:
            return self._settings.replica
        return replica_settings(self._env, self._problems)

    def _pool(self) -> tuple[str, str]:
        """By Mastodon's names: PgBouncer may know the database by another name than Postgres."""
        if self._mastodons is not None:
            return self._mastodons.dbname, self._mastodons.user
        for key, given in (("database", self._settings.mastodon.database), ("role", self._settings.mastodon.role)):
            if given is None and self._env is None:
                what = "needed to find Mastodon's pool in PgBouncer, because .env.production can't be read"
                self._problems.append(ConfigProblem(f"mastodon.{key}", what, f"Set mastodon.{key}."))
        return self._settings.mastodon.database or "", self._settings.mastodon.role or ""

    def _sentence(
        self, console: PostgresSettings | None, postgres: PostgresSettings | None, replica: PostgresSettings | None
    ) -> str:
        settings = self._settings
        parts = []
        if console is not None:
            parts.append(f"PgBouncer at {_address(console, PGBOUNCER_PORT)}, {self._route.reason}")
        if postgres is not None:
            source = ".env.production" if settings.postgres is None else "[postgres]"
            own = (
                f", with fleetd's own role {OWN_ROLE}" if settings.postgres is None and _goes_by_user(postgres) else ""
            )
            parts.append(f"Postgres at {_address(postgres)}, as {source} says{own}")
        if replica is not None:
            source = ".env.production" if settings.replica is None else "[replica]"
            parts.append(f"the replica at {_address(replica)}, as {source} says")
        return f"Database connections are watched at: {'; '.join(parts)}."

    def _warnings(self, postgres: PostgresSettings | None, replica: PostgresSettings | None) -> tuple[str, ...]:
        settings, pgbouncer = self._settings, self._route.through == "pgbouncer"
        warnings = [self._env_file.problem] if self._env_file.kept else []
        if pgbouncer and postgres is None:
            warnings.append(_NOT_WATCHED_BEHIND)
        if self._route.strange:
            warnings.append(_STRANGE_POOLER)
        warnings += self._unknown_limits(settings.postgres, "[postgres]")
        warnings += self._unknown_limits(replica if settings.replica is not None else None, "[replica]")
        if not pgbouncer and settings.pgbouncer is not None:
            warnings.append('[pgbouncer] is not used: connections.through is "postgres".')
        if not settings.watch_replica and settings.replica is not None:
            warnings.append('[replica] is not used: connections.replica is "none".')
        if replica is not None and settings.replica is None and replica.port == PGBOUNCER_PORT:
            warnings.append(_REPLICA_BEHIND)
        if replica is None and settings.watch_replica and self._env and self._env.get("REPLICA_DB_HOST"):
            warnings.append(
                "REPLICA_DB_HOST is set in .env.production, but Mastodon uses a replica with REPLICA_DB_NAME only."
            )
        return tuple(warnings)

    def _unencrypted(
        self,
        redis: RedisSettings,
        console: PostgresSettings | None,
        postgres: PostgresSettings | None,
        replica: PostgresSettings | None,
    ) -> list[str]:
        private = self._settings.network.private
        sentences = unencrypted_redis(redis, private)
        named = (("PgBouncer", console, PGBOUNCER_PORT), ("Postgres", postgres, 5432), ("The replica", replica, 5432))
        for name, login, port in named:
            if login is not None:
                sentences += unencrypted_postgres(name, _address(login, port), login, private)
        return sentences

    def _unknown_limits(self, login: PostgresSettings | None, table: str) -> list[str]:
        """fleetd's own role and database have limits of their own, and no worker connects with them."""
        mastodons = self._mastodons
        if login is None or mastodons is None:
            return []
        return [
            f"{table} logs in with {what} {own}, Mastodon with {its}, whose limits are not known: set mastodon.{what}."
            for what, own, its, given in (
                ("role", login.user, mastodons.user, self._settings.mastodon.role),
                ("database", login.dbname, mastodons.dbname, self._settings.mastodon.database),
            )
            if own != its and given is None
        ]


def _goes_by_user(login: PostgresSettings) -> bool:
    """Whether this is the login of Mastodon's guide, over the local socket without a password.

    Postgres then asks the kernel who is there (peer authentication), and the user fleetd can't be mastodon.
    """
    return not login.password and (not login.host or login.host.startswith(("/", "@")))


def _address(settings: PostgresSettings, port: int = 5432) -> str:
    return f"{settings.host or 'the local socket'}:{settings.port or port}"
