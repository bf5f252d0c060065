"""Looks around: systemd's units, .env.production, this host, Redis and the databases. Changes nothing.

As root, what belongs to Mastodon is read with the rights of its user.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.cores import usable_cores
from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.memory_limits import held_bytes
from fleetd.adapters.host.readings import LinuxHost
from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.host.worker_account import Account, AccountError, account_of
from fleetd.adapters.mastodon.env import read_env
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.mastodon.services import SIZES, MastodonService, mastodon_services
from fleetd.adapters.mastodon.sidekiq_units import sidekiq_units
from fleetd.adapters.mastodon.worker_command import look_for_command
from fleetd.adapters.rendering.worker_unit import RBENV
from fleetd.app.given_env import given_env
from fleetd.app.init.ask import ask_servers
from fleetd.app.init.found import Found, MastodonFound, MemoryFound, Servers
from fleetd.app.init.mastodon_table import settings_for
from fleetd.app.worker_command import home_of
from fleetd.core.model.bounds import whole
from fleetd.core.model.facts import HostFacts
from fleetd.errors import FleetdError

_USUAL = MastodonFound()


def look_around() -> Found:
    """Everything that can be found out; what can't be is None, or has its reason. Takes some seconds."""
    services = mastodon_services(systemctl, _read_as, sidekiq_units())
    directory, user = _where(services or ())
    host = platform.node()
    account = _account(user)
    own = tuple(s for s in services or () if _same(s.directory or directory, directory))
    mastodon = MastodonFound(directory=directory, user=user, exec=_exec(own, user, directory, account))
    settings = settings_for(mastodon)
    env = given_env(settings, {})
    servers = ask_servers(settings, env, account)
    return Found(
        host=host,
        cores=usable_cores(),
        memory=_memory(own, servers, host),
        mastodon=structs.replace(mastodon, env_why=env.why, sizes=_sizes(env)),
        services=None if services is None else own,
        other_mastodons=tuple(s.name for s in services or () if s not in own and s.runs == "sidekiq"),
        servers=servers,
    )


def _where(services: Sequence[MastodonService]) -> tuple[str, str]:
    """Mastodon's directory and user: those of the workers that run, else of web, else the guide's."""
    ranked = sorted(services, key=lambda s: (s.fleetds, not s.active, not s.enabled, s.runs != "sidekiq"))
    directory = next((s.directory for s in ranked if s.directory and not s.fleetds), _USUAL.directory)
    users = (s.user for s in ranked if _same(s.directory or directory, directory) and s.user not in ("", "root"))
    return directory, next(users, _USUAL.user)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _account(user: str) -> Account | None:
    """None: we are not root, or there is no such user."""
    try:
        return account_of({"LoadState": "loaded", "User": user}) if os.geteuid() == 0 else None
    except AccountError:
        return None


def _read_as(path: str, user: str) -> str | None:
    """A file that a unit names, with the rights of the unit's user: a link in it leads nowhere new."""
    account = _account(user or _USUAL.user)
    if account is None and os.geteuid() == 0:
        return None
    try:
        return as_account(account, lambda: read_small_file(Path(path)) or b"").decode(errors="replace")
    except FleetdError:
        return None


def _exec(services: Sequence[MastodonService], user: str, directory: str, account: Account | None) -> str | None:
    """What starts Sidekiq; None: rbenv in the user's home, or it is not known."""
    home = home_of(user) or f"/home/{user}"
    usual = f"{home}/{RBENV}"
    ranked = sorted(services, key=lambda s: (not s.active, not s.enabled))
    said = (s.sidekiq.starts_with for s in ranked if s.sidekiq is not None and not s.fleetds)
    command = next((words for words in said if words), usual)
    if account is None:  # whoever is not root can't look into that home
        return None if command == usual else command
    try:
        found = look_for_command(command.split()[0], home, directory, account)
    except FleetdError:
        return None if command == usual else command
    if not found.runs and found.others:
        command = found.others[0]
    return None if command == usual else command


def _sizes(env: EnvFile) -> dict[str, int]:
    variables = read_env(env)
    if variables is None:
        return {}
    found = {name: whole(variables.value(name), "threads") for name in SIZES}
    return {name: number for name, number in found.items() if number is not None}


def _memory(services: Sequence[MastodonService], servers: Servers, host: str) -> MemoryFound | None:
    try:
        facts: HostFacts = asyncio.run(LinuxHost().read(None))
    except FleetdError:
        return None
    groups = [s.control_group for s in services if s.runs == "sidekiq" and s.active and s.control_group]
    held = sum(held_bytes(Path("/"), group) or 0 for group in groups)
    if not held:  # no memory controller: as the processes say themselves
        held = sum(p.resident_bytes or 0 for p in servers.processes or () if p.hostname == host)
    return MemoryFound(
        total_bytes=facts.memory_total_bytes, available_bytes=facts.memory_available_bytes, held_bytes=held
    )
