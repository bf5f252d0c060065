"""fleetctl: the command line of fleetd, as systemctl is systemd's."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from fleetd import __version__
from fleetd.cli.client import EXIT_INTERRUPTED, Reach
from fleetd.cli.commands.check_config import check_config
from fleetd.cli.commands.connections import connections
from fleetd.cli.commands.explain import explain
from fleetd.cli.commands.history import history, trace
from fleetd.cli.commands.orders import ORDERS
from fleetd.cli.commands.replay import replay
from fleetd.cli.commands.simulate import simulate
from fleetd.cli.commands.status import status
from fleetd.cli.terminal.safe_text import clean
from fleetd.errors import FleetdError
from fleetd.words.formatting import nearest


class Commands(click.Group):
    """Names the nearest command for one that doesn't exist."""

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
  fleetctl explain                why so many instances run, and not more
  fleetctl connections            whose the database's connections are, and how many are left
  fleetctl history --since 8h     what it did and why, also when it does not run any more
  fleetctl replay --config NEW    yesterday's traffic under another configuration, before you dare it
  fleetctl pause --for 2h         leave the fleet as it is while you work on something
  fleetctl restart                replace every worker one by one, after an upgrade of Mastodon
  fleetctl check-config           after an edit, before systemctl reload fleetd

\b
Completion of commands, options, profiles and instances:
  bash   eval "$(_FLEETCTL_COMPLETE=bash_source fleetctl)"      in ~/.bashrc
  zsh    eval "$(_FLEETCTL_COMPLETE=zsh_source fleetctl)"       in ~/.zshrc
  fish   _FLEETCTL_COMPLETE=fish_source fleetctl | source       in ~/.config/fish/config.fish
""",
)
@click.version_option(__version__, prog_name="fleetctl", message="%(prog)s %(version)s")
def cli() -> None:
    """See what fleetd does with this host's Sidekiq processes, and why; and have it do something else.

    Looking is for everybody, giving orders for root and the members of the group fleetd. Every order ends by itself.
    """


cli.add_command(status)
cli.add_command(connections)
cli.add_command(explain)
cli.add_command(check_config)
cli.add_command(history)
cli.add_command(replay)
cli.add_command(trace)
cli.add_command(simulate)
for order in ORDERS:
    cli.add_command(order)


def main(reach: Reach | None = None) -> None:
    """Run fleetctl; whatever can be foreseen ends as a sentence and an exit status, never a traceback.

    `reach`: how the daemon and systemd are asked, where not as usual.
    """
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: `fleetctl status >&-`
        _reopen()
    try:
        code = cli.main(prog_name="fleetctl", standalone_mode=False, obj=reach)
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
        if error.errno != errno.EPIPE:  # the reader went away: nothing to tell anyone
            click.echo(f"fleetctl: {clean(error.strerror or str(error), ascii_only=True)}", err=True)
    _leave(code if isinstance(code, int) else 0)


def _reopen() -> None:
    nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _leave(code: int) -> None:
    """End without Python's own complaint about output that nobody takes any more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
