"""What `fleetctl hosts` is answered."""

from __future__ import annotations

from msgspec.structs import replace

from fleetd.core.model.hosts import FleetHosts, HostOfFleet, OrderOfFleet, ProfileOfHost
from fleetd.core.model.status import FleetHostStatus, FleetStatus, Status
from tests.support.builders.status_healthy import healthy


def host(name: str, **changes: object) -> HostOfFleet:
    given: dict[str, object] = {
        "host": name,
        "silent_seconds": 2.0,
        "instances": 4,
        "claims_connections": 108,
        "cores": 8,
        "fleetd": "0.3.0",
        "mastodon": "4.5.3",
        "profiles": (
            ProfileOfHost(
                name="default-first",
                queues=("default", "push"),
                running_instances=4,
                min_instances=1,
                max_instances=6,
            ),
        ),
    }
    return HostOfFleet(**{**given, **changes})  # type: ignore[arg-type]


def three(**changes: object) -> FleetHosts:
    """w1 leads, w2 is left for a new kernel, w3 is lost."""
    given: dict[str, object] = {
        "host": "w2",
        "leader": "w1",
        "scheduler_host": "w1",
        "gathering": None,
        "several": True,
        "hosts": (
            host("w1", leads=True, scheduler=True, instances=7),
            host("w2", maintenance=True, instances=0, claims_connections=0),
            host("w3", silent_seconds=840.0, mastodon="4.5.2"),
        ),
        "orders": (
            OrderOfFleet(
                kind="maintenance",
                host="w2",
                sentence="in maintenance, ordered by root (sudo alice): new kernel",
                seconds_left=6840.0,
            ),
            OrderOfFleet(kind="pause", host="", sentence="paused, ordered by root", seconds_left=600.0),
        ),
    }
    return FleetHosts(**{**given, **changes})  # type: ignore[arg-type]


def of_several() -> Status:
    """A calm status of a host that follows."""
    hosts = tuple(FleetHostStatus(host=name) for name in ("w1", "w2", "w3"))
    fleet = FleetStatus(leader="w1", leads=False, hosts=hosts, generation=1, gathering=None, scheduler_host="w1")
    return replace(healthy(), fleet=fleet)
