"""`python -m lab.demo`: shows fleetd in a surge, on real Redis, Postgres, systemd and Sidekiq.

`--hosts` shows three hosts as one fleet.

Exit status: 0 if all promises were kept, 1 if not or if the hosts could not be built, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

from rich.console import Console

from fleetd.cli.terminal.output import ends_cleanly, open_console, show
from fleetd.cli.terminal.symbols import Symbols
from lab.demo import show as one
from lab.demo.hosts import show as several
from lab.demo.progress import Steps
from lab.demo.summary import broken, verdict
from lab.demo.terms import Outcome, Terms
from lab.errors import LabError
from lab.lab import Lab

NAME = "demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, and return the exit status."""
    options = _options(arguments)
    console, symbols = open_console()
    plain = options.plain or not console.is_terminal or console.is_dumb_terminal
    if os.geteuid() != 0:
        print("The demo boots virtual hosts, which needs root: run  make demo  or put sudo before it.", file=sys.stderr)
        return 1
    try:
        with ends_cleanly():
            return _run(options, console, symbols, plain=plain)
    except KeyboardInterrupt:
        print("Stopped. All hosts are gone, and nothing of them is left.", file=sys.stderr)
        return 130
    except LabError as error:
        print(f"The demo could not go on: {error}", file=sys.stderr)
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab.demo",
        description="Boots two virtual hosts and shows fleetd through a surge of jobs: about four minutes.",
    )
    parser.add_argument(
        "--hosts", action="store_true", help="three hosts as one fleet; one of them loses its power in the surge"
    )
    parser.add_argument("--keep", action="store_true", help="leave the hosts running, and say how to look around")
    parser.add_argument("--plain", action="store_true", help="lines instead of the live screen, as in a pipe")
    parser.add_argument(
        "--seconds-scale",
        type=_scale,
        default=1.0,
        metavar="N",
        help="stretch (2) or shorten (0.5) the calm and the surge; 0.2 to 10",
    )
    return parser.parse_args(arguments)


def _scale(text: str) -> float:
    number = float(text)
    if not 0.2 <= number <= 10:
        raise argparse.ArgumentTypeError("must be within 0.2 and 10")
    return number


def _run(options: argparse.Namespace, console: Console, symbols: Symbols, *, plain: bool) -> int:
    title, show_it = (several.TITLE, several.show) if options.hosts else (one.TITLE, one.show)
    print(f"{fill(title, console.width)}\n", flush=True)
    with Steps(console, symbols, plain=plain) as steps, Lab(NAME, steps.detail) as lab, _undisturbed_end():
        terms = Terms(steps, console, symbols, seconds_scale=options.seconds_scale, keep=options.keep, plain=plain)
        outcome = show_it(lab, terms)
        print()
        show(console, outcome.lines)
        print(f"\n{fill(verdict(outcome.groups, outcome.promised), console.width)}", flush=True)
        if options.keep:
            outcome.go_on()
            lab.keep()
            print(_around(outcome))
    return 1 if broken(outcome.groups) else 0


@contextlib.contextmanager
def _undisturbed_end() -> Iterator[None]:
    """The first Ctrl-C ends the demo. Further ones must not interrupt the clean-up."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _around(outcome: Outcome) -> str:
    python = Path(sys.executable)
    here = Path.cwd()
    program = python.relative_to(here) if python.is_relative_to(here) else python
    lab = f"{'sudo ' if 'SUDO_USER' in os.environ else ''}{program} -m lab"
    commands = [f"  {lab} enter {host} --lab {NAME} -- {command}" for host, command in outcome.around]
    host, command = outcome.attempt
    return "\n".join(
        [
            "\nThe hosts run on, with a calm load for an hour. To look around:",
            *commands,
            f"  {lab} enter {host} --lab {NAME}               a shell; try: {command}",
            "To end it:",
            f"  {lab} down {NAME}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
