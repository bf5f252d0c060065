"""`fleetctl replay`: the recorded traffic again, under the current configuration and under another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from fleetd.cli.client import EXIT_ERROR, write_json
from fleetd.cli.commands.check_config import list_problems
from fleetd.cli.commands.history import EXIT_CODES, file_option, reconstructed, since_option
from fleetd.cli.commands.simulate import shown_progress, tell_broken_laws
from fleetd.errors import ConfigError, FleetdError

if TYPE_CHECKING:
    from fleetd.core.model.policy_tables import Policy
    from fleetd.simulate.replay.reconstruct import Reconstruction
    from fleetd.simulate.replay.replay import QueueError
    from fleetd.simulate.scoring.outcome import Outcome

CURRENT = "current"


@click.command(
    short_help="The recorded traffic under another configuration, before you use it.",
    epilog=EXIT_CODES
    + """
\b
Examples:
  fleetctl replay
  sudo install -m 600 -o "$USER" /etc/fleetd/fleetd.toml new.toml; editor new.toml
  fleetctl replay --since 24h --config new.toml
  fleetctl replay --since 24h --config new.toml --json | jq '.runs[].late_jobs'

"current" is the configuration that fleetd last ran with. This changes nothing and connects to nothing. A day takes up
to a minute and some 100 MB of memory, a week several times that: where memory is short, copy the history to another
host and use --file. docs/traces.md says what a reconstruction can't know.
""",
)
@since_option("1d")
@click.option("--config", type=click.Path(readable=False), help="The configuration to compare with the current one.")
@file_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help='One JSON document: "recorded", what truly ran; "runs" ("as recorded", which is rebuilt, "current", and the'
    ' new one by its path), each as in fleetctl simulate; "fleet_error", of instance-hours and starts;'
    ' "reconstruction", its error by queue; "trusted"; "notes"; or {"error": ...}.',
)
@click.pass_context
def replay(context: click.Context, since_seconds: float, config: str | None, file: str, as_json: bool) -> None:
    """Rebuild the traffic of the recorded time, say how far it is from what was recorded, run it through the daemon's
    own decisions, and compare late jobs, instance-hours and starts.
    """
    from fleetd.config import load
    from fleetd.simulate.replay.replay import fleet_error

    try:
        new = None if config is None else load(config).policy
        found = reconstructed(file, since_seconds)
        outcomes, errors = _run(found, config, new)
    except FleetdError as error:
        if as_json:
            write_json(msgspec.json.encode({"error": str(error)}).decode())
        elif isinstance(error, ConfigError):
            list_problems(error, err=True)
        else:
            raise
        context.exit(EXIT_ERROR)
    off = fleet_error(found, outcomes[1])
    if as_json:
        document = {
            "trace": found.trace.name,
            "duration_seconds": found.trace.duration_seconds,
            "notes": found.notes,
            "trusted": all(error.trusted for error in errors.values()),
            "reconstruction": errors,
            "recorded": found.use,
            "fleet_error": off,
            "runs": {outcome.policy: outcome.score for outcome in outcomes},
        }
        write_json(msgspec.json.encode(document).decode())
    else:
        from fleetd.cli.screens.simulation import replay_screen
        from fleetd.cli.terminal.output import show_screen

        show_screen(lambda page: replay_screen(found, outcomes, errors, off, page))
    context.exit(tell_broken_laws(outcomes))


def _run(found: Reconstruction, config: str | None, new: Policy | None) -> tuple[list[Outcome], dict[str, QueueError]]:
    """As recorded, under the current configuration, and under the new one."""
    from fleetd.simulate.replay.replay import AS_RECORDED, run_as_recorded, run_under

    with shown_progress() as progress:
        first, errors = run_as_recorded(found, progress)
        outcomes = [first, run_under(found, found.policy, CURRENT, progress)]
        if new is not None and config is not None:
            name = config if config not in (AS_RECORDED, CURRENT) else f"./{config}"
            try:
                outcomes.append(run_under(found, new, name, progress))
            except ConfigError as error:  # about queues that were recorded and that it leaves out
                raise ConfigError(config, error.problems) from None
    return outcomes, errors
