"""Why a host has this many of a fleet's instances (core/sharing)."""

from __future__ import annotations

from fleetd.core.model.facts import Value
from fleetd.core.model.reasons.base import ClampCode, ClampReason, Reason

# A host's part of what the fleet wants of one profile. `fleet_instances`: of all hosts together; `present_instances`:
# of every profile that run on the host; `cores`: None if unknown.


class KeepsItsOwn(ClampReason, frozen=True, kw_only=True):
    """What exists counts where it is."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    instances: int


class GrowsHere(ClampReason, frozen=True, kw_only=True):
    """Of the hosts with a free number and room it had the fewest instances for its cores."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    started_instances: int
    present_instances: int
    cores: int | None


class GoesUpToMin(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    min_instances: int


class GoesHere(ClampReason, frozen=True, kw_only=True):
    """`pressed`: the code of what it is short of; "": it had the most instances for its cores."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    ended_instances: int
    pressed: str
    present_instances: int
    cores: int | None


class MovesAway(ClampReason, frozen=True, kw_only=True):
    """One is started elsewhere first. `queue`: so that two hosts serve it; "": this host is short of `pressed`."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    to_host: str
    queue: str
    pressed: str


class MovesHere(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    from_host: str
    queue: str
    pressed: str


class WaitsForOthers(ClampReason, frozen=True, kw_only=True):
    """It is to have `goal_instances`, once what comes instead serves on other hosts."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    goal_instances: int
    coming_instances: int


class NotMoved(ClampReason, frozen=True, kw_only=True):
    """`held`: the code of what holds the host; "observes": its fleetd only observes; "silent": it was silent lately."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    instances: int
    held: str


class SetOnHost(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    instances: int


class InMaintenance(ClampReason, frozen=True, kw_only=True):
    """`kept_instances`: which people started or pinned."""

    code = ClampCode.SHARED
    host: str
    fleet_instances: int
    kept_instances: int


SharedReason = (
    KeepsItsOwn
    | GrowsHere
    | GoesUpToMin
    | GoesHere
    | MovesAway
    | MovesHere
    | WaitsForOthers
    | NotMoved
    | SetOnHost
    | InMaintenance
)


class NotTaken(Value, frozen=True, kw_only=True):
    """Why a host takes no more: the code of it."""

    host: str
    why: str


class NoHostTakesMore(ClampReason, frozen=True, kw_only=True):
    """`hosts`: some of those that have the profile."""

    code = ClampCode.NO_HOST
    missing_instances: int
    hosts: tuple[NotTaken, ...]
    more_hosts: int


class HostsKeepMore(ClampReason, frozen=True, kw_only=True):
    """Hosts have more than is wanted, by their min, a hold or a person's order."""

    code = ClampCode.SHARED
    extra_instances: int
    hosts: tuple[str, ...]
    more_hosts: int = 0


class HeartbeatsMissingThere(ClampReason, frozen=True, kw_only=True):
    """`workers`: by application_name, on any host."""

    code = ClampCode.LATENCY_UNKNOWN
    workers: tuple[str, ...]
    more_workers: int = 0


class SettingDiffers(Reason, frozen=True, kw_only=True):
    """`setting`: its key in the file; "": some differ, and it is unknown which; "profiles": their order."""

    host: str
    setting: str
    value: str
    leader: str
    leader_value: str
