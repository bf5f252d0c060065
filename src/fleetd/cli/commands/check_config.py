"""`fleetctl check-config`: every problem of a configuration at once, or what it adds up to.

It must not accept a file that fleetd then refuses. So it checks all that fleetd checks when it starts, Mastodon's own
settings included, and says so if it can't.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.commands.config_file import DEFAULT_FILE, config_file, in_place
from fleetd.cli.terminal.safe_text import printable
from fleetd.core.model.policy_tables import Policy
from fleetd.errors import ConfigError
from fleetd.words.formatting import numbers, size, times
from fleetd.words.units import fault_words, headline, way_over

if TYPE_CHECKING:
    from fleetd.config import Settings


@click.command(
    name="check-config",
    short_help="Every mistake in a configuration file, or what it adds up to.",
    epilog="""\b
Exit status:
  0  fleetd would take this file
  1  it would not; every problem is listed
  2  the command line is wrong

\b
Examples:
  sudo fleetctl check-config
  sudo fleetctl check-config /etc/fleetd/fleetd.toml.new
  sudo fleetctl check-config --config /etc/fleetd/fleetd.toml.new
""",
)
@config_file
@click.pass_context
def check_config(context: click.Context, file: str) -> None:
    """Check FILE (default: /etc/fleetd/fleetd.toml). This changes nothing and connects to nothing.

    Where FILE leaves Redis or Postgres to Mastodon's .env.production, that is checked as well if you may read it.

    Lists every problem with its key and what to do about it. Where there is none, lists the profiles, the database
    connections that they claim at least and at most, and what deserves a second look.
    """
    from fleetd.app.worker_command import command_problem
    from fleetd.config import load

    try:
        settings = load(file)
        hidden = _hidden_from_fleetd(file)
        endpoints = _endpoint_lines(settings)
        problem = command_problem(settings) if os.geteuid() == 0 else ""
    except ConfigError as error:
        list_problems(error)
        context.exit(1)
    click.echo(printable(f"{file}: fleetd takes this configuration"))
    looks = [f"  look: {warning}" for warning in (*settings.warnings, *hidden, *([problem] if problem else []))]
    for line in (*_summary_lines(settings.policy), *looks, *endpoints, *unit_lines(settings)):
        click.echo(printable(line))


def _hidden_from_fleetd(file: str) -> list[str]:
    """A sentence if only root could read this file. Raises ConfigError if it is the one that fleetd reads."""
    from fleetd.app.daemons_view import hidden_from_daemon
    from fleetd.config import unreadable

    if not hidden_from_daemon(Path(file)):
        return []
    if file == DEFAULT_FILE:
        raise ConfigError(file, [unreadable(file)])
    return [f"User fleetd can't read this file. To put it where it is read: {in_place(file)}"]


def unit_lines(settings: Settings, root: Path = Path("/")) -> list[str]:
    """Units of the workers that are somebody else's or changed: each fault with its cure, then what to run."""
    from fleetd.app.daemons_view import unfit_units

    lines: list[str] = []
    for unfit in unfit_units(settings, root).values():
        lines.append(f"  look: {headline(unfit)}")
        lines += [f"    {fault_words(fault)}" for fault in unfit.faults]
        lines.append("    to use fleetd's instead, run:" if unfit.foreign else "    once it is mended, run:")
        lines += [f"      {command}" for command in way_over(unfit)]
    return lines


def _endpoint_lines(settings: Settings) -> list[str]:
    """What fleetd would connect to. Raises ConfigError if it would refuse to start.

    Usually only root may read Mastodon's settings; anybody else is told that they were not checked.
    """
    from fleetd.app.endpoints import find_endpoints
    from fleetd.app.given_env import given_env
    from fleetd.app.pooler_search import found_before

    env = given_env(settings, {})
    try:
        found = find_endpoints(settings, env, found_before(settings))
    except ConfigError:
        # Root reads it as fleetd-render does: what the workers' user may not read, fleetd will not have.
        if not env.forbidden or os.geteuid() == 0:
            raise
        how = "which you may not read: sudo fleetctl check-config checks it too"
        return [f"  look: not checked: {settings.mastodon.env_file}, {how}"]
    return [f"  {found.redis_sentence}", f"  {found.sentence}", *(f"  look: {warning}" for warning in found.warnings)]


def list_problems(error: ConfigError, *, err: bool = False) -> None:
    """Print every problem with its key and what to do about it."""
    click.echo(printable(f"{error.file}: {times(len(error.problems), 'problem')}"), err=err)
    for problem in error.problems:
        where = f"{problem.path}: " if problem.path else ""
        click.echo(printable(f"  {where}{problem.what}"), err=err)
        click.echo(printable(f"    {problem.cure}"), err=err)


def _summary_lines(policy: Policy) -> list[str]:
    """What a valid configuration adds up to: instances, claims and memory at min and at max."""
    lines = [f"  host {policy.host}"]
    for p in policy.profiles:
        names = (f"{name},{weight}" if p.order == "weighted" else name for name, weight in p.queues)
        lines += [
            f"  {p.name}: {p.min_instances} to {p.max_instances} instances of {numbers(p.numbers)}, "
            f"{p.threads} threads, pool {p.db_pool}, claims {p.claim_connections} connections each",
            f"    queues {' '.join(names)}",
        ]
    place = policy.scheduler.place
    claims = 0 if place == "elsewhere" else policy.scheduler.claim_connections
    lines.append(f"  scheduler: {place}" + (f", claims {claims} connections" if claims else ""))
    lines.append(f"  at min: {_arithmetic(policy, [p.min_instances for p in policy.profiles], claims)}")
    lines.append(f"  at max: {_arithmetic(policy, [p.max_instances for p in policy.profiles], claims)}")
    connections = policy.connections
    declared = connections.declared_connections("database")
    others = f"others at least {declared}" if declared else "others as observed"
    limit = "the limit of what is watched" if connections.limit is None else f"limit {connections.limit}"
    return [*lines, f"  budget: {limit}, less reserve {connections.reserve}, less {others}"]


def _arithmetic(policy: Policy, sizes: list[int], scheduler_claims: int) -> str:
    """`2 instances, 2 × 62 + 12 = 136 connections, about 2.0 GB of memory`."""
    parts = [(n, p.claim_connections) for n, p in zip(sizes, policy.profiles, strict=True) if n]
    total = sum(n * claim for n, claim in parts) + scheduler_claims
    sums = [f"{n} × {claim}" for n, claim in parts] + ([str(scheduler_claims)] if scheduler_claims else [])
    claims = f"{' + '.join(sums)} = {total}" if parts else str(total)
    memory = size(sum(sizes) * policy.memory.instance_bytes)
    return f"{times(sum(sizes), 'instance')}, {claims} connections, about {memory} of memory"
