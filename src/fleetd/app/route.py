"""How workers reach Postgres: directly, through PgBouncer or another pooler, and whether their connections have names.

fleetd and fleetd-render take the same decision here. fleetd alone can ask who answers (pooler_search.py); what it found
is an argument.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.adapters.mastodon.database_rules import Database, database_settings, replica_settings
from fleetd.adapters.mastodon.dotenv import Variables
from fleetd.adapters.mastodon.env import read_env, release_from
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.config import Settings
from fleetd.config.connections import PGBOUNCER_PORT, PostgresSettings
from fleetd.core.model.facts import Value
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.core.model.policy_tables import Policy

#: The user of fleetd.service. Where Postgres goes by the operating system's user, fleetd's role has the same name.
OWN_ROLE = "fleetd"
_UNNAMED = "so the workers' database connections have no names."


class Route(Value, frozen=True, kw_only=True):
    """What the workers connect to."""

    through: Literal["postgres", "pgbouncer"]
    reason: str | None  # "because .env.production names port 6432"; None: nothing points to PgBouncer
    named: bool  # workers are given names for their connections
    unnamed_reason: str | None  # a sentence, when they are not and the configuration does not say so
    asked: bool  # what answers there is known
    strange: bool = False  # it is a pooler that fleetd does not know
    prepares_statements: bool = False  # as Mastodon's settings say
    pool: int | None = None  # connections of a worker, where Mastodon's settings beat db_pool

    @property
    def countable(self) -> bool:
        """Postgres may show which connections are our workers'; whether it does, the core finds out."""
        return self.through == "postgres" and (self.named or not self.asked)

    def with_pool(self, policy: Policy) -> Policy:
        """The policy with the pools that the workers really have: claims, settings and tags follow from them."""
        if self.pool is None:
            return policy
        profiles = tuple(structs.replace(profile, db_pool=self.pool) for profile in policy.profiles)
        return structs.replace(
            policy, profiles=profiles, scheduler=structs.replace(policy.scheduler, db_pool=self.pool)
        )

    def pool_sentence(self, policy: Policy) -> str:
        """That an address of Mastodon's says how many connections a worker has; "": none does, or it says the same."""
        pools = {profile.name: (profile.threads, profile.db_pool) for profile in policy.profiles}
        pools["scheduler"] = (policy.scheduler.threads, policy.scheduler.db_pool)
        if self.pool is None or all(db_pool == self.pool for _, db_pool in pools.values()):
            return ""
        few = [f"{name}'s {threads} threads" for name, (threads, _) in pools.items() if threads > self.pool]
        wait = f", on which {' and '.join(few)} wait for each other and jobs fail" if few else ""
        return (
            f"pool={self.pool} in the address of Mastodon's database beats db_pool: each worker has {self.pool} "
            f"connections{wait}. Remove pool= from the address, or keep threads below it."
        )


def route(settings: Settings, env: EnvFile, found: FoundPooler | None = None) -> Route:
    """From the configuration, Mastodon's settings, and what was found to answer there.

    PgBouncer refuses a client that names its connection, so a worker that wrongly did could not start at all: in
    doubt, no names.
    """
    variables = read_env(env)
    database = replica = None
    if variables is not None:
        database = database_settings(variables, [], release_from(env))
        replica = replica_settings(variables, [], release_from(env))
    known = found if found is not None and database is not None and found.place == place_of(database.login) else None
    through, reason = _through(settings, database, known)
    unnamed = _refused(settings, known)
    if unnamed is None and settings.mastodon.name_connections is None:
        databases = [one for one in (database, replica) if one is not None]
        unnamed = _unnamed(settings, through, variables, databases, known)
    return Route(
        through=through,
        reason=reason,
        named=settings.mastodon.name_connections is not False and unnamed is None,
        unnamed_reason=unnamed,
        asked=known is not None or database is None or unnamed != _not_asked(database.login),
        strange=known is not None and known.kind == "unknown" and through == "postgres",
        prepares_statements=database is not None and database.prepared_statements,
        pool=_pool(database, replica),
    )


