"""The configuration file that a command reads: where fleetd's is, and how another one is named."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import click

DEFAULT_FILE = "/etc/fleetd/fleetd.toml"
_NAMED = "fleetd.config"


def config_file(command: Callable[..., Any]) -> Callable[..., Any]:
    """FILE as an argument or, as other commands have it, as --config; without either, fleetd's own."""
    path = click.Path(readable=False)  # load says what to do about one that can't be read
    option = click.option(
        "--config",
        type=path,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_remember,
        help="The same as FILE.",
    )
    return click.argument("file", required=False, type=path, callback=_chosen)(option(command))


def _remember(context: click.Context, _parameter: click.Parameter, named: str | None) -> None:
    context.meta[_NAMED] = named


def _chosen(context: click.Context, _parameter: click.Parameter, file: str | None) -> str:
    named: str | None = context.meta.get(_NAMED)
    if file is not None and named is not None:
        raise click.UsageError("FILE and --config are the same: give one of them.")
    return file or named or DEFAULT_FILE


def in_place(file: str) -> str:
    """The line that puts a configuration where fleetd reads it, with the rights that it is to have."""
    return f"sudo install -o root -g fleetd -m 640 {shlex.quote(file)} {DEFAULT_FILE}"
