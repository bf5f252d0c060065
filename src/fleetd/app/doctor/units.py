"""Rights, workers' units, and the units that are not read each tick."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleetd.adapters.host.systemctl import systemctl
from fleetd.app.daemons_view import unfit_units
from fleetd.app.doctor.check import Check
from fleetd.app.route import OWN_ROLE
from fleetd.app.worker_command import command_problem
from fleetd.config import Settings
from fleetd.words.units import fault_words, headline

_WAY_OVER: Final = "sudo fleetctl migrate"
_UP: Final = ("active", "activating", "reloading")


def rights(file: Path, settings: Settings) -> Iterator[Check]:
    """Asked by fleetd's user."""
    if not os.access(file, os.R_OK):
        line = f"sudo chgrp {OWN_ROLE} {file} && sudo chmod 0640 {file}"
        what = f"user {OWN_ROLE} can't read {file}"
        yield Check(subject="rights", verdict="broken", what=what, why="fleetd would not start.", line=line)
    state = Path(settings.state.directory)
    if state.exists() and not os.access(state, os.W_OK | os.X_OK):
        line = f"sudo chown -R {OWN_ROLE}: {state}"
        why = "Orders would be forgotten by a restart."
        yield Check(
            subject="rights", verdict="broken", what=f"user {OWN_ROLE} can't write to {state}", why=why, line=line
        )


def worker_units(settings: Settings) -> Iterator[Check]:
    """Workers' units that are somebody else's or were changed, and a command that is not there."""
    problem = command_problem(settings) if os.geteuid() == 0 else ""  # only root can look as the workers do
    if problem:
        yield Check(subject="workers' units", verdict="broken", what=problem, why="No worker can start.")
    for unfit in unfit_units(settings).values():
        if unfit.foreign:
            why = "It hides fleetd's. The way over, without losing a job:"
            yield Check(subject="workers' units", verdict="broken", what=headline(unfit), why=why, line=_WAY_OVER)
            continue
        for fault in unfit.faults:
            yield Check(subject="workers' units", verdict="broken", what=headline(unfit), why=f"{fault_words(fault)}.")


def services(settings: Settings) -> Iterator[Check]:
    """Units that are not fleetd's to read each tick."""
    stock = systemctl("show", "--property=ActiveState", "--value", "mastodon-sidekiq.service", seconds=10.0)
    if stock is not None and stock.strip() == "active" and settings.policy.scheduler.place == "here":
        yield Check(
            subject="systemd",
            verdict="look",
            what="mastodon-sidekiq.service runs here and serves every queue, `scheduler` too",
            why="While it does, fleetd starts no scheduler of its own.",
            line="sudo fleetctl migrate",
        )
    for unit, why in (
        # fleetd first: it then finds out whether workers may name their connections before they start.
        ("fleetd.service", "After a reboot fleetd would not run."),
        ("mastodon-sidekiq.target", "After a reboot no worker would be started."),
    ):
        shown = systemctl("show", "--property=UnitFileState,ActiveState", unit, seconds=10.0)
        state = dict(line.split("=", 1) for line in (shown or "").splitlines() if "=" in line)
        if state and state.get("UnitFileState") != "enabled":
            line = f"sudo systemctl enable --now {unit}"
            yield Check(subject="systemd", verdict="look", what=f"{unit} is not enabled", why=why, line=line)
        elif unit == "fleetd.service" and state.get("ActiveState", "active") not in _UP:
            what, line = f"{unit} is {state['ActiveState']}", f"sudo systemctl start {unit}"
            nobody = "Nothing decides how many workers run. See `journalctl -u fleetd`."
            yield Check(subject="systemd", verdict="broken", what=what, why=nobody, line=line)
