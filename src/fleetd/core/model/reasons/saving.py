"""That what this host remembers can't be saved, or could not be read."""

from __future__ import annotations

from fleetd.core.model.reasons.base import Reason


class MemoryUnsaved(Reason, frozen=True, kw_only=True):
    """`why`: which file can't be written, and why. `kept_in`: the file that a restart finds; None: it finds nothing."""

    why: str
    kept_in: str | None


class MemoryUnread(Reason, frozen=True, kw_only=True):
    """What the last fleetd had saved is forgotten in part, or with `fields` empty altogether.

    `writer`: the version that wrote it; "": it did not say so.
    """

    writer: str
    fields: tuple[str, ...]
