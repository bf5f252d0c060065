"""One finding of `fleetctl doctor`."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value

Verdict = Literal["ok", "look", "broken"]


class Check(Value, frozen=True, kw_only=True):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    what: str
    why: str = ""  # it matters
    line: str = ""  # that mends it, to be pasted
