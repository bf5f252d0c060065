"""Mastodon's settings as its workers see them: the variables, and the release by whose rules they are read."""

from __future__ import annotations

from fleetd.adapters.mastodon.dotenv import Variables, read_dotenv
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.mastodon.releases import NEWEST, Release, release_of
from fleetd.errors import ConfigProblem


def release_from(env: EnvFile) -> Release:
    """The release of Mastodon's code on disk; the newest that is known here if its version is not."""
    return release_of(env.version) or NEWEST


def read_env(env: EnvFile, release: Release | None = None) -> Variables | None:
    """The variables of a worker's process; None: there is no file and nothing else, or it can't be read.

    `release`: by the rules of another one.
    """
    files = env.files
    if files is None:
        return None
    # Sidekiq sets both before it loads Rails, so values may use them.
    environment = {"RAILS_ENV": "production", "RACK_ENV": "production"} | dict(env.environment)
    variables = read_dotenv(files, environment, release or release_from(env))
    name = "APP_ENV" if environment.get("APP_ENV") is not None else "RAILS_ENV"  # as Sidekiq asks for them
    if environment[name] != "production":
        what = "is not production, so Mastodon reads other files and another database than fleetd knows"
        cure = "Remove it from the drop-ins: `systemctl cat mastodon-sidekiq@0` shows them."
        variables.broken.append(ConfigProblem(name, what, cure))
    return variables
