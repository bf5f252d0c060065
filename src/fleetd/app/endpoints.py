"""Where everything is that fleetd reads, and how workers reach Postgres: by the configuration, or by `.env.production`.

One rule for fleetd and fleetd-render on whether workers can name their connections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from msgspec import structs

from fleetd.adapters.mastodon.env import (
    postgres_settings,
    read_env,
    read_env_file,
    redis_settings,
    replica_settings,
    without_prepared_statements,
)
from fleetd.config import Settings
from fleetd.config.connections import PGBOUNCER_PORT, PostgresSettings, RedisSettings
from fleetd.config.settings import ENV_FILE_MISSING
from fleetd.core.model.facts import Value
from fleetd.core.model.policy import Policy
from fleetd.errors import ConfigError, ConfigProblem

_WITHOUT = "so the workers' database connections go without names."


class Route(Value, frozen=True, kw_only=True):
    """What the workers connect to."""

    through: Literal["postgres", "pgbouncer"]
    why: str  # "because .env.production names port 6432"; "": nothing speaks for PgBouncer
    named: bool  # workers are given names for their connections
    unnamed_why: str  # a sentence, when they are not and the configuration does not say so

    @property
    def countable(self) -> bool:
        """Ours can be told from others' in Postgres."""
        return self.named and self.through == "postgres"


def route(settings: Settings, env_text: str | None) -> Route:
    """From the configuration and the text of Mastodon's `.env.production`; None: it can't be read.

    PgBouncer refuses a client that names its connection, so a worker that wrongly did could not start at all: in
    doubt, no names.
    """
    through, why = _through(settings, env_text)
    unnamed = _unnamed(settings, env_text, through)
    named = settings.name_connections if settings.name_connections is not None else not unnamed
    return Route(
        through=through,
        why=why,
        named=named,
        unnamed_why=unnamed if settings.name_connections is None else "",
    )


def _through(settings: Settings, env_text: str | None) -> tuple[Literal["postgres", "pgbouncer"], str]:
    if settings.through != "auto":
        return settings.through, "because connections.through says so"
    if settings.pgbouncer is not None:
        return "pgbouncer", "because there is a [pgbouncer] table"
    if env_text is None:
        return "postgres", ""
    env, problems = read_env(env_text)
    database = postgres_settings(env, problems)
    if database is not None and database.port == PGBOUNCER_PORT:
        return "pgbouncer", f"because .env.production names port {PGBOUNCER_PORT}"
    if without_prepared_statements(env):
        return "pgbouncer", "because .env.production says PREPARED_STATEMENTS=false"
    return "postgres", ""


def _unnamed(settings: Settings, env_text: str | None, through: str) -> str:
    """Why names can't be given, as a sentence; "": they can."""
    if through == "pgbouncer":
        return f"Workers reach Postgres through PgBouncer, {_WITHOUT}"
    if env_text is None:
        return f"{settings.env_file or 'mastodon.env_file'} can't be read, {_WITHOUT}"
    env, problems = read_env(env_text)
    if "PGOPTIONS" in env:
        return f"PGOPTIONS is taken by .env.production, {_WITHOUT}"
    if postgres_settings(env, problems) is None:
        return f"{settings.env_file} does not say how workers reach Postgres, {_WITHOUT}"
    return ""


T = TypeVar("T")
_Reader: TypeAlias = Callable[[dict[str, str], list[ConfigProblem]], T | None]

#: The credential's name in fleetd.service.
CREDENTIAL = "env.production"
_BEHIND_UNWATCHED = "Postgres behind PgBouncer is not watched: name it under [postgres]."
_REPLICA_BEHIND = (
    "The replica of .env.production is behind PgBouncer too, whose client slots are not watched: name the replica "
    "itself under [replica]."
)


class Endpoints(Value, frozen=True, kw_only=True):
    """Where each source is; None: not watched."""

    redis: RedisSettings
    postgres: PostgresSettings | None
    pgbouncer: PostgresSettings | None
    mastodon_pool: tuple[str, str]  # database and user that the workers connect with
    replica: PostgresSettings | None
    replica_login_is_mastodons: bool
    countable: bool  # ours can be told from others' by application_name
    sentence: str  # what is watched, and how it was found
    warnings: tuple[str, ...]

    def policy(self, configured: Policy) -> Policy:
        """The policy, knowing whether ours can be told from others'."""
        connections = structs.replace(configured.connections, named=self.countable)
        return structs.replace(configured, connections=connections)


