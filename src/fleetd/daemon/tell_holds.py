"""Tell of what holds the fleet, and until when."""

from __future__ import annotations

from fleetd.core.fleet.orders import set_heard, sets_of_fleet
from fleetd.core.model import reasons
from fleetd.core.model.identity import TARGET_UNIT
from fleetd.core.model.person import Person
from fleetd.core.model.status import ON_ALL, HoldKind, HoldStatus, OverrideStatus
from fleetd.daemon.tick import TickResult
from fleetd.words.formatting import times, who
from fleetd.words.reasons import sentence

KINDS: dict[type[reasons.HoldReason], HoldKind] = {
    reasons.TargetStopped: "stopped",
    reasons.Paused: "pause",
    reasons.UnderMaintenance: "maintenance",
    reasons.CodeChanged: "upgrade",
    reasons.UnitsUpgraded: "upgrade",
    reasons.MostQuietedByHand: "quieted",
    reasons.UnitUnfit: "units",
}
#: What is next while held; the hold itself says what and why.
UNTIL: dict[HoldKind, str] = {
    "pause": "until the pause ends",
    "maintenance": "but drains, while this host is in maintenance",
    "upgrade": "until `fleetctl restart` or `fleetctl resume`",
    "quieted": "while most instances are quieted by hand",
    "units": "until the workers' unit is fleetd's",
    "stopped": f"until {TARGET_UNIT} is started",
}


def hold_statuses(result: TickResult) -> tuple[HoldStatus, ...]:
    """Everything that holds, the most important first; a maintenance, in which it drains, last."""
    constraints = result.tick.constraints
    holds = (*constraints.holds, *((constraints.maintenance,) if constraints.maintenance is not None else ()))
    now = result.tick.now_seconds
    return tuple(
        HoldStatus(
            kind=KINDS[type(hold.reason)],
            sentence=sentence(hold.reason),
            seconds_left=None if hold.until_seconds is None else max(0.0, hold.until_seconds - now),
        )
        for hold in holds
    )


def fleet_overrides(result: TickResult, *, local: bool) -> list[OverrideStatus]:
    """The fleet's orders that concern this host. `local`: it is paused by an order of its own as well."""
    constraints, now = result.tick.constraints, result.tick.now_seconds
    found = []
    for hold in (*constraints.holds, constraints.maintenance):
        reason = None if hold is None else hold.reason
        if hold is None or not isinstance(reason, reasons.Paused | reasons.UnderMaintenance):
            continue
        left, why = max(0.0, (hold.until_seconds or now) - now), reason.note or "no reason given"
        if isinstance(reason, reasons.UnderMaintenance):
            found.append(OverrideStatus(kind="maintenance", what=reason.host, sentence=why, seconds_left=left))
        elif reason.whole or (reason.host and not local):
            what = "all hosts" if reason.whole else "fleet"
            found.append(OverrideStatus(kind="pause", what=what, sentence=why, seconds_left=left))
    return found


def count_overrides(result: TickResult) -> list[OverrideStatus]:
    """The counts that people set: on this host, and on all hosts together."""
    tick, people, now = result.tick, result.host.memory.people, result.tick.now_seconds
    found = []
    for profile in tick.policy.profiles:
        kept, heard = (
            people.set_instances(profile.name, now),
            set_heard(tick.fleet, profile.name, tick.policy.host, now),
        )
        if kept is not None:
            found.append(_set(profile.name, kept.instances, kept.person, kept.until_seconds - now))
        elif heard is not None:
            found.append(_set(profile.name, heard.order.instances, heard.order.person, heard.left_seconds))
    for name, heard in sets_of_fleet(tick.fleet, now).items():
        found.append(_set(f"{name}{ON_ALL}", heard.order.instances, heard.order.person, heard.left_seconds))
    return found


def _set(what: str, instances: int | None, person: Person | None, left_seconds: float) -> OverrideStatus:
    said = f"{times(instances or 0, 'instance')}, by {who(person)}"
    return OverrideStatus(kind="set", what=what, sentence=said, seconds_left=left_seconds)


def held_until(reason: reasons.HoldReason) -> str:
    """What ends it, to follow "nothing"."""
    return UNTIL[KINDS[type(reason)]]