def place_of(database: PostgresSettings) -> str:
    """The address that workers connect to, by which FoundPooler knows it."""
    return address(database)


def address(settings: PostgresSettings, port: int = 5432) -> str:
    """Where this is, for a sentence."""
    ports = ",".join(map(str, settings.ports or (port,)))
    return f"{settings.host or 'the local socket'}:{ports}"


def workers_logins(settings: Settings, env: EnvFile) -> tuple[PostgresSettings, ...]:
    """With what to ask who answers where the workers connect: as they do, or as fleetd does to the same address.

    Empty: the configuration says it already, or Mastodon's settings do not say where.
    """
    if settings.through == "pgbouncer" or (settings.through == "auto" and settings.pgbouncer is not None):
        return ()
    variables = read_env(env)
    database = None if variables is None else database_settings(variables, [], release_from(env))
    if database is None:
        return ()
    workers, own = fleetds_login(login_of(database, env)), settings.postgres
    return (workers,) if own is None or place_of(own) != place_of(workers) else (workers, own)


def login_of(database: Database, env: EnvFile) -> PostgresSettings:
    """With libpq's own defaults in the worker: the account's name, and the user's for the database."""
    login = database.login
    user = login.user or env.user
    return structs.replace(login, user=user, dbname=login.dbname or user)


def goes_by_user(login: PostgresSettings) -> bool:
    """Whether this is the login of Mastodon's guide, over the local socket without a password.

    Postgres then asks the kernel who is there (peer authentication), and the user fleetd can't be mastodon.
    """
    return not login.password and (not login.host or login.host.startswith(("/", "@")))


def fleetds_login(workers: PostgresSettings) -> PostgresSettings:
    """With what fleetd logs in where the workers do: as they do, or with a role of its own."""
    return structs.replace(workers, user=OWN_ROLE) if goes_by_user(workers) else workers


def _through(
    settings: Settings, database: Database | None, found: FoundPooler | None
) -> tuple[Literal["postgres", "pgbouncer"], str | None]:
    if settings.through != "auto":
        return settings.through, "because connections.through says so"
    if settings.pgbouncer is not None:
        return "pgbouncer", "because there is a [pgbouncer] table"
    if found is not None:
        answers = f"because it answers as PgBouncer {found.version}".rstrip()
        return ("pgbouncer", answers) if found.kind == "pgbouncer" else ("postgres", None)
    if database is not None and PGBOUNCER_PORT in database.login.ports:
        return "pgbouncer", f"because .env.production names port {PGBOUNCER_PORT}"
    if database is not None and not database.prepared_statements:
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
    through: str,
    variables: Variables | None,
    databases: list[Database],
    found: FoundPooler | None,
) -> str | None:
    """Why workers get no names, if the configuration leaves that to us; None: they get some."""
    file = settings.mastodon.env_file
    if through == "pgbouncer":
        return f"Workers reach Postgres through PgBouncer, {_UNNAMED}"
    if variables is None:
        return f"{file or 'mastodon.env_file'} can't be read, {_UNNAMED}"
    if variables.has("PGOPTIONS"):
        return f"{variables.place('PGOPTIONS')} uses PGOPTIONS itself, {_UNNAMED}"
    if not databases:
        return f"{file} does not say how workers reach Postgres, {_UNNAMED}"
    if itself := next((database.names_itself for database in databases if database.names_itself), ""):
        return f"{itself}, which beats the name that fleetd would give, {_UNNAMED}"
    return None if found is not None else _not_asked(databases[0].login)


def _not_asked(database: PostgresSettings) -> str:
    return f"fleetd has not yet found out what answers at {place_of(database)}: until then {_UNNAMED[3:]}"


def _pool(database: Database | None, replica: Database | None) -> int | None:
    """What a worker opens at most at either server, where an address says so: a claim is for each of them."""
    primary = database.pool if database is not None else None
    second = replica.pool if replica is not None else None
    return primary if second is None else max(primary or 0, second)
