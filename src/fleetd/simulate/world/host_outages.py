"""Hosts that are lost, frozen or cut off, when the trace says so, and what is seen of them meanwhile.

A lost host's processes are gone at once: jobs in flight are lost as those of killed instances are, heartbeats stay in
Redis until they expire, and connections stay open in Postgres until it notices. On a frozen host everything stands
still, and only its clock goes on. One that is cut off from Redis finishes the jobs that it has and gets no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.worker_settings import min_numbers
from fleetd.simulate.trace.hosts import HostOutage, outages_of
from fleetd.simulate.world.fleet import Instance

if TYPE_CHECKING:
    from fleetd.simulate.world.machine import Machine
    from fleetd.simulate.world.world import Held, World

#: A heartbeat expires this long after its last beat (Sidekiq's Launcher).
HEARTBEAT_SECONDS = 60
#: From a host's boot until fleetd's first tick.
FLEETD_BOOT_SECONDS = 12
#: The default of lost_connections_seconds: tcp_keepalive_time, and nine probes 75 s apart.
LOST_CONNECTIONS_SECONDS = 7_875.0


class Remains(NamedTuple):
    """A process that ended with its host's power."""

    instance: Instance
    open_until: float  # its connections


class HostOutages:
    """Begins and ends the outages of hosts. `remains`: what Redis and Postgres still show of lost hosts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.remains: list[Remains] = []
        hosts = world.trace.hosts
        self._to_come = sorted(
            ((outage, index) for index, host in enumerate(hosts) for outage in outages_of(host)),
            key=lambda entry: entry[0].at,
        )
        self._under_way: list[tuple[HostOutage, Machine]] = []
        self._held: dict[str, Held] = {}  # by frozen host: what would have happened there

    def apply(self, now: int) -> None:
        """What begins and ends by this second. What ends comes first."""
        if not (self._to_come or self._under_way):
            return
        for entry in [e for e in self._under_way if e[0].until <= now]:
            self._under_way.remove(entry)
            self._end(*entry)
        while self._to_come and self._to_come[0][0].at <= now:
            outage, index = self._to_come.pop(0)
            machine = self.world.machines[index]
            self._begin(outage, machine)
            self._under_way.append((outage, machine))
        for _, machine in self._under_way:
            for instance in machine.present:
                if instance.beat_at is not None and now - instance.beat_at > HEARTBEAT_SECONDS:
                    instance.beat_at = None  # its key in Redis has expired

    def open_connections(self) -> int:
        """Connections of lost hosts that Postgres still has."""
        return sum([i.open_connections for i, until in self.remains if until > self.world.now])

    def heartbeats(self) -> Iterator[Instance]:
        """Lost processes whose heartbeats are still in Redis."""
        now = self.world.now
        return (i for i, _ in self.remains if i.beat_at is not None and now - i.beat_at <= HEARTBEAT_SECONDS)

    def _begin(self, outage: HostOutage, machine: Machine) -> None:
        now = self.world.now
        if outage.kind == "lost":
            self._lose_power(machine)
        elif outage.kind == "frozen":
            machine.frozen_at = now
            self._held[machine.name] = self.world.hold(machine)
        else:
            machine.cut_off_at = now
        machine.refresh()

    def _end(self, outage: HostOutage, machine: Machine) -> None:
        if outage.kind == "lost":
            self._boot(machine)
        elif outage.kind == "frozen":
            machine.frozen_at = None
            self.world.resume(self._held.pop(machine.name))
        else:
            machine.cut_off_at = None
        machine.refresh()

    def _lose_power(self, machine: Machine) -> None:
        given = self.world.trace.database.lost_connections_seconds
        until = self.world.now + (LOST_CONNECTIONS_SECONDS if given is None else given)
        machine.powered = False
        for group in machine.all_groups:
            machine.lost_jobs += sum(map(group.in_flight, group.present))
            for instance in group.lose_all():
                instance.jobs = {}
                instance.invocation += 1  # nothing happens to it any more
                self.remains.append(Remains(instance, until))

    def _boot(self, machine: Machine) -> None:
        """systemd starts each profile's `min`, and the scheduler that belongs here, unless its unit sees another."""
        machine.powered = True
        machine.boots += 1
        machine.booted_at = self.world.now
        machine.fleetd_from = self.world.now + FLEETD_BOOT_SECONDS
        for key in min_numbers(machine.policy):
            self.world.start(key, machine)
        if machine.policy.scheduler.place == "here" and not self._another_schedules(machine):
            self.world.start(SCHEDULER, machine)

    def _another_schedules(self, machine: Machine) -> bool:
        """What the unit's own condition asks Redis: whether another host's scheduler beats, or is about to."""
        if not self.world.reaches(machine, "redis"):
            return False
        now = self.world.now
        return any(
            not other.is_away or (unit.beat_at is not None and now - unit.beat_at <= HEARTBEAT_SECONDS)
            for other in self.world.machines
            if other is not machine and (unit := other.scheduler) is not None
        )
