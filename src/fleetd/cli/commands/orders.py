"""People's orders: pause, resume, set, pin, release, drain, restart. fleetd answers each with a sentence.

Nothing is decided here: fleetd keeps the order, shows it in `fleetctl status` and refuses what can't be done.
"""

from __future__ import annotations

import click

from fleetd.cli.client import EXIT_INTERRUPTED, Client, client_of
from fleetd.cli.commands.arguments import complete_number, complete_profile, to_count, to_number, to_seconds
from fleetd.cli.terminal.safe_text import printable
from fleetd.core.model.commands import (
    REASON_CHARACTERS_MAX,
    Command,
    DrainInstance,
    Number,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)

EXIT_CODES = """\b
Exit status:
  0    fleetd took the order
  1    it refused, with the reason, or it does not answer
  2    the command line is wrong
  130  Ctrl-C
"""
_EXIT_CODES_OF_WAITING = """\b
Exit status:
  0    done (with --no-wait, or without --wait: the order is taken)
  1    refused or given up, with the reason, or fleetd does not answer
  2    the command line is wrong
  130  Ctrl-C: it goes on without being watched
"""

_for = click.option(
    "--for",
    "for_seconds",
    callback=to_seconds,
    metavar="TIME",
    help="How long it is kept: 90s, 30m, 2h, 1h30m, 1d; at most 7d. Else pace.pin_seconds of the"
    " configuration, 4h unless changed.",
)
_number = click.argument("number", callback=to_number, shell_complete=complete_number, metavar="N")


def _examples(*lines: str, exit_codes: str = EXIT_CODES) -> str:
    return exit_codes + "\n\b\nExamples:\n" + "".join(f"  {line}\n" for line in lines)


def give(context: click.Context, command: Command) -> Client:
    """Have fleetd obey and print its answer; raises FleetdError with the reason when it doesn't."""
    client = client_of(context)
    try:
        answer = client.order(command)
    except KeyboardInterrupt:
        click.echo(
            "fleetctl: interrupted before fleetd answered; fleetctl status shows if it obeys", err=True
        )
        context.exit(EXIT_INTERRUPTED)
    click.echo(printable(answer))
    return client


@click.command(
    short_help="Nothing starts or drains of its own accord for a while.",
    epilog=_examples(
        'fleetctl pause --for 2h --reason "moving the database"',
        "fleetctl pause                      for 4h, unless configured otherwise",
        "fleetctl resume                     ends it before its time",
    ),
)
@_for
@click.option(
    "--reason",
    default="",
    metavar="TEXT",
    help=f"Shown to everybody who looks; at most {REASON_CHARACTERS_MAX} characters.",
)
@click.pass_context
def pause(context: click.Context, for_seconds: float, reason: str) -> None:
    """Leave the fleet as it is.

    What fails is still restarted by systemd, drains under way go on to their end, and what you order yourself is
    done.
    """
    give(context, Pause(for_seconds=for_seconds, reason=reason))


@click.command(
    short_help="End a pause; take Mastodon's code as it is now.", epilog=_examples("fleetctl resume")
)
@click.pass_context
def resume(context: click.Context) -> None:
    """Let fleetd go on: after a pause, or where it holds because Mastodon's code on disk changed.

    After an upgrade this says that the code is whole and may be started. What runs keeps the old code until it is
    restarted: fleetctl restart does both.
    """
    give(context, Resume())


@click.command(
    name="set",
    short_help="So many instances of a profile, whatever its queues need.",
    epilog=_examples(
        "fleetctl set default-first 6 --for 1h      before an announcement",
        "fleetctl set pull-first 0 --for 30m        give its connections to others",
        "fleetctl set pull-first auto               by its queues again, before the time is over",
    ),
)
@click.argument("profile", shell_complete=complete_profile)
@click.argument("instances", callback=to_count, metavar="N|auto")
@_for
@click.pass_context
def set_instances(context: click.Context, profile: str, instances: int | None, for_seconds: float) -> None:
    """Run N instances of PROFILE for a while; auto: as many as its queues need, again.

    The database's connections and the host's memory still have the last word; fleetctl status says when they do.
    """
    if instances is None and for_seconds:
        raise click.UsageError("auto is how it always is: leave --for out.")
    give(context, SetInstances(profile=profile, instances=instances, for_seconds=for_seconds))


@click.command(
    short_help="Keep an instance as it is: running or stopped.",
    epilog=_examples(
        "fleetctl pin 3 --for 1d        @3, mastodon-sidekiq@3 and mastodon-sidekiq@3.service are the same",
        "fleetctl pin scheduler",
        "fleetctl release 3             ends it before its time",
    ),
)
@_number
@_for
@click.pass_context
def pin(context: click.Context, number: Number, for_seconds: float) -> None:
    """Keep instance N as it is now.

    What you start, stop or quiet with systemctl is pinned without this.
    """
    give(context, PinInstance(number=number, for_seconds=for_seconds))


@click.command(
    short_help="End a pin, and forget an instance's failures.",
    epilog=_examples("fleetctl release 3", "fleetctl release scheduler"),
)
@_number
@click.pass_context
def release(context: click.Context, number: Number) -> None:
    """Give instance N back to fleetd, however it was pinned: by fleetctl or by hand.

    One that failed is tried again at once.
    """
    give(context, ReleaseInstance(number=number))


@click.command(
    short_help="Quiet an instance, wait until it is idle, stop it.",
    epilog=_examples(
        "fleetctl drain 3 --for 1d          and keep it stopped for a day",
        "fleetctl drain 3 --wait            stay until it is stopped",
        exit_codes=_EXIT_CODES_OF_WAITING,
    ),
)
@_number
@_for
@click.option("--wait", is_flag=True, help="Watch until it is stopped. Ctrl-C ends only the watching.")
@click.pass_context
def drain(context: click.Context, number: Number, for_seconds: float, wait: bool) -> None:
    """Let instance N finish its jobs, stop it, and keep it stopped for a while. No job is lost."""
    if number == "scheduler":
        raise click.UsageError(
            "The scheduler is not drained, for then nothing would be scheduled. fleetctl restart replaces it;"
            " systemctl stop mastodon-sidekiq-scheduler stops it."
        )
    client = give(context, DrainInstance(number=number, for_seconds=for_seconds))
    if wait:
        from fleetd.cli.commands.follow import follow_drain

        context.exit(follow_drain(client, number))


@click.command(
    short_help="Replace the instances one at a time, without losing a job.",
    epilog=_examples(
        "fleetctl restart                    everything, the scheduler last; after an upgrade of Mastodon",
        "fleetctl restart default-first      one profile",
        "fleetctl restart --no-wait          fleetctl status shows how far it is",
        exit_codes=_EXIT_CODES_OF_WAITING,
    ),
)
@click.argument("profile", shell_complete=complete_profile, default="")
@click.option("--no-wait", is_flag=True, help="Only order it; do not watch.")
@click.pass_context
def restart(context: click.Context, profile: str, no_wait: bool) -> None:
    """Replace every running instance of PROFILE, or of all profiles, and show how far it is.

    Each one is drained, stopped and started before the next, so that never more than one is missing. Ctrl-C ends
    only the watching: fleetctl pause holds the restart, fleetctl resume lets it go on.
    """
    client = give(context, Restart(profile=profile))
    if not no_wait:
        from fleetd.cli.commands.follow import follow_restart

        context.exit(follow_restart(client))


ORDERS = (pause, resume, set_instances, pin, release, drain, restart)
