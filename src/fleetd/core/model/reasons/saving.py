"""That what this host remembers can't be saved."""

from __future__ import annotations

from fleetd.core.model.reasons.base import Reason


class MemoryUnsaved(Reason, frozen=True, kw_only=True):
    """`why`: which file can't be written, and why. `kept_in`: the file that a restart finds; None: it finds nothing."""

    why: str
    kept_in: str | None
