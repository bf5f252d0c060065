"""Mastodon's settings as fleetd gets them: what root handed over or, without a service, the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.readings import CODE_FILE, SETTINGS_DIRECTORY, read_stamp
from fleetd.adapters.mastodon.env_file import EnvFile, env_file_from, read_env_file
from fleetd.adapters.rendering.rendered_files import ENV_COPY_BYTES_MAX
from fleetd.config import Settings

#: The credential's name in fleetd.service.
CREDENTIAL = "mastodon.env"


def given_env(settings: Settings, environment: Mapping[str, str]) -> EnvFile:
    """Mastodon's settings as last handed over: at the start, and where systemd renews credentials at a reload too."""
    directory, path = environment.get("CREDENTIALS_DIRECTORY"), settings.mastodon.env_file
    copy = Path(directory) / CREDENTIAL if directory else None
    if copy is None or not copy.is_file():
        code = read_stamp(SETTINGS_DIRECTORY / CODE_FILE)
        return structs.replace(read_env_file(path, user=settings.mastodon.user), version=code.version if code else "")
    given = env_file_from(read_small_file(copy, ENV_COPY_BYTES_MAX)) or EnvFile()
    if given == EnvFile() and path:  # as fleetd.service says when there is no copy
        why = "fleetd-render, which hands it over, has not run or has failed"
        return EnvFile(path=path, why=why, cure="See `systemctl status fleetd-render`.")
    return structs.replace(given, path=given.path or path)
