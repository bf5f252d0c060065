"""People's orders: one command for each order of core/instances/orders.py, made of its fields and docstring.

Nothing is decided here: fleetd keeps the order, shows it in `fleetctl status` and refuses what can't be done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from fleetd.cli.client import EXIT_INTERRUPTED, Client, client_of
from fleetd.cli.commands.arguments import complete_host, complete_key, complete_profile, to_count, to_key, to_seconds
from fleetd.cli.terminal.safe_text import printable
from fleetd.core.fleet.orders import NOTE_CHARACTERS_MAX
from fleetd.core.instances import orders
from fleetd.core.instances.orders import DrainInstance, Order, Pause, Restart, Resume, SetInstances
from fleetd.core.sharing.orders.counts import SetHost
from fleetd.core.sharing.orders.restarts import RestartHost
from fleetd.core.sharing.orders.to_fleet import PauseHost, ResumeHost

EXIT_CODES: Final = """\b
Exit status:
  0    fleetd took the order
  1    it refused, with the reason, or it does not answer
  2    the command line is wrong
  130  Ctrl-C
"""
_EXIT_CODES_OF_WATCHING: Final = """\b
Exit status:
  0    done (with --no-wait, or without --wait: the order is taken)
  1    refused or given up, with the reason, or fleetd does not answer
  2    the command line is wrong
  130  Ctrl-C: it goes on without being watched
"""
_WAIT: Final = click.Option(["--wait"], is_flag=True, help="Watch until it is stopped. Ctrl-C ends only the watching.")
_NO_WAIT: Final = click.Option(["--no-wait"], is_flag=True, help="Only order it; do not watch.")
_HOST: Final = click.Option(
    ["--host"],
    default=None,
    metavar="HOST",
    shell_complete=complete_host,
    help="Only this host, instead of every one of the fleet.",
)
#: What concerns every host of the fleet, and the order that concerns one.
_OF_HOST: Final[dict[type[Order], type[Order]]] = {
    Pause: PauseHost,
    Resume: ResumeHost,
    SetInstances: SetHost,
    Restart: RestartHost,
}
#: What can be watched to its end, and the option that says whether it is.
_WATCHED: Final[dict[type[Order], click.Option]] = {DrainInstance: _WAIT, Restart: _NO_WAIT}


def _parameter(field: msgspec.structs.FieldInfo) -> click.Parameter:
    """How a field of an order is typed."""
    match field.name:
        case "key":
            return click.Argument(["key"], callback=to_key, shell_complete=complete_key, metavar="N")
        case "profile":
            default = "" if field.default == "" else None
            return click.Argument(
                ["profile"], shell_complete=complete_profile, default=default, required=default is None
            )
        case "instances":
            return click.Argument(["instances"], callback=to_count, metavar="N|auto")
        case "for_seconds":
            text = (
                "How long it is kept: 90s, 30m, 2h, 1h30m, 1d; at most 7d. Else pace.pin_seconds of the "
                "configuration, 4h unless changed."
            )
            return click.Option(["--for", "for_seconds"], callback=to_seconds, default=None, metavar="TIME", help=text)
        case _:  # a word for other people
            text = f"Shown to everybody who looks; at most {NOTE_CHARACTERS_MAX} characters."
            return click.Option([f"--{field.name}"], default="", metavar="TEXT", help=text)


def _command(order: type[Order]) -> click.Command:
    watched = _WATCHED.get(order)
    exit_codes = EXIT_CODES if watched is None else _EXIT_CODES_OF_WATCHING
    examples = "".join(f"  {line}\n" for line in order.examples)
    return click.Command(
        order.command,
        callback=_give(order, watched),
        params=[
            *map(_parameter, msgspec.structs.fields(order)),
            *([_HOST] if order in _OF_HOST else []),
            *([watched] if watched is not None else []),
        ],
        help=inspect.cleandoc(order.__doc__ or ""),
        short_help=order.summary,
        epilog=f"{exit_codes}\n\b\nExamples:\n{examples}",
    )


def _give(order: type[Order], watched: click.Option | None) -> Callable[..., None]:
    def callback(**typed: Any) -> None:
        context = click.get_current_context()
        waits = watched is not None and typed.pop(watched.name) == (watched is _WAIT)
        meant = order
        if order in _OF_HOST and typed["host"] is None:
            del typed["host"]
        elif order in _OF_HOST and not typed["host"]:  # a variable that is not set must not mean all hosts
            raise click.UsageError("Which --host? `fleetctl hosts` lists them; without --host it is for all of them.")
        elif order in _OF_HOST:
            meant = _OF_HOST[order]
        given = meant(**typed)
        client = give(context, given)
        if waits:
            from fleetd.cli.commands.follow import follow_drain, follow_restart

            if isinstance(given, DrainInstance):
                context.exit(follow_drain(client, given.key))
            context.exit(follow_restart(client, typed.get("host", "")))

    return callback


def give(context: click.Context, order: Order) -> Client:
    """Have fleetd obey and print its answer; raises FleetdError with the reason when it doesn't."""
    client = client_of(context)
    try:
        answer = client.order(order)
    except KeyboardInterrupt:
        click.echo("fleetctl: interrupted before fleetd answered; fleetctl status shows if it obeys", err=True)
        context.exit(EXIT_INTERRUPTED)
    click.echo(printable(answer))
    return client


COMMANDS: Final = tuple(map(_command, orders.ORDERS))
