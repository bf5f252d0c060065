"""What the daemon will see: with the rights of its user, which are less than root's."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.host.worker_account import Account, AccountError, account_of
from fleetd.app.route import OWN_ROLE
from fleetd.config import Settings
from fleetd.core.model.facts import UnfitUnit, UnitRule


def daemons_account() -> Account | None:
    """None: we are not root, and look with our own rights. Raises AccountError where there is no such user."""
    return account_of({"LoadState": "loaded", "User": OWN_ROLE}) if os.geteuid() == 0 else None


def unfit_units(settings: Settings, root: Path = Path("/")) -> dict[str, UnfitUnit]:
    """Units that fleetd does not run: by what they say, and because user fleetd can't read what they say."""
    files = UnitFiles(root)
    found = files.unfit(settings.units_directory)
    if root != Path("/") or os.geteuid() != 0:
        return found
    try:
        seen = as_account(daemons_account(), lambda: msgspec.json.encode(files.unfit(settings.units_directory)))
    except AccountError:  # before the installation
        return found
    theirs = msgspec.json.decode(seen, type=dict[str, UnfitUnit])
    unread = {u: unfit for u, unfit in theirs.items() if any(f.rule == UnitRule.UNREADABLE for f in unfit.faults)}
    return found | unread


def hidden_from_daemon(file: Path) -> bool:
    """Whether user fleetd can't read what we, as root, can; False if that is not known."""
    try:
        return as_account(daemons_account(), lambda: b"" if os.access(file, os.R_OK) else b"hidden") == b"hidden"
    except AccountError:  # before the installation
        return False
