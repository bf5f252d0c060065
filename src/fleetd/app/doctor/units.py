"""Rights, workers' units, and the units that are not read each tick."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.mastodon.sidekiq_units import own_sidekiqs
from fleetd.app.doctor.check import Check
from fleetd.app.route import OWN_ROLE
from fleetd.app.worker_command import command_problem
from fleetd.config import Settings, rights_line
from fleetd.core.model.facts import UnfitUnit
from fleetd.words.units import fault_words, headline

_WAY_OVER: Final = "sudo fleetctl migrate"
_STOCK_UNIT: Final = "mastodon-sidekiq.service"
_UP: Final = ("active", "activating", "reloading")


def rights(file: Path, settings: Settings) -> Iterator[Check]:
    """Asked by fleetd's user."""
    if not os.access(file, os.R_OK):
        what, line = f"user {OWN_ROLE} can't read {file}", rights_line(file)
        yield Check(subject="rights", verdict="broken", what=what, why="fleetd would not start.", line=line)
    state = Path(settings.state.directory)
    if state.exists() and not os.access(state, os.W_OK | os.X_OK):
        line = f"sudo chown -R {OWN_ROLE}: {state}"
        why = "Orders would be forgotten by a restart."
        yield Check(
            subject="rights", verdict="broken", what=f"user {OWN_ROLE} can't write to {state}", why=why, line=line
        )


def worker_units(settings: Settings, unfit: Mapping[str, UnfitUnit]) -> Iterator[Check]:
    """Workers' units that are somebody else's or were changed, and a command that is not there."""
    problem = command_problem(settings) if os.geteuid() == 0 else ""  # only root can look as the workers do
    if problem:
        yield Check(subject="workers' units", verdict="broken", what=problem, why="No worker can start.")
    for found in unfit.values():
        if found.foreign and settings.policy.observes:
            why = "It hides fleetd's, so nothing here is fleetd's to start."
            yield Check(subject="workers' units", verdict="look", what=headline(found), why=why)
            continue
        if found.foreign:
            why = "It hides fleetd's. The way over, without losing a job:"
            yield Check(subject="workers' units", verdict="broken", what=headline(found), why=why, line=_WAY_OVER)
            continue
        for fault in found.faults:
            yield Check(subject="workers' units", verdict="broken", what=headline(found), why=f"{fault_words(fault)}.")


def others_running(settings: Settings) -> tuple[str, ...]:
    """Units that are not fleetd's and run this Mastodon's Sidekiq now."""
    return _running(own_sidekiqs(settings.directory))


def services(settings: Settings, unfit: Mapping[str, UnfitUnit], others: tuple[str, ...]) -> Iterator[Check]:
    """Units that are not fleetd's to read each tick.

    Where other units run this Mastodon's Sidekiq, fleetd and its workers are started by a migration, which first looks
    whether there are connections for both.
    """
    replaces = bool(others) or any(found.foreign for found in unfit.values())
    observes = settings.policy.observes
    if _STOCK_UNIT in others and settings.policy.scheduler.place == "here":
        yield Check(
            subject="systemd",
            verdict="look",
            what="mastodon-sidekiq.service runs here and serves every queue, `scheduler` too",
            why="While it does, fleetd starts no scheduler of its own.",
            line="" if observes else _WAY_OVER,
        )
    for unit, why in (
        # fleetd first: it then finds out whether workers may name their connections before they start.
        ("fleetd.service", "After a reboot fleetd would not run."),
        ("mastodon-sidekiq.target", "After a reboot no worker would be started."),
    ):
        shown = systemctl("show", "--property=UnitFileState,ActiveState", unit, seconds=10.0)
        state = dict(line.split("=", 1) for line in (shown or "").splitlines() if "=" in line)
        if observes and unit != "fleetd.service":
            continue  # whether a boot starts workers of ours is the admin's to say
        if state and state.get("UnitFileState") != "enabled":
            line = _WAY_OVER if replaces and not observes else f"sudo systemctl enable --now {unit}"
            yield Check(subject="systemd", verdict="look", what=f"{unit} is not enabled", why=why, line=line)
        elif unit == "fleetd.service" and state.get("ActiveState", "active") not in _UP:
            what, line = f"{unit} is {state['ActiveState']}", f"sudo systemctl start {unit}"
            nobody = "Nothing decides how many workers run. See `journalctl -u fleetd`."
            yield Check(subject="systemd", verdict="broken", what=what, why=nobody, line=line)
        elif state.get("ActiveState", "active") not in _UP:
            what, line = f"{unit} is stopped", f"sudo systemctl start {unit}"
            none = "While it is, fleetd starts no worker, neither min nor the scheduler."
            yield Check(subject="systemd", verdict="look", what=what, why=none, line=line)


def _running(units: Sequence[str]) -> tuple[str, ...]:
    """Which of these unit files' units run; of a template its instances."""
    patterns = [unit.replace("@.", "@*.") for unit in units]
    listed = systemctl(
        "list-units", "--plain", "--no-legend", "--state=active,activating", "--", *patterns, seconds=10.0
    )
    return tuple(line.split()[0] for line in (listed or "").splitlines() if line.split()) if patterns else ()
