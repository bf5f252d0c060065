"""Every host of a fleet, as the ledger has them: the answer to `fleetctl hosts`, from whichever host is asked."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value
from fleetd.core.model.status import FleetHostStatus


class ProfileOfHost(Value, frozen=True, kw_only=True):
    """One profile of a host."""

    name: str
    queues: tuple[str, ...]
    running_instances: int
    min_instances: int
    max_instances: int


class HostOfFleet(FleetHostStatus, frozen=True, kw_only=True):
    """One host. What it told last, however long ago; None and "": it told nothing that this version can read."""

    leads: bool = False
    scheduler: bool = False  # it holds the scheduler
    maintenance: bool = False
    profiles: tuple[ProfileOfHost, ...] = ()


#: How a restart ended; "": it is under way.
RestartEnd = Literal["", "done", "given_up"]


class RestartOnHost(Value, frozen=True, kw_only=True):
    """How far a restart is on a host. stopped: it was given up elsewhere. deaf: its fleetd does not know the order."""

    host: str
    phase: Literal["waits", "under_way", "done", "given_up", "stopped", "lost", "deaf"]
    done_instances: int = 0
    total_instances: int = 0
    at_key: int | None = None  # the instance that is being replaced; 0: the scheduler


class RestartOfFleet(Value, frozen=True, kw_only=True):
    """A restart that somebody ordered within the last day. `host`: "": of all. `profile`: "": of all."""

    host: str
    profile: str
    hosts: tuple[RestartOnHost, ...]
    ended: RestartEnd


class OrderOfFleet(Value, frozen=True, kw_only=True):
    """A person's order in force. `host`: "": for the whole fleet."""

    kind: Literal["pause", "maintenance", "set", "restart"]
    host: str
    sentence: str
    seconds_left: float
    profile: str = ""  # of a set or a restart


class FleetHosts(Value, frozen=True, kw_only=True):
    """All hosts of the fleet; JSON of this is `fleetctl hosts --json`."""

    host: str  # which was asked
    leader: str  # "": none now
    scheduler_host: str  # which holds the scheduler; "": none
    gathering: tuple[str, ...] | None  # whose answer is waited for; None: nothing is gathered
    hosts: tuple[HostOfFleet, ...]
    orders: tuple[OrderOfFleet, ...] = ()  # restarts among them that are under way
    restarts: tuple[RestartOfFleet, ...] = ()
    untold: tuple[str, ...] = ()  # further hosts whose workers beat, and that keep no record in the ledger
    problem: str = ""  # why others are not shown, or only by name; "": these are all
    several: bool = False  # others share it: what is ordered on one is for all
    alone: bool = False  # the configuration shares nothing with other hosts
