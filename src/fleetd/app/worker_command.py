"""Whether workers can be started with the command, the directory and the user that are configured or in their unit."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from fleetd.adapters.host.worker_account import Account, AccountError, account_of, workers_account
from fleetd.adapters.mastodon.worker_command import exec_start_of_unit, look_for_command
from fleetd.adapters.rendering.worker_unit import RBENV, command_of
from fleetd.config import Settings

_USUAL_HOME = "/home/mastodon"


def home_of(user: str | None) -> str | None:
    """The home of a user by name or number; None: there is no such user."""
    try:
        return None if user is None else (pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)).pw_dir
    except (KeyError, OverflowError):
        return None


def command_problem(settings: Settings, root: Path = Path("/")) -> str:
    """Why no worker can start, and what to do, as sentences; "": nothing speaks against it.

    As root it is looked for with the workers' rights, else with our own. `root`: another root directory.
    """
    user = settings.mastodon.user
    try:
        if user is not None and root == Path("/") and os.geteuid() == 0:
            account: Account | None = account_of({"LoadState": "loaded", "User": user})
        else:
            account = workers_account(root)
    except AccountError as error:
        return f"No worker can start: {error}." if user is not None else ""  # what reads Mastodon's files says it
    name = user or (account.name if account is not None else "mastodon")
    home = home_of(name) or _USUAL_HOME
    command = command_of(settings, home)
    directory = settings.units_directory or f"{_USUAL_HOME}/live"
    path = command.split()[0] if command is not None else None
    if path is None and root == Path("/"):
        path = exec_start_of_unit()
    try:
        found = look_for_command(path or f"{home}/{RBENV}".split()[0], home, directory, account, root)
    except AccountError as error:
        return f"It is not known whether workers can start: {error}."
    return found.problem(name, directory)
