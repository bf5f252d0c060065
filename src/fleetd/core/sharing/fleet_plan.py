"""The plan of a fleet, as JSON in the ledger: how many each host is to have of each profile, and why.

Every host explains its counts by it, so all agree, whoever leads. The clamps of a profile are a chain from what its
queues need in the whole fleet over what is wanted of all hosts together to what this host is to have (law 8). What
`admit` (capacity/) then does with that count is the host's own.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, structs

from fleetd.core.fleet.sizes import PLAN_BYTES_MAX
from fleetd.core.fleet.view import QueueTold, RestartStopped
from fleetd.core.model import reasons
from fleetd.core.model.bounds import JSON_NUMBER_MAX, impossible_in
from fleetd.core.model.decision import Clamp
from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import INSTANCES_MAX

#: A plan of a later format is not read.
FORMAT = 1

_Name = Annotated[str, Meta(min_length=1, max_length=192)]
_Queue = Annotated[str, Meta(max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=JSON_NUMBER_MAX)]  # what a backlog needs has no smaller bound
_OfHost = Annotated[int, Meta(ge=0, le=2 * INSTANCES_MAX)]

#: What changes the count of a profile over all hosts.
FleetReason = (
    reasons.AtMin
    | reasons.AtMax
    | reasons.WithinTolerance
    | reasons.ShrinksByTheMean
    | reasons.LatencyUnknown
    | reasons.SetWhileLatencyUnknown
    | reasons.QueuesUnreadable
    | reasons.HeartbeatsMissingThere
    | reasons.HeartbeatGarbled
    | reasons.QueuesLate
    | reasons.JustGrew
    | reasons.WithinHoldWindow
    | reasons.SetByPeople
    | reasons.TakenAwayByHand
    | reasons.AddedByHand
    | reasons.HoldReason
    | reasons.NoHostTakesMore
    | reasons.HostsKeepMore
)


class FleetClamp(Value, frozen=True, kw_only=True, array_like=True):
    """One change of a count over all hosts, from what to what; None: it changed none."""

    reason: FleetReason
    before_instances: _Count | None = None
    after_instances: _Count | None = None


class FleetCounts(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One profile over all hosts: needed, then desired, then shared out, as far as hosts take it."""

    name: _Name
    needed_instances: _Count
    desired_instances: _Count
    shared_instances: _Count
    running_instances: _Count
    clamps: tuple[FleetClamp, ...] = ()
    need: reasons.Need | None = None  # where as many run as are desired, nobody asks


class HostShare(Value, frozen=True, kw_only=True, array_like=True):
    """What one host is to have of one of its profiles.

    It moves towards `desired_instances`. `goal_instances` are fewer while what comes instead on other hosts does not
    serve yet. `why` None: it keeps what it has.
    """

    profile: _OfHost  # the place in FleetPlan.profiles
    desired_instances: _OfHost
    goal_instances: _OfHost
    why: reasons.SharedReason | None = None


class FleetPlan(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The leader's decision for all hosts. A host that is not in it keeps what it has."""

    format: int = FORMAT
    leader: _Name
    profiles: tuple[FleetCounts, ...] = ()  # of the fleet, in order of importance
    hosts: dict[str, dict[str, HostShare]] = {}  # by host and by its own name of the profile
    queues: dict[_Queue, QueueTold] = {}
    rolls_host: str | None = None  # which may replace instances now; None: none needs to
    restart_stopped: RestartStopped | None = None  # the last restart of all hosts that was given up on one
    scheduler_host: str | None = None  # where it would be started if none lives; None: nowhere
    differences: tuple[reasons.SettingDiffers, ...] = ()  # in which other hosts differ from the leader, so all can tell

    def needed_instances(self, host: str, profile: str) -> int | None:
        """What the queues of this profile need in the whole fleet; None: the plan says nothing of it."""
        share = self.hosts.get(host, {}).get(profile)
        return None if share is None else self.profiles[share.profile].needed_instances

    def need(self, host: str, profile: str) -> reasons.Need | None:
        """Where that need comes from; None: as many run in the whole fleet as are to."""
        share = self.hosts.get(host, {}).get(profile)
        return None if share is None else self.profiles[share.profile].need

    def desired_instances(self, host: str) -> dict[str, int]:
        """What this host moves towards, by its own names of profiles."""
        return {name: share.desired_instances for name, share in self.hosts.get(host, {}).items()}


def clamps_of(plan: FleetPlan, host: str) -> tuple[Clamp, ...]:
    """Why this host is to have what it is to have, for each of its profiles from the fleet's need on."""
    return tuple(c for name, share in plan.hosts.get(host, {}).items() for c in _chain(plan, host, name, share))


def _chain(plan: FleetPlan, host: str, name: str, share: HostShare) -> list[Clamp]:
    fleet, goal = plan.profiles[share.profile], share.goal_instances
    found = [
        Clamp(reason=c.reason, profile=name, before_instances=c.before_instances, after_instances=c.after_instances)
        for c in fleet.clamps
    ]
    before = fleet.shared_instances
    if share.why is not None or goal != before:
        why = share.why or reasons.KeepsItsOwn(host=host, fleet_instances=before, instances=goal)
        found.append(Clamp(reason=why, profile=name, before_instances=before, after_instances=goal))
    if share.desired_instances != goal:
        waits = reasons.WaitsForOthers(
            host=host,
            fleet_instances=before,
            goal_instances=goal,
            coming_instances=share.desired_instances - goal,
        )
        found.append(Clamp(reason=waits, profile=name, before_instances=goal, after_instances=share.desired_instances))
    return found


def written(plan: FleetPlan) -> str:
    return msgspec.json.encode(plan).decode()


class _Format(msgspec.Struct):
    format: int = FORMAT


_DECODER = msgspec.json.Decoder(FleetPlan)


def read(text: str | bytes) -> FleetPlan | None:
    """The plan that was written; None: there is none that this version can read."""
    if not text or len(text) > PLAN_BYTES_MAX:
        return None
    try:
        if msgspec.json.decode(text, type=_Format).format != FORMAT:
            return None
        plan = _DECODER.decode(text)
        if impossible_in(msgspec.json.decode(text)):
            return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None
    sound = all(share.profile < len(plan.profiles) for shares in plan.hosts.values() for share in shares.values())
    return plan if sound else None


def share_of(plan: FleetPlan | None, host: str, profile: str) -> HostShare | None:
    return None if plan is None else plan.hosts.get(host, {}).get(profile)


def about(why: reasons.SharedReason | None, fleet_instances: int) -> reasons.SharedReason | None:
    """The same reason, of what is wanted now."""
    if why is None or why.fleet_instances == fleet_instances:
        return why
    return structs.replace(why, fleet_instances=fleet_instances)