def mastodon_env(settings: Settings, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Mastodon's `.env.production` and its name: as systemd handed it over, else the file; None: there is none."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and (Path(directory) / CREDENTIAL).is_file():
        path = Path(directory) / CREDENTIAL
    elif settings.env_file:
        path = Path(settings.env_file)
    else:
        return None
    text = read_env_file(path)
    if text is None or text.strip() == ENV_FILE_MISSING:
        return None
    return text, settings.env_file or str(path)


def find_endpoints(settings: Settings, environment: Mapping[str, str]) -> Endpoints:
    """Where everything is; raises ConfigError with all that is missing or wrong."""
    found = mastodon_env(settings, environment)
    return _Finding(settings, found).places()


class _Finding:
    """The configuration beside Mastodon's file, and what was found wrong in either."""

    def __init__(self, settings: Settings, found: tuple[str, str] | None) -> None:
        text, self._name = found or (None, settings.env_file or "fleetd.toml")
        self._settings = settings
        self._route: Route = route(settings, text)
        self._problems: list[ConfigProblem] = []
        self._env: dict[str, str] | None = None
        self._syntax: list[ConfigProblem] = []  # of a file that is not needed nothing is wrong
        if text is not None:
            self._env, self._syntax = read_env(text)

    def places(self) -> Endpoints:
        settings, bouncer = self._settings, self._route.through == "pgbouncer"
        redis = settings.redis or self._mastodons("redis", redis_settings)
        console = (settings.pgbouncer or self._mastodons("pgbouncer", postgres_settings)) if bouncer else None
        postgres = settings.postgres or (None if bouncer else self._mastodons("postgres", postgres_settings))
        replica = self._replica()
        pool = self._pool() if bouncer else ("", "")
        if self._problems or redis is None:
            raise ConfigError(self._name, _once(self._problems))
        return Endpoints(
            redis=redis,
            postgres=postgres,
            pgbouncer=console,
            mastodon_pool=pool,
            replica=replica,
            replica_login_is_mastodons=settings.replica is None,
            countable=self._route.countable,
            sentence=self._sentence(console, postgres, replica),
            warnings=self._warnings(postgres, replica),
        )

    def _mastodons(self, table: str, read: _Reader[T]) -> T | None:
        if self._env is None:
            file = self._settings.env_file or ".env.production"
            cure = f"Write a [{table}] table, or let mastodon.env_file name the file; then restart fleetd."
            problem = ConfigProblem(table, f"not configured, and Mastodon's {file} can't be read", cure)
            self._problems.append(problem)
            return None
        self._problems += self._syntax
        return read(self._env, self._problems)

    def _replica(self) -> PostgresSettings | None:
        if not self._settings.watch_replica:
            return None
        if self._settings.replica is not None or self._env is None:
            return self._settings.replica
        return replica_settings(self._env, self._problems)

    def _pool(self) -> tuple[str, str]:
        """As Mastodon calls them: PgBouncer may know the database by another name than Postgres."""
        mastodons = postgres_settings(self._env, []) if self._env is not None else None
        if mastodons is not None:
            return mastodons.dbname, mastodons.user
        for key, given in (("database", self._settings.database), ("role", self._settings.role)):
            if given is None and self._env is None:
                what = "needed to find Mastodon's pool in PgBouncer, for .env.production can't be read"
                self._problems.append(ConfigProblem(f"mastodon.{key}", what, f"Set mastodon.{key}."))
        return self._settings.database or "", self._settings.role or ""

    def _sentence(
        self,
        console: PostgresSettings | None,
        postgres: PostgresSettings | None,
        replica: PostgresSettings | None,
    ) -> str:
        settings = self._settings
        parts = []
        if console is not None:
            parts.append(f"PgBouncer at {_address(console, PGBOUNCER_PORT)}, {self._route.why}")
        if postgres is not None:
            how = "as [postgres] says" if settings.postgres is not None else "as .env.production says"
            parts.append(f"Postgres at {_address(postgres)}, {how}")
        if replica is not None:
            how = "as [replica] says" if settings.replica is not None else "as .env.production says"
            parts.append(f"the replica at {_address(replica)}, {how}")
        return f"Database connections are watched at: {'; '.join(parts)}."

    def _limits_of_another(self, login: PostgresSettings | None, table: str) -> list[str]:
        """fleetd's own role and database have other limits, and no worker connects to them."""
        mastodons = postgres_settings(self._env, []) if self._env is not None else None
        if login is None or mastodons is None:
            return []
        return [
            f"{table} logs in with {what} {own}, Mastodon with {its}, whose limits are not known: set mastodon.{what}."
            for what, own, its, given in (
                ("role", login.user, mastodons.user, self._settings.role),
                ("database", login.dbname, mastodons.dbname, self._settings.database),
            )
            if own != its and given is None
        ]

    def _warnings(
        self, postgres: PostgresSettings | None, replica: PostgresSettings | None
    ) -> tuple[str, ...]:
        settings, bouncer = self._settings, self._route.through == "pgbouncer"
        said = []
        if bouncer and postgres is None:
            said.append(_BEHIND_UNWATCHED)
        said += self._limits_of_another(settings.postgres, "[postgres]")
        said += self._limits_of_another(replica if settings.replica is not None else None, "[replica]")
        if not bouncer and settings.pgbouncer is not None:
            said.append('[pgbouncer] is not used: connections.through is "postgres".')
        if not settings.watch_replica and settings.replica is not None:
            said.append('[replica] is not used: connections.replica is "none".')
        if replica is not None and settings.replica is None and replica.port == PGBOUNCER_PORT:
            said.append(_REPLICA_BEHIND)
        if replica is None and settings.watch_replica and self._env and self._env.get("REPLICA_DB_HOST"):
            said.append(
                "REPLICA_DB_HOST is set in .env.production, but Mastodon uses a replica with REPLICA_DB_NAME only."
            )
        return tuple(said)


def _address(place: PostgresSettings, port: int = 5432) -> str:
    return f"{place.host or 'the local socket'}:{place.port or port}"


def _once(problems: list[ConfigProblem]) -> list[ConfigProblem]:
    """Each problem once: Postgres and its replica share most of Mastodon's settings."""
    return list({str(problem): problem for problem in problems}.values())
