"""Settings that should be the same on every host of a fleet, because the leader decides by its own for all."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Policy

#: A queue that is not in a table of targets (Policy.target_seconds).
USUAL_TARGET_SECONDS = 60.0
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Number = Annotated[float, Meta(ge=-(2**53), le=2**53)]


class FleetSettings(Value, frozen=True, kw_only=True):
    """By key of the configuration file; None: no target, no limit."""

    numbers: Annotated[dict[_Name, _Number | None], Meta(max_length=64)]
    targets_seconds: Annotated[dict[_Name, _Number | None], Meta(max_length=256)]

    @property
    def digest(self) -> str:
        content = msgspec.json.encode([sorted(self.numbers.items()), sorted(self.targets_seconds.items())])
        return hashlib.sha256(content).hexdigest()[:8]


def settings_of(policy: Policy) -> FleetSettings:
    pace, connections = policy.pace, policy.connections
    return FleetSettings(
        numbers={
            "connections.limit": connections.limit,
            "connections.reserve": float(connections.reserve),
            "pace.drain_seconds_max": pace.drain_seconds_max,
            "pace.hold_down_seconds": pace.hold_down_seconds,
            "pace.tick_seconds": pace.tick_seconds,
            "pace.tolerance": pace.tolerance,
            "pace.utilisation": pace.utilisation,
            "scheduler.takeover_seconds": policy.scheduler.takeover_seconds,
        },
        targets_seconds={q: t for q, t in policy.targets_seconds.items() if t != USUAL_TARGET_SECONDS},
    )
