"""What people order through fleetctl, as values. Each order expires (law 7) and outranks what we would do (law 6).

Durations are seconds; 0.0 means the default (`pace.pin_seconds`). The bus carries these; orders.py obeys them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from fleetd.core.model.facts import Value

#: No order lasts longer: a week.
ORDER_SECONDS_MAX = 7 * 86400.0
REASON_CHARACTERS_MAX = 200

Number = int | Literal["scheduler"]


class Pause(Value, frozen=True, kw_only=True, tag="pause"):
    """Nothing of its own accord: no start, no drain; drains under way go on."""

    for_seconds: float = 0.0
    reason: str = ""


class Resume(Value, frozen=True, kw_only=True, tag="resume"):
    """End a pause; accept Mastodon's code as it is now on disk."""


class SetInstances(Value, frozen=True, kw_only=True, tag="set"):
    """So many instances of a profile, whatever its queues need."""

    profile: str
    instances: int | None  # None: by its queues again
    for_seconds: float = 0.0


class PinInstance(Value, frozen=True, kw_only=True, tag="pin"):
    """Keep this one as it is now: running or stopped."""

    number: Number
    for_seconds: float = 0.0


class ReleaseInstance(Value, frozen=True, kw_only=True, tag="release"):
    """End its pin, by hand or by order, and forget its failures."""

    number: Number


class DrainInstance(Value, frozen=True, kw_only=True, tag="drain"):
    """Quiet, watch, stop; then keep it stopped."""

    number: int
    for_seconds: float = 0.0


class Restart(Value, frozen=True, kw_only=True, tag="restart"):
    """Replace every running instance of a profile ("": of all, the scheduler last), one at a time."""

    profile: str = ""


Command: TypeAlias = Pause | Resume | SetInstances | PinInstance | ReleaseInstance | DrainInstance | Restart
