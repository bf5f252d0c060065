"""Storms: random schedules of everything that can happen around fleetd, with the laws checked after every tick.

A law's check reads the true state of the world, not what fleetd believes. Schedules come from hypothesis, derandomised,
so that a run is the same everywhere and a failure shrinks to the few events that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.orders import Order
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.plan import FleetMemory
from fleetd.daemon.tick import TickResult
from tests.support.world.ports import FakeStore, Rig
from tests.support.world.world import World

Event = tuple[str, int]

START_SECONDS = 10_000.0

WORK = ("surge", "surge", "calm", "calm", "busy", "long_jobs", "short_jobs", "short_jobs")
# Good events are more frequent than bad ones; otherwise nothing would ever move.
SOURCES = ("redis_down", "postgres_down", "systemd_down", *3 * ("redis_up", "postgres_up", "systemd_up"))
REDIS = ("redis_read_only", "redis_loses_data", "queue_unreadable", *2 * ("queue_readable",))
CONNECTIONS = (*2 * ("others_come",), *2 * ("others_leave",), "others", "web_works")
GARBLED = ("foreign", "garbled", "legible")
DATABASE = ("others", "others", "refuses", "accepts", "accepts", "stray", "foreign", *3 * ("stray_gone",))
PEOPLE = ("hand_start", "hand_stop", "hand_quiet", "hand_restart")
DISK = ("disk_full", *2 * ("disk_free",), "saves_fail")
MISHAPS = ("kill_fleetd", "die_in_tick", "freeze", "kill_worker", "break", "mend")
TARGET = ("stop_target", *3 * ("start_target",))
SCHEDULERS = ("stock_scheduler", "stock_ends", "stock_dies", "hand_start_scheduler", "hand_stop_scheduler")


def storms(*kinds: Sequence[str], events: int = 20) -> st.SearchStrategy[list[tuple[int, Event]]]:
    """Schedules: how many ticks to wait, then an event with a number that picks its details."""
    names = [name for kind in kinds for name in kind]
    event = st.tuples(st.sampled_from(names), st.integers(0, 19))
    return st.lists(st.tuples(st.integers(1, 14), event), min_size=events - 6, max_size=events)


def steady(examples: int) -> settings:
    """The same examples on every machine, as many as a test run has time for."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)  # no Phase.explain: it takes minutes
    return settings(derandomize=True, max_examples=examples, deadline=None, database=None, phases=phases)


class Beat(NamedTuple):
    """What a process's last heartbeat said."""

    at: float
    quiet: bool
    busy: int


@dataclass
class Before:
    """The true state right before a tick, in which steps are then carried out."""

    states: dict[int, str]
    beats: dict[int, Beat]
    counting: dict[str, int]
    orders: int
    planned: FleetMemory
    hung: frozenset[int] = frozenset()  # they neither beat nor heed signals
    unheard: frozenset[int] = frozenset()  # READY for about two minutes, without any heartbeat
    drains: dict[InstanceKey, Drain] = field(default_factory=dict)
    memory: HostMemory = field(default_factory=HostMemory)

    @staticmethod
    def of(world: World, rig: Rig) -> Before:
        return Before(
            states={n: u.state for n, u in world.units.items()},
            beats={
                n: Beat(u.process.beat_at, u.process.beat_quiet, u.process.beat_work.total())
                for n, u in world.units.items()
                if u.process is not None and u.process.beat_at is not None
            },
            counting={p.name: rig.serving(p.name) for p in world.policy.profiles},
            orders=len(rig.units.orders),
            planned=rig.ticker.planned,
            hung=frozenset(n for n, u in world.units.items() if u.process is not None and u.process.hung),
            unheard=frozenset(
                n
                for n, u in world.units.items()
                if u.process is not None and u.process.beat_at is None
                if u.state == "active" and world.now - u.since >= 110.0
            ),
            drains=dict(rig.ticker.host_memory.drains),
            memory=rig.ticker.host_memory,
        )


