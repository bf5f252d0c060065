"""What the configuration changes in the workers' units: as whom, where and with which command they run.

It is a drop-in in /etc, because it must be there at a boot before anything is rendered, and stay if the configuration
can't be used (law 5). An admin's own drop-in comes after it (`override.conf` of `systemctl edit`) and wins. Quoting:
systemd.unit(5), "Specifiers", and systemd.syntax(7), "Quoting".
"""

from __future__ import annotations

from fleetd.config import Settings
from fleetd.config.access_tables import MastodonSection
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT

#: Sorts before an admin's.
DROPIN = "40-fleetd.conf"
WORKER_UNITS = (TEMPLATE_UNIT, SCHEDULER_UNIT)
_USUAL_USER = "mastodon"
#: The command of the units, below the user's home.
RBENV = ".rbenv/shims/bundle exec sidekiq"


def worker_dropin(settings: Settings, home: str | None) -> str | None:
    """The text of the drop-in; None: the units say all of it already.

    `home`: of mastodon.user, whose rbenv is the default; None: it has none.
    """
    mastodon, lines = settings.mastodon, list[str]()
    if mastodon.user not in (None, _USUAL_USER):
        lines.append(f"User={mastodon.user}")
    directory = _directory(settings)
    if directory is not None:
        specified = directory.replace("%", "%%")
        quoted = specified.replace("\\", "\\\\").replace('"', '\\"')
        lines += [f"WorkingDirectory={specified}", "ReadWritePaths=", f'ReadWritePaths="{quoted}"']
    command = command_of(settings, home)
    if command is not None:
        # A name in capitals is expanded by systemd, word by word.
        lines += ["ExecStart=", f"ExecStart={command.replace('%', '%%')} $SIDEKIQ_ARGS"]
    if not lines:
        return None
    head = "# From mastodon.user, mastodon.directory and mastodon.exec in fleetd.toml, by fleetd-render."
    return "\n".join([head, "[Service]", *lines]) + "\n"


def command_of(settings: Settings, home: str | None) -> str | None:
    """The command without Sidekiq's arguments; None: as in the units."""
    mastodon = settings.mastodon
    if mastodon.exec is not None:
        return mastodon.exec
    if mastodon.user in (None, _USUAL_USER) or home is None:
        return None
    return f"{home.rstrip('/')}/{RBENV}"


def _directory(settings: Settings) -> str | None:
    """Mastodon's directory, if it is known and not the usual one."""
    usual, directory = MastodonSection().env_file, settings.units_directory
    return None if directory is None or f"{directory}/.env.production" == usual else directory
