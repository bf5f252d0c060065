"""`fleetctl check-config`: every problem of a configuration at once, or what it adds up to.

What was feared: a yes to what fleetd then refuses. So it asks what fleetd asks at its start, Mastodon's own settings
included, and says so where it can't.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetd.cli.terminal.safe_text import printable
from fleetd.core.model.policy import Policy, Profile
from fleetd.errors import ConfigError
from fleetd.words.figures import numbers, size

if TYPE_CHECKING:
    from fleetd.config import Settings

DEFAULT_FILE = "/etc/fleetd/fleetd.toml"


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
""",
)
@click.argument("file", default=DEFAULT_FILE, type=click.Path())
@click.pass_context
def check_config(context: click.Context, file: str) -> None:
    """Check FILE (default: /etc/fleetd/fleetd.toml) without touching anything or connecting to anything.

    Where FILE leaves Redis or Postgres to Mastodon's .env.production, that is checked as well if you may read it.

    Lists every problem with its key and its cure, or, when there is none, the profiles, the database connections
    that they claim at least and at most, and what is worth a second look.
    """
    from fleetd.config import load

    try:
        settings = load(file)
    except ConfigError as error:
        list_problems(error)
        context.exit(1)
    watched, looks, problems = _watched(settings)
    if problems is not None:
        list_problems(problems)
        context.exit(1)
    click.echo(printable(f"{file}: fleetd takes this configuration"))
    for line in summary_lines(settings.policy, (*settings.warnings, *looks), watched):
        click.echo(printable(line))


def _watched(settings: Settings) -> tuple[str, tuple[str, ...], ConfigError | None]:
    """Where fleetd would look, what is worth a second look there, and what it would refuse.

    Mastodon's own settings are read by root alone: somebody else is told no more than that.
    """
    from fleetd.app.endpoints import find_endpoints

    try:
        endpoints = find_endpoints(settings, {})
    except ConfigError as error:
        file = settings.mastodon.env_file
        if file and not _readable(file):
            look = f"not checked: {file}, which you may not read: sudo fleetctl check-config checks it too"
            return "", (look,), None
        return "", (), error
    return endpoints.sentence, endpoints.warnings, None


def list_problems(error: ConfigError, *, err: bool = False) -> None:
    """Every problem with its key and its cure."""
    click.echo(printable(f"{error.file}: {len(error.problems)} {_problems(len(error.problems))}"), err=err)
    for problem in error.problems:
        where = f"{problem.path}: " if problem.path else ""
        click.echo(printable(f"  {where}{problem.what}"), err=err)
        click.echo(printable(f"    {problem.cure}"), err=err)


def _readable(path: str) -> bool:
    """False only where others may read it: what is missing, fleetd misses as well."""
    try:
        with Path(path).open("rb"):
            return True
    except PermissionError:
        return False
    except OSError:
        return True


def _problems(count: int) -> str:
    return "problem" if count == 1 else "problems"


def summary_lines(policy: Policy, warnings: tuple[str, ...], watched: str = "") -> list[str]:
    """What a valid configuration comes to: instances, claims and memory at min and at max."""
    lines = [f"  host {policy.host}"]
    for profile in policy.profiles:
        lines.append(_profile_line(profile))
        lines.append(f"    queues {' '.join(_queue_words(profile))}")
    scheduler = policy.scheduler
    claims = 0 if scheduler.place == "elsewhere" else scheduler.claim_connections
    lines.append(f"  scheduler: {scheduler.place}" + (f", claims {claims} connections" if claims else ""))
    for word, sizes in (
        ("min", [profile.min_instances for profile in policy.profiles]),
        ("max", [profile.max_instances for profile in policy.profiles]),
    ):
        lines.append(f"  at {word}: {_arithmetic(policy, sizes, claims)}")
    lines.append(_budget_line(policy))
    lines += [f"  {watched}"] if watched else []
    return lines + [f"  look: {warning}" for warning in warnings]


def _profile_line(profile: Profile) -> str:
    owned = numbers(list(profile.numbers))
    return (
        f"  {profile.name}: {profile.min_instances} to {profile.max_instances} instances of {owned}, "
        f"{profile.threads} threads, pool {profile.db_pool}, claims {profile.claim_connections} connections each"
    )


def _queue_words(profile: Profile) -> list[str]:
    if profile.order == "weighted":
        return [f"{name},{weight}" for name, weight in profile.queues]
    return [name for name, _ in profile.queues]


def _arithmetic(policy: Policy, sizes: list[int], scheduler_claims: int) -> str:
    """`2 instances, 2 × 62 + 12 = 136 connections, 2.0 GB`."""
    pairs = list(zip(sizes, policy.profiles, strict=True))
    terms = [f"{n} × {profile.claim_connections}" for n, profile in pairs if n]
    terms += [str(scheduler_claims)] if scheduler_claims else []
    total = sum(n * profile.claim_connections for n, profile in pairs) + scheduler_claims
    instances = sum(sizes)
    claims = f"{' + '.join(terms)} = {total}" if len(terms) > 1 or "×" in "".join(terms) else str(total)
    memory = size(instances * policy.memory.instance_bytes)
    word = "instance" if instances == 1 else "instances"
    return f"{instances} {word}, {claims} connections, about {memory} of memory"


def _budget_line(policy: Policy) -> str:
    connections = policy.connections
    declared = connections.declared_connections("database")
    others = f"others at least {declared}" if declared else "others as observed"
    limit = "the limit of what is watched" if connections.limit is None else f"limit {connections.limit}"
    return f"  budget: {limit}, less reserve {connections.reserve}, less {others}"
