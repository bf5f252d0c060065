"""A simulated fleet: several hosts, each with its own fleetd, around one Redis and one Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import structs

from fleetd.core.model.decision import Step
from fleetd.core.model.policy_tables import ConnectionPolicy, PacePolicy, Policy, SchedulerPolicy
from fleetd.daemon.tick import TickResult
from tests.support.fleet_world.fleetd import HostRig
from tests.support.fleet_world.host import HostWorld
from tests.support.fleet_world.ledger import SharedLedger
from tests.support.fleet_world.shared import SharedWorld
from tests.support.world.ports import policy, strict

BEGIN = 10_000.0


class HostSettings(NamedTuple):
    """How one host of a fleet differs from the others."""

    place: str = "auto"
    takeover_seconds: float = 60.0
    low: int = 1
    numbers: int = 3
    tick_seconds: float = 5.0
    rate: float = 1.0
    uptime: float = 50_000.0
    there: bool = True  # from the beginning; else it joins


def host_policy(name: str, settings: HostSettings) -> Policy:
    rules = policy(
        strict("default", f"1-{settings.numbers}", queues="default push", low=settings.low),
        scheduler=SchedulerPolicy(
            place=settings.place,  # type: ignore[arg-type]
            takeover_seconds=settings.takeover_seconds,
            threads=5,
            db_pool=7,
        ),
        connections=ConnectionPolicy(reserve=5),
        pace=PacePolicy(
            tick_seconds=settings.tick_seconds,
            hold_down_seconds=30.0,
            drain_seconds_max=60.0,
            pin_seconds=600.0,
            starts_per_tick=2,
            booting_max=4,
        ),
    )
    return structs.replace(rules, host=name)


class Fleet:
    """Hosts `w1`, `w2`, …; `tick` is called after each tick that was completed."""

    def __init__(self, settings: Sequence[HostSettings], *, max_connections: int = 120) -> None:
        policies = [host_policy(f"w{i + 1}", s) for i, s in enumerate(settings)]
        self.shared = SharedWorld(policies[0], now=BEGIN)
        self.shared.max_connections = max_connections
        self.ledger = SharedLedger(self.shared)
        self.hosts = [
            HostWorld(rules, self.shared, rate=s.rate, uptime=s.uptime)
            for rules, s in zip(policies, settings, strict=True)
        ]
        self.rigs = [HostRig(host, self.ledger) for host in self.hosts]
        for rig, s in zip(self.rigs, settings, strict=True):
            rig.runs = rig.machine.powered = s.there
        self.after_tick: Callable[[HostRig, TickResult], None] = lambda rig, result: None

    def watch(
        self, before_step: Callable[[HostRig, Step], None], after_tick: Callable[[HostRig, TickResult], None]
    ) -> None:
        """Call these right before each step, and after each completed tick."""
        self.after_tick = after_tick
        for rig in self.rigs:
            rig.before_step = before_step

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.second()

    def second(self) -> None:
        """A second of the world, and the ticks that are due in it."""
        self.shared.step()
        for rig in self.rigs:
            host = rig.machine
            host.step()
            if host.frozen_until is not None and host.frozen_until <= host.now:
                host.thaw()
                if rig.waits:
                    self._ended(rig, rig.resume())
        for rig in self.rigs:
            if rig.ticks_now:
                self._ended(rig, rig.begin_tick())

    def _ended(self, rig: HostRig, result: TickResult | None) -> None:
        rig.due_seconds = rig.clock.now_seconds() + rig.ticker.pause_seconds()
        if result is not None:
            self.after_tick(rig, result)

    def link(self) -> None:
        """After a change of what is up, or can be reached."""
        for host in self.hosts:
            host.link()
