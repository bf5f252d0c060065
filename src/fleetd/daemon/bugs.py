"""Exceptions that nobody foresaw. In the running daemon each is a sentence, with one traceback in the log (law 7).

A bug that comes back every five seconds would fill the journal, and one that ends the process would have systemd start
it again for ever. In tests nobody takes them, so that they are raised and found.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

#: Kinds of which the traceback is remembered as logged.
KINDS_MAX = 100


class Bugs:
    """Takes unforeseen exceptions. `say`: logs a sentence, with `exc_info` the traceback of that exception."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._known: set[str] = set()

    def take(self, what: str, error: Exception) -> str:
        """A sentence for the operator: what failed, and where. The traceback of the first of each kind is logged.

        The exception's own words are left out, because they may quote what was read; the log takes secrets out of them.
        """
        frames = traceback.extract_tb(error.__traceback__)
        where = f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""
        kind = f"{what} failed because of a bug in fleetd ({type(error).__name__}{where})"
        if kind not in self._known and len(self._known) < KINDS_MAX:
            self._known.add(kind)
            self._say(f"{kind}; this is said once", exc_info=error)
        return f"{kind}: please report it, with the traceback in journalctl -u fleetd"
