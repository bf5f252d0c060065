"""Answers to a person whose order fleetd has taken (instances/orders.py)."""

from __future__ import annotations

from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.counts import HoldReason
from fleetd.core.model.reasons.sharing import NotTaken
from fleetd.core.model.reasons.units import PinKind


class PauseTaken(Reason, frozen=True, kw_only=True):
    for_seconds: float
    drains_going_on: int
    note: str | None = None  # what the person wrote


class ResumeTaken(Reason, frozen=True, kw_only=True):
    pause_ended: bool
    code_accepted: bool
    version: str | None
    units_accepted: bool = False


class SetTaken(Reason, frozen=True, kw_only=True):
    profile: str
    instances: int
    for_seconds: float
    min_instances: int
    held: HoldReason | None = None  # what has to end first


class AutoTaken(Reason, frozen=True, kw_only=True):
    profile: str


class PinTaken(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    wants: PinKind
    for_seconds: float


class ReleaseTaken(Reason, frozen=True, kw_only=True):
    """`profile_set`: people have set how many of its profile run, which decides about it even while fleetd observes."""

    key: InstanceKey
    is_drained: bool
    forgotten_failures: int
    profile_set: bool = False


class DrainTaken(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    busy_threads: int | None
    drain_seconds_max: float
    for_seconds: float
    left_over: bool = False  # the configuration names it no more, so nothing would start it again


class DrainUnderWay(Reason, frozen=True, kw_only=True):
    """`drained`: by us, or else stopped. `for_seconds`: how long it is kept so from now on; 0: as it was before."""

    key: InstanceKey
    busy_threads: int | None
    drained: bool
    for_seconds: float


class RestartUnderWay(Reason, frozen=True, kw_only=True):
    """What was ordered is a part of the restart that is under way."""

    done_instances: int
    total_instances: int


class RestartTaken(Reason, frozen=True, kw_only=True):
    """`code_for_all`: a restart of one profile accepted Mastodon's new code for the others as well."""

    instances: int
    code_for_all: bool
    tried_again: tuple[InstanceKey, ...]
    pins_ended: int
    left_out: tuple[InstanceKey, ...] = ()  # masked, so systemd would not start them again
    held: HoldReason | None = None  # what has to end first


class FleetPauseTaken(Reason, frozen=True, kw_only=True):
    """Of several hosts. `host`: "": of all of them, which are `hosts` now."""

    for_seconds: float
    note: str | None
    host: str
    hosts: int


class FleetResumeTaken(Reason, frozen=True, kw_only=True):
    """`hosts`: whose own pause ended besides that of all (`whole`). `here`: what else ended on this host."""

    whole: bool
    hosts: tuple[str, ...]
    here: ResumeTaken | None = None
    still_paused: bool = False  # the whole fleet, as only one host's was to end


class MaintenanceTaken(Reason, frozen=True, kw_only=True):
    """`serving`: the other hosts that serve; () if it was forced."""

    host: str
    for_seconds: float
    instances: int | None  # None: unknown
    serving: tuple[str, ...]
    scheduler: bool  # it holds the scheduler


class MaintenanceEnded(Reason, frozen=True, kw_only=True):
    host: str


class DeafHost(Value, frozen=True, kw_only=True):
    """A host that does not hear an order, because its fleetd does not know it. `fleetd`: its version; "": unknown."""

    host: str
    fleetd: str


class FleetSetTaken(Reason, frozen=True, kw_only=True):
    """`host`: "": of all together. `hosts`: that have the profile. `own`: those with a count of their own.

    `held`: hosts that are not moved, and the code of why. `leader`: which leads, if it does not know the order.
    """

    profile: str
    instances: int
    for_seconds: float
    host: str
    hosts: tuple[str, ...]
    min_instances: int  # of these hosts together
    own: tuple[tuple[str, int], ...] = ()
    held: tuple[NotTaken, ...] = ()
    deaf: tuple[DeafHost, ...] = ()
    leader: str = ""


class FleetAutoTaken(Reason, frozen=True, kw_only=True):
    """`whole`: the count of all together has ended; `hosts`: whose own; `here`: one that this host alone knew.

    `left`: hosts with a count that was ordered on them while Redis was away, which only they end.
    """

    profile: str
    whole: bool
    hosts: tuple[str, ...]
    left: tuple[str, ...] = ()
    here: bool = False


class FleetRestartTaken(Reason, frozen=True, kw_only=True):
    """`hosts`: with how many instances run on each. `upgraded`: those whose new code or units it accepts."""

    profile: str  # "": of all
    host: str  # "": of all
    hosts: tuple[tuple[str, int], ...]
    upgraded: tuple[str, ...] = ()
    held: tuple[NotTaken, ...] = ()
    deaf: tuple[DeafHost, ...] = ()


class FleetRestartUnderWay(Reason, frozen=True, kw_only=True):
    host: str  # "": of all
    profile: str  # "": of all
    done_instances: int
    total_instances: int


class HostForgotten(Reason, frozen=True, kw_only=True):
    """`claims`: what its processes might have opened, by source. `orders`: about it, that ended."""

    host: str
    silent_seconds: float
    claims: tuple[tuple[str, int], ...]
    scheduler: bool
    led: bool
    orders: int


Reply = (
    PauseTaken
    | ResumeTaken
    | SetTaken
    | AutoTaken
    | PinTaken
    | ReleaseTaken
    | DrainTaken
    | DrainUnderWay
    | RestartTaken
    | RestartUnderWay
    | FleetPauseTaken
    | FleetResumeTaken
    | MaintenanceTaken
    | MaintenanceEnded
    | FleetSetTaken
    | FleetAutoTaken
    | FleetRestartTaken
    | FleetRestartUnderWay
    | HostForgotten
)
