"""Tell of what holds the fleet, and until when."""

from __future__ import annotations

from fleetd.core.model import reasons
from fleetd.core.model.identity import TARGET_UNIT
from fleetd.core.model.status import HoldKind, HoldStatus
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence

KINDS: dict[type[reasons.HoldReason], HoldKind] = {
    reasons.TargetStopped: "stopped",
    reasons.Paused: "pause",
    reasons.CodeChanged: "upgrade",
    reasons.UnitsUpgraded: "upgrade",
    reasons.MostQuietedByHand: "quieted",
    reasons.UnitUnfit: "units",
}
#: What is next while held; the hold itself says what and why.
UNTIL: dict[HoldKind, str] = {
    "pause": "until the pause ends",
    "upgrade": "until `fleetctl restart` or `fleetctl resume`",
    "quieted": "while most instances are quieted by hand",
    "units": "until the workers' unit is fleetd's",
    "stopped": f"until {TARGET_UNIT} is started",
}


def hold_statuses(result: TickResult) -> tuple[HoldStatus, ...]:
    """Everything that holds, the most important first."""
    now = result.tick.now_seconds
    return tuple(
        HoldStatus(
            kind=KINDS[type(hold.reason)],
            sentence=sentence(hold.reason),
            seconds_left=None if hold.until_seconds is None else max(0.0, hold.until_seconds - now),
        )
        for hold in result.tick.constraints.holds
    )


def held_until(reason: reasons.HoldReason) -> str:
    """What ends it, to follow "nothing"."""
    return UNTIL[KINDS[type(reason)]]
