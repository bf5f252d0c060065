"""Who gave an order, as far as the system can tell."""

from __future__ import annotations

from fleetd.core.model.facts import Value


class Person(Value, frozen=True, kw_only=True):
    """The Unix user of the process that gave the order; `login`: whose login it was, if another's (sudo). "": unknown.

    Both are names as the system has them, of printable characters.
    """

    user: str
    login: str = ""
