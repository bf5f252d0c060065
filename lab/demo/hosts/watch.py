"""Looks once a second at everything: observers' newest look, Redis and Postgres, and what each fleetd says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.status import Status
from lab.demo.hosts.scene import Look, narrator
from lab.demo.samples import Sample
from lab.demo.watch import Servers, Watcher, ask_fleetd
from lab.errors import LabError
from lab.faults import redis
from lab.observers.observer import Observer
from lab.topologies import ManyHosts


def watcher(hosts: ManyHosts, observer: Observer, take: Callable[[Look], None]) -> Watcher:
    """`take` is called with each look. While it runs, nobody else may read from `observer`."""
    servers = Servers(redis.primary(hosts), hosts.main)

    def look(at_seconds: float) -> None:
        statuses, silence = _statuses(hosts)
        asked = narrator(statuses)
        fleet = ask_fleetd(hosts.lab.hosts[asked], "Hosts", FleetHosts)[0] if asked else None
        alive = _alive(hosts, observer)
        sample = Sample(at_seconds=at_seconds, connections=servers.connections(), **alive, **servers.queues())
        take(Look(sample, statuses, fleet, "" if statuses else silence))

    return Watcher(hosts.lab, servers, look)


def _statuses(hosts: ManyHosts) -> tuple[dict[str, Status], str]:
    """Host to status, of every fleetd that answers; and what the last one that does not says instead."""
    found, silence = {}, ""
    for worker in hosts.workers:
        if not worker.running:
            continue
        status, why = ask_fleetd(worker, "Status", Status)
        if status is None:
            silence = f"{worker.name}: {why}"
        else:
            found[worker.name] = status
    return found, silence


def _alive(hosts: ManyHosts, observer: Observer) -> dict[str, Any]:
    try:
        seen = observer.timeline()
    except LabError:  # that it has died fails the whole demo in the end
        return {}
    alive = seen.alive()
    return {
        "instances_by_host": {host.name: len(alive.get(host.name, ())) for host in hosts.workers if host.running},
        "scheduler_hosts": tuple(seen.scheduler_hosts()),
    }
