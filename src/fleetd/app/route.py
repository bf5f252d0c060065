"""How workers reach Postgres, and whether they can name their connections: one rule for fleetd and fleetd-render."""

from __future__ import annotations

from typing import Literal

from fleetd.adapters.mastodon.env import postgres_settings, read_env, without_prepared_statements
from fleetd.config import Settings
from fleetd.config.connections import PGBOUNCER_PORT
from fleetd.core.model.facts import Value

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