class Check:
    """One law, checked throughout a storm."""

    def on_event(self, storm: Storm, name: str, detail: int) -> None: ...

    def on_order(self, storm: Storm, order: Order) -> None:
        """fleetd has accepted a person's order."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None: ...


class Storm:
    """Applies events to a world and runs fleetd in it, with checks after each tick."""

    def __init__(self, policy: Policy, *checks: Callable[[], Check], pool_size: int | None = None) -> None:
        self.world = World(policy, now=START_SECONDS)
        self.world.pool_size = pool_size
        self.disk = FakeStore(has_spare=True)
        self.rig = Rig(self.world, store=self.disk)
        self.checks = [make() for make in checks]
        self.dies_after_steps: int | None = None  # fleetd dies after this many steps of the next tick
        self.died = False  # fleetd died in the latest tick, which then was two in one
        self.numbers: list[InstanceKey] = [n for p in policy.profiles for n in p.numbers]

    def run(self, schedule: list[tuple[int, Event]], *, then_ticks: int = 20) -> None:
        for ticks, event in [*schedule, (then_ticks, ("nothing", 0))]:
            for _ in range(ticks):
                self.tick()
            self.apply(event)

    def tick(self) -> TickResult:
        before, ticker = Before.of(self.world, self.rig), self.rig.ticker
        self.rig.units.dies_after_steps = self.dies_after_steps
        result = self.rig.tick()
        self.dies_after_steps = None
        self.died = self.rig.ticker is not ticker
        if self.died:
            before = replace(before, planned=FleetMemory())
        orders = [step for _, step in self.rig.units.orders[before.orders :]]
        for check in self.checks:
            check.after_tick(self, before, result, orders)
        self.world.advance(self.world.policy.pace.tick_seconds)
        return result

    def apply(self, event: Event) -> None:
        name, detail = event
        if name == "nothing":
            return
        for check in self.checks:
            check.on_event(self, name, detail)
        getattr(self, f"_{name}")(detail)

    # -- work

    def _queue(self, detail: int) -> str:
        names = sorted(self.world.queues)
        return names[detail % len(names)]

    def _surge(self, detail: int) -> None:
        self.world.enqueue(self._queue(detail), 40 + 20 * detail)

    def _busy(self, detail: int) -> None:
        self.world.rates = {self._queue(detail): 1.0 + detail / 4}

    def _calm(self, detail: int) -> None:
        self.world.rates = {}

    def _long_jobs(self, detail: int) -> None:
        self.world.job_seconds = (10.0, 60.0 + 20.0 * detail)

    def _short_jobs(self, detail: int) -> None:
        self.world.job_seconds = (1.0, 3.0)

    # -- sources

    def _redis_down(self, detail: int) -> None:
        # An outage that begins within the 25 s of a proper stop can't be foreseen, so it is not tried here.
        while any(p.stop_at is not None and p.jobs for p in self.world.processes()):
            self.world.advance(1.0)
        self.world.redis_up = False

    def _redis_up(self, detail: int) -> None:
        self.world.redis_up = self.world.redis_writable = True

    def _redis_read_only(self, detail: int) -> None:
        self._redis_down(detail)
        self.world.redis_up, self.world.redis_writable = True, False

    def _redis_loses_data(self, detail: int) -> None:
        if self.world.redis_up:
            self.world.redis_restarts_empty()

    def _postgres_down(self, detail: int) -> None:
        self.world.postgres_up = False

    def _postgres_up(self, detail: int) -> None:
        self.world.postgres_up = True

    def _systemd_down(self, detail: int) -> None:
        self.world.systemd_up = False

    def _systemd_up(self, detail: int) -> None:
        self.world.systemd_up = True

    def _queue_unreadable(self, detail: int) -> None:
        self.world.unreadable.add(self._queue(detail))

    def _queue_readable(self, detail: int) -> None:
        self.world.unreadable.clear()

    def _others(self, detail: int) -> None:
        self.world.other_clients = 20 + 5 * detail

    def _others_come(self, detail: int) -> None:
        self.world.other_clients += detail

    def _others_leave(self, detail: int) -> None:
        self.world.other_clients = max(0, self.world.other_clients - detail)

    def _web_works(self, detail: int) -> None:
        self.world.web_servers = detail

    def _garbled(self, detail: int) -> None:
        self.world.garbled = True

    def _legible(self, detail: int) -> None:
        self.world.garbled = False

    def _refuses(self, detail: int) -> None:
        self.world.postgres_refuses = True

    def _accepts(self, detail: int) -> None:
        self.world.postgres_refuses = False

    def _stray(self, detail: int) -> None:
        host = "w2" if detail % 2 else self.world.policy.host
        self.world.appear(host, "default", threads=5 + detail, key=InstanceKey(50 + detail))

    def _foreign(self, detail: int) -> None:
        self.world.appear("main", "default push", threads=5 + detail)

    def _stray_gone(self, detail: int) -> None:
        if self.world.elsewhere:
            found = self.world.elsewhere[detail % len(self.world.elsewhere)]
            self.world.vanish(found, killed=detail % 3 == 0)

    # -- people and mishaps

    def _number(self, detail: int) -> InstanceKey:
        return self.numbers[detail % len(self.numbers)]

    def _hand_start(self, detail: int) -> None:
        self.world.start(self._number(detail))

    def _hand_stop(self, detail: int) -> None:
        self.world.stop(self._number(detail))

    def _hand_quiet(self, detail: int) -> None:
        self.world.quiet(self._number(detail))

    def _hand_restart(self, detail: int) -> None:
        number = self._number(detail)
        if self.world.units[number].state == "active":
            self.world.restart(number)

    def _kill_fleetd(self, detail: int) -> None:
        self.rig.kill_fleetd()

    def _die_in_tick(self, detail: int) -> None:
        self.dies_after_steps = detail % 3

    def _disk_full(self, detail: int) -> None:
        self.disk.full = True

    def _disk_free(self, detail: int) -> None:
        self.disk.full = False

    def _saves_fail(self, detail: int) -> None:
        self.disk.fails = detail

    def _freeze(self, detail: int) -> None:
        self.world.advance(10.0 * (1 + detail))

    def _kill_worker(self, detail: int) -> None:
        self.world.kill_worker(self._number(detail))

    def _break(self, detail: int) -> None:
        self.world.broken.add(self._number(detail))

    def _mend(self, detail: int) -> None:
        self.world.broken.clear()

    def _stop_target(self, detail: int) -> None:
        self.world.stop_target()

    def _start_target(self, detail: int) -> None:
        self.world.start_target(at_boot=[p.numbers[0] for p in self.world.policy.profiles])

    # -- schedulers

    def _stock_scheduler(self, detail: int) -> None:
        if not self._stock():
            self.world.appear("main", "default scheduler")

    def _stock(self) -> list[int]:
        return [i for i, p in enumerate(self.world.elsewhere) if any(q == "scheduler" for q, _ in p.queues)]

    def _stock_ends(self, detail: int) -> None:
        for i in self._stock():
            self.world.vanish(self.world.elsewhere[i])

    def _stock_dies(self, detail: int) -> None:
        for i in self._stock():
            self.world.vanish(self.world.elsewhere[i], killed=True)

    def _hand_start_scheduler(self, detail: int) -> None:
        self.world.start(SCHEDULER)

    def _hand_stop_scheduler(self, detail: int) -> None:
        self.world.stop(SCHEDULER)
