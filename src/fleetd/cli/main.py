"""fleetctl: the command line of fleetd, as systemctl is that of systemd."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from fleetd import __version__
from fleetd.cli.client import EXIT_INTERRUPTED, Client
from fleetd.cli.commands.check_config import check_config
from fleetd.cli.commands.doctor import doctor
from fleetd.cli.commands.grants import grants
from fleetd.cli.commands.history import history, trace
from fleetd.cli.commands.hosts import hosts, maintenance
from fleetd.cli.commands.init import init
from fleetd.cli.commands.install_units import install_units
from fleetd.cli.commands.migrate import migrate
from fleetd.cli.commands.orders import COMMANDS
from fleetd.cli.commands.replay import replay
from fleetd.cli.commands.simulate import simulate
from fleetd.cli.commands.status import connections, explain, status
from fleetd.cli.terminal.safe_text import clean
from fleetd.errors import FleetdError
from fleetd.words.formatting import nearest


class Commands(click.Group):
    """A group that names the nearest command for one that doesn't exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            hint = nearest(args[0], self.list_commands(ctx))
            ctx.fail(f"There is no command '{clean(args[0])}'. {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  fleetctl status                 the one screen to look at first
  fleetctl status --watch         the same, live
  fleetctl hosts                  every host of the fleet, from any of them
  fleetctl explain                why so many instances run, and not more
  fleetctl connections            who has the database's connections, and how many are left
  fleetctl history --since 8h     what it did and why, even if it is down now
  fleetctl replay --config NEW    yesterday's traffic under another configuration, before you use it
  fleetctl pause --for 2h         leave the fleet as it is while you work on something
  fleetctl restart                replace every worker one by one, after an upgrade of Mastodon
  fleetctl init                   a first configuration, from what runs now
  fleetctl check-config           after an edit, before systemctl reload fleetd

\b
Completion of commands, options, profiles and instances (the Debian package has it already):
  bash   eval "$(_FLEETCTL_COMPLETE=bash_source fleetctl)"      in ~/.bashrc
  zsh    eval "$(_FLEETCTL_COMPLETE=zsh_source fleetctl)"       in ~/.zshrc
  fish   _FLEETCTL_COMPLETE=fish_source fleetctl | source       in ~/.config/fish/config.fish
""",
)
@click.version_option(__version__, prog_name="fleetctl", message="%(prog)s %(version)s")
def cli() -> None:
    """See what fleetd does with this host's Sidekiq processes, and why; and tell it to do something else.

    Anybody may look; root and members of the group fleetd may give orders. Every order ends by itself.
    """


for command in (
    *(status, connections, explain, check_config, init, doctor, history, replay, trace, simulate),
    *(install_units, migrate, grants, hosts, maintenance),
    *COMMANDS,
):
    cli.add_command(command)


def main(client: Client | None = None) -> None:
    """Run fleetctl. Any foreseeable error ends as a sentence and an exit status, never as a traceback.

    `client`: how fleetd and systemd are reached; None: over the bus.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: `fleetctl status >&-`
        _reopen()
    try:
        code = cli.main(prog_name="fleetctl", standalone_mode=False, obj=client)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except FleetdError as error:
        click.echo(f"fleetctl: {clean(str(error), ascii_only=True)}", err=True)
        code = 1
    except OSError as error:
        code = 1
        if error.errno != errno.EPIPE:  # the reader is gone, as in `fleetctl status | head`
            click.echo(f"fleetctl: {clean(error.strerror or str(error), ascii_only=True)}", err=True)
    _leave(code if isinstance(code, int) else 0)


def _reopen() -> None:
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _leave(code: int) -> None:
    """Exit without Python's own message about output that nobody reads any more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
