"""Where fleetd reads Redis and Postgres, and how workers reach Postgres: as configured, or as `.env.production` says.

fleetd and fleetd-render take the same decision on whether workers can name their connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from msgspec import structs

from fleetd.adapters.mastodon.database_rules import Database, database_settings, replica_settings
from fleetd.adapters.mastodon.dotenv import Variables
from fleetd.adapters.mastodon.env import read_env, release_from
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.adapters.mastodon.releases import NEWEST, OLDEST, Release, release_of
from fleetd.app.encryption import unencrypted_postgres, unencrypted_redis
from fleetd.app.route import OWN_ROLE, Route, address, fleetds_login, goes_by_user, login_of, route
from fleetd.config import Settings
from fleetd.config.connections import PGBOUNCER_PORT, PostgresSettings, RedisSettings
from fleetd.core.model.facts import Value
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.core.model.policy_tables import Policy
from fleetd.errors import ConfigError, ConfigProblem

_NOT_WATCHED_BEHIND = "Postgres behind PgBouncer is not watched: name it under [postgres]."
_REPLICA_BEHIND = (
    "The replica of .env.production is behind PgBouncer too, whose client slots are not watched: name the replica "
    "itself under [replica]."
)
_REPLICA_OFF = (
    "REPLICA_DB_HOST is set, but Mastodon uses a replica by its host alone from 4.6 on only: set REPLICA_DB_NAME too, "
    "or remove it."
)

#: What makes the workers' unit worth naming as a source.
_SETTINGS = ("REDIS_URL", "SIDEKIQ_REDIS_URL", "REDIS_HOST", "DATABASE_URL", "DB_HOST", "DB_NAME", "DB_USER", "DB_PASS")

_STRANGE_POOLER = (
    "A pooler that fleetd does not know answers where workers reach Postgres (pgcat, Odyssey, Supavisor, a managed "
    "one): its own limits are not watched, and workers' connections have no names. Set connections.limit to what it "
    "allows you, declare web and streaming under [[connections.claims]], and name Postgres itself under [postgres]."
)

#: A domain has 253 characters at most, a database's name 63.
FLEET_LENGTH_MAX = 320

T = TypeVar("T")
_Reader: TypeAlias = Callable[[Variables, list[ConfigProblem], Release], T | None]


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
    route: Route
    fleet: str  # which Mastodon this is: its domain and database, by which hosts of another one are refused
    redis_sentence: str  # which Redis is read, and how it was found
    sentence: str  # which databases are watched, and how they were found
    warnings: tuple[str, ...]

    def policy(self, configured: Policy) -> Policy:
        """The policy, knowing the workers' pools, and whether their connections can be told from others'."""
        policy = self.route.with_pool(configured)
        connections = structs.replace(
            policy.connections, named=self.countable, prepares_statements=self.route.prepares_statements
        )
        return structs.replace(policy, connections=connections)


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
        self._release = release_from(env)
        self._route = route(settings, env, found)
        self._problems: list[ConfigProblem] = []
        self._variables = read_env(env)
        self._mastodons: PostgresSettings | None = None
        if self._variables is not None:
            database = database_settings(self._variables, [], self._release)
            self._mastodons = None if database is None else login_of(database, self._env_file)

    def _workers_redis(self, redis: RedisSettings) -> str:
        mastodons = redis_settings(self._variables, [], self._release) if self._variables is not None else None
        return mastodons.place if mastodons is not None and mastodons.place != redis.place else ""

    def endpoints(self) -> Endpoints:
        settings, pgbouncer = self._settings, self._route.through == "pgbouncer"
        redis = settings.redis or self._from_env("redis", redis_settings)
        console = settings.pgbouncer if pgbouncer else None
        if pgbouncer and console is None:
            console = self._database("pgbouncer")
        postgres, limits_of = settings.postgres, (settings.mastodon.role, settings.mastodon.database)
        if not pgbouncer and postgres is None:
            postgres = self._database("postgres")
            if postgres is not None and goes_by_user(postgres):
                limits_of = (settings.mastodon.role or postgres.user, settings.mastodon.database)
                postgres = fleetds_login(postgres)
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
            route=self._route,
            fleet=self._fleet(),
            redis_sentence=f"Redis is read at {redis.place}, as {self._source('redis', settings.redis)}.",
            sentence=self._sentence(console, postgres, replica),
            warnings=(*self._warnings(postgres, replica), *self._unencrypted(redis, console, postgres, replica)),
        )

    def _fleet(self) -> str:
        domain = (self._variables.value("LOCAL_DOMAIN") or "") if self._variables is not None else ""
        database = self._mastodons.dbname if self._mastodons is not None else self._settings.mastodon.database or ""
        return f"{domain} {database}".strip()[:FLEET_LENGTH_MAX]

    def _trusted(
        self, name: Literal["postgres", "pgbouncer", "replica"], login: PostgresSettings | None
    ) -> PostgresSettings | None:
        if login is None or name not in self._settings.network.cleartext_password:
            return login
        return structs.replace(login, cleartext_password=True)

    def _from_env(self, table: str, read: _Reader[T]) -> T | None:
        variables = self._variables
        if variables is None:
            self._problems.append(self._nowhere(table))
            return None
        self._problems += variables.broken
        return self._read(variables, read)

    def _read(self, variables: Variables, read: _Reader[T]) -> T | None:
        """Each problem says where the variable is set."""
        problems: list[ConfigProblem] = []
        found = read(variables, problems, self._release)
        for problem in problems:
            place = variables.place(problem.path.split("'")[0])
            # What dotenv refuses names its line itself.
            said = place and not problem.what.startswith("line ")
            what = f"in {place}: {problem.what}" if said else problem.what
            self._problems.append(ConfigProblem(problem.path, what, problem.cure))
        return found

    def _database(self, table: str) -> PostgresSettings | None:
        found = self._from_env(table, database_settings)
        return None if found is None else self._with_user(found, "DB_USER")

    def _with_user(self, database: Database, key: str) -> PostgresSettings:
        login = login_of(database, self._env_file)
        if not login.user:
            what = "is empty, so workers log in by the name of their account, which is not known"
            self._problems.append(ConfigProblem(key, what, f"Write {key}=NAME."))
        return login

    def _nowhere(self, table: str) -> ConfigProblem:
        env, file = self._env_file, self._settings.mastodon.env_file or ".env.production"
        why = f": {env.why}" if env.why else ""
        cure = f"Write a [{table}] table, or let mastodon.env_file name the file; then restart fleetd."
        what = f"not configured, and Mastodon's {file} can't be read{why}"
        return ConfigProblem(table, what, f"{env.cure} Or: {cure}" if env.cure else cure)

    def _replica(self) -> PostgresSettings | None:
        if not self._settings.watch_replica:
            return None
        if self._settings.replica is not None or self._variables is None:
            return self._settings.replica
        found = self._read(self._variables, replica_settings)
        return None if found is None else self._with_user(found, "REPLICA_DB_USER")

    def _pool(self) -> tuple[str, str]:
        """By Mastodon's names: PgBouncer may know the database by another name than Postgres."""
        if self._mastodons is not None:
            return self._mastodons.dbname, self._mastodons.user
        for key, given in (("database", self._settings.mastodon.database), ("role", self._settings.mastodon.role)):
            if given is None and self._variables is None:
                what = "needed to find Mastodon's pool in PgBouncer, because .env.production can't be read"
                self._problems.append(ConfigProblem(f"mastodon.{key}", what, f"Set mastodon.{key}."))
        return self._settings.mastodon.database or "", self._settings.mastodon.role or ""

    def _sentence(
        self, console: PostgresSettings | None, postgres: PostgresSettings | None, replica: PostgresSettings | None
    ) -> str:
        settings = self._settings
        parts = []
        if console is not None:
            parts.append(f"PgBouncer at {address(console, PGBOUNCER_PORT)}, {self._route.reason}")
        if postgres is not None:
            by_user = settings.postgres is None and goes_by_user(postgres)
            own = f", with fleetd's own role {OWN_ROLE}" if by_user else ""
            known = self._route.asked or settings.postgres is not None
            what = "Postgres" if known else "Postgres, or a pooler (not asked yet),"
            parts.append(f"{what} at {address(postgres)}, as {self._source('postgres', settings.postgres)}{own}")
        if replica is not None:
            parts.append(f"the replica at {address(replica)}, as {self._source('replica', settings.replica)}")
        return f"Database connections are watched at: {'; '.join(parts)}."

    def _source(self, table: str, configured: object) -> str:
        if configured is not None:
            return f"[{table}] says"
        # Mastodon's main file first: that is where to look.
        files = [name for name, _ in self._env_file.files or ()]
        places = sorted(files, key=lambda name: name != ".env.production") or [".env.production"]
        if dict(self._env_file.environment).keys() & {*_SETTINGS}:
            places.append("the workers' unit")
        return f"{places[0]} says" if len(places) == 1 else f"{', '.join(places[:-1])} and {places[-1]} say"

    def _warnings(self, postgres: PostgresSettings | None, replica: PostgresSettings | None) -> tuple[str, ...]:
        settings, pgbouncer = self._settings, self._route.through == "pgbouncer"
        warnings = [self._env_file.problem] if self._env_file.kept else []
        if pgbouncer and postgres is None:
            warnings.append(_NOT_WATCHED_BEHIND)
        if self._route.strange:
            warnings.append(_STRANGE_POOLER)
        elif not pgbouncer and self._route.asked and self._variables is not None and self._route.unnamed_reason:
            warnings.append(self._route.unnamed_reason)
        warnings += self._unknown_limits(settings.postgres, "[postgres]")
        warnings += self._unknown_limits(replica if settings.replica is not None else None, "[replica]")
        if not pgbouncer and settings.pgbouncer is not None:
            warnings.append('[pgbouncer] is not used: connections.through is "postgres".')
        if not settings.watch_replica and settings.replica is not None:
            warnings.append('[replica] is not used: connections.replica is "none".')
        if replica is not None and settings.replica is None and replica.port == PGBOUNCER_PORT:
            warnings.append(_REPLICA_BEHIND)
        if replica is None and settings.watch_replica and self._variables is not None:
            off = self._variables.has("REPLICA_DB_HOST") and release_of(self._env_file.version) is not None
            warnings += [_REPLICA_OFF] if off else []
        warnings += [w for w in (self._env_file.unit_problem, self._route.pool_sentence(settings.policy)) if w]
        warnings += self._unknown_release()
        return tuple(warnings)

    def _unknown_release(self) -> list[str]:
        """That Mastodon's version is not known, if it makes a difference."""
        if self._variables is None or release_of(self._env_file.version) is not None:
            return []
        readings = {_reading(self._env_file, (4, minor)) for minor in range(OLDEST[1], NEWEST[1] + 1)}
        if len(readings) == 1:
            return []
        newest = ".".join(map(str, NEWEST))
        return [
            f"Which version of Mastodon runs is not known, so its settings are read as {newest} reads them, and others "
            "differ: check mastodon.directory, then `systemctl start fleetd-stamp` and restart fleetd."
        ]

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
                sentences += unencrypted_postgres(name, address(login, port), login, private)
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


def _reading(env: EnvFile, release: Release) -> str:
    """What Mastodon's settings come to by the rules of a release; for comparing only, since it holds secrets."""
    variables = read_env(env, release)
    if variables is None or variables.broken:
        return ""
    problems: list[ConfigProblem] = []
    found = [read(variables, problems, release) for read in (redis_settings, database_settings, replica_settings)]
    secrets = [getattr(found[0], "password", None), *(getattr(one, "login", None) for one in found[1:])]
    return repr((found, [getattr(secret, "password", secret) for secret in secrets], list(map(str, problems))))
