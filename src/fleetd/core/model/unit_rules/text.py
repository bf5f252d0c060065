"""What a unit file with its drop-ins says, as lines."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value

UnitSection = Literal["Unit", "Service"]


class UnitLine(Value, frozen=True, kw_only=True):
    """One assignment. `file`: the unit file or drop-in that has it."""

    name: str
    value: str
    file: str
    section: UnitSection = "Service"


class UnitText(Value, frozen=True, kw_only=True):
    """A unit file with its drop-ins, in systemd's order.

    `unreadable`: those of them that could not be read. `closed`: directories that could not be searched for more.
    `harmless`: settings files that everybody can read and that set nothing of fleetd's, or are not there.
    `rivals`: those that set Sidekiq's arguments.
    """

    unit: str
    file: str
    lines: tuple[UnitLine, ...] = ()
    unreadable: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    harmless: frozenset[str] = frozenset()
    rivals: frozenset[str] = frozenset()
