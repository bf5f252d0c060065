"""Real adapters from settings: where Redis and Postgres are, by the configuration or Mastodon's own file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from fleetd.adapters.host import LinuxHost
from fleetd.adapters.mastodon_env import postgres_settings, read_env, redis_settings
from fleetd.adapters.postgres import PostgresConnections
from fleetd.adapters.sidekiq_redis import SidekiqRedis
from fleetd.adapters.systemd import SystemdUnits
from fleetd.adapters.unit_files import UnitFiles
from fleetd.config import Settings
from fleetd.config.connections import PostgresSettings, RedisSettings
from fleetd.config.settings import ENV_FILE_MISSING
from fleetd.core.policy import Policy
from fleetd.daemon.observe import Sources
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.ports import Clock

#: The credential's name in fleetd.service.
CREDENTIAL = "env.production"
ENV_FILE_BYTES_MAX = 1024 * 1024
#: Each source's own deadline, and a little later the one of whoever waits for it.
READING_SECONDS_MAX = 3.0
WAITING_SECONDS_MAX = 4.0


def mastodon_env(settings: Settings, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Mastodon's `.env.production` and its name: as systemd handed it over, else the file; None: there is none."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and (Path(directory) / CREDENTIAL).is_file():
        path = Path(directory) / CREDENTIAL
    elif settings.env_file:
        path = Path(settings.env_file)
    else:
        return None
    try:
        with path.open("rb") as stream:
            text = stream.read(ENV_FILE_BYTES_MAX).decode()
    except (OSError, UnicodeDecodeError):
        return None
    return None if text.strip() == ENV_FILE_MISSING else (text, settings.env_file or str(path))


def connections(settings: Settings, environment: Mapping[str, str]) -> tuple[RedisSettings, PostgresSettings]:
    """Where Redis and Postgres are; raises ConfigError with everything that is missing or wrong."""
    if settings.redis is not None and settings.postgres is not None:
        return settings.redis, settings.postgres
    found = mastodon_env(settings, environment)
    if found is None:
        missing = [
            ConfigProblem(
                name,
                f"not configured, and Mastodon's {settings.env_file or '.env.production'} can't be read",
                f"Write a [{name}] table, or let mastodon.env_file name the file; then restart fleetd.",
            )
            for name, given in (("redis", settings.redis), ("postgres", settings.postgres))
            if given is None
        ]
        raise ConfigError(settings.env_file or "fleetd.toml", missing)
    text, name = found
    env, problems = read_env(text)
    redis = settings.redis or redis_settings(env, problems)
    postgres = settings.postgres or postgres_settings(env, problems)
    if problems or redis is None or postgres is None:
        raise ConfigError(name, problems)
    return redis, postgres


def sidekiq_source(redis: RedisSettings, policy: Policy) -> SidekiqRedis:
    queues = dict.fromkeys(queue for profile in policy.profiles for queue, _ in profile.queues)
    return SidekiqRedis(redis, queues=queues, read_timeout_seconds=READING_SECONDS_MAX)


def database_source(postgres: PostgresSettings, settings: Settings) -> PostgresConnections:
    return PostgresConnections(
        postgres,
        monotonic=time.monotonic,
        mastodon_role=settings.role,
        mastodon_database=settings.database,
        deadline_seconds=READING_SECONDS_MAX,
    )


def numbers(policy: Policy) -> list[int]:
    return [number for profile in policy.profiles for number in profile.numbers]


def open_sources(settings: Settings, clock: Clock) -> tuple[Sources, SystemdUnits]:
    """All sources as the settings say; connects to nothing yet. Raises ConfigError."""
    redis, postgres = connections(settings, os.environ)
    units = SystemdUnits(
        numbers(settings.policy), unit_files=UnitFiles(), read_deadline_seconds=READING_SECONDS_MAX
    )
    sources = Sources(
        sidekiq_source(redis, settings.policy),
        database_source(postgres, settings),
        units,
        LinuxHost(),
        clock,
        deadline_seconds=WAITING_SECONDS_MAX,
    )
    return sources, units


async def close_sources(sources: Sources) -> None:
    """Leave Redis, Postgres and the bus; touches no unit."""
    await sources.sidekiq.close()
    if sources.database is not None:
        await sources.database.close()
    await sources.units.close()
