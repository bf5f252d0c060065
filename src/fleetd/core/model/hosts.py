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


class OrderOfFleet(Value, frozen=True, kw_only=True):
    """A person's order in force. `host`: "": for the whole fleet."""

    kind: Literal["pause", "maintenance"]
    host: str
    sentence: str
    seconds_left: float


class FleetHosts(Value, frozen=True, kw_only=True):
    """All hosts of the fleet; JSON of this is `fleetctl hosts --json`."""

    host: str  # which was asked
    leader: str  # "": none now
    scheduler_host: str  # which holds the scheduler; "": none
    gathering: tuple[str, ...] | None  # whose answer is waited for; None: nothing is gathered
    hosts: tuple[HostOfFleet, ...]
    orders: tuple[OrderOfFleet, ...] = ()
    problem: str = ""  # why others are not shown, or only by name; "": these are all
    alone: bool = False  # the configuration shares nothing with other hosts
