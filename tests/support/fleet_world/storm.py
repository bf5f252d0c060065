"""Storms over several hosts: everything that can happen around the fleetds of one fleet, and to their ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from fleetd.core.fleet.orders import (
    RESTART_SECONDS,
    FleetOrder,
    about_maintenance,
    about_pause,
    about_restart,
    about_set,
    written,
)
from fleetd.core.instances.orders import ReleaseInstance, SetInstances
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.daemon.tick import TickResult
from fleetd.errors import OrderRefusedError
from tests.support.fleet_world.fleet import Fleet, HostSettings
from tests.support.fleet_world.fleetd import POINTS, Hit, HostRig
from tests.support.fleet_world.host import HostWorld

#: What happens, to which host (modulo their number), and a number that picks its details.
Event = tuple[str, int, int]
#: How many times STEP_SECONDS to wait before it.
Schedule = list[tuple[int, Event]]
STEP_SECONDS = 7
#: Two of the longest ticks (host_settings).
CLOCK_LATE_SECONDS = 20.0

REDIS = ("redis_down", "redis_read_only", "flush", "fail_over", "fail_over", "jump", *3 * ("redis_up",))
POSTGRES = ("postgres_down", "others", *2 * ("postgres_up",))
PARTITIONS = ("cut_from_redis", "cut_from_redis", "cut_from_postgres", *2 * ("heal",))
HITS = ("freeze_in_tick", "crash_in_tick", "answer_lost", "command_late")
HOSTS = ("freeze", "power_lost", "boot", "boot", "join", "forget")
FLEETD = ("kill_fleetd", "stop_fleetd", *2 * ("start_fleetd",))
PEOPLE = (
    *("hand_start", "hand_stop", "hand_start_scheduler", "hand_stop_scheduler", *2 * ("set",), "auto"),
    *("pause_fleet", "pause_host", "maintain", "maintain", "end_orders"),
    *("set_fleet", "set_host", "restart_fleet", "restart_host"),
)
WORKERS = ("kill_worker", "kill_scheduler", "surge", "busy", "calm")
EVERYTHING = (*REDIS, *POSTGRES, *PARTITIONS, *2 * HITS, *HOSTS, *FLEETD, *3 * PEOPLE, *WORKERS)
#: Storms in which schedulers come and go.
SCHEDULERS = (
    *("redis_down", "redis_up", "flush", "fail_over", "jump", "cut_from_redis", "cut_from_redis", "heal", "heal"),
    *2 * HITS,
    *("freeze", "freeze", "power_lost", "boot", "join", "stop_fleetd", "start_fleetd", "kill_fleetd"),
    *2 * ("hand_start_scheduler", "hand_stop_scheduler", "kill_scheduler", "release", "end_scheduler"),
)
#: Storms in which hosts want connections.
CONNECTIONS = (
    *("redis_down", "redis_up", "flush", "fail_over", "cut_from_redis", "heal", "others"),
    *2 * HITS,
    *("freeze", "power_lost", "boot", "join", "forget", "kill_fleetd", "stop_fleetd", "start_fleetd", "kill_worker"),
    *6 * ("set",),
    *2 * ("set_all", "set_none"),
    *("hand_start", "hand_stop", "auto", "kill_scheduler"),
)

FREEZES = (3.0, 9.0, 12.0, 25.0, 45.0, 70.0, 110.0, 200.0, 330.0, 400.0)
JUMPS = (-3600.0, -100.0, -20.0, -3.0, 3.0, 20.0, 65.0, 400.0, 3600.0, 86_400.0)


def host_settings() -> st.SearchStrategy[HostSettings]:
    return st.builds(
        HostSettings,
        place=st.sampled_from(("auto", "auto", "here", "elsewhere")),
        takeover_seconds=st.sampled_from((60.0, 90.0, 120.0)),
        low=st.integers(0, 2),
        numbers=st.just(3),
        tick_seconds=st.sampled_from((5.0, 5.0, 3.0, 8.0, 10.0)),
        rate=st.sampled_from((1.0, 0.95, 1.05)),
        uptime=st.sampled_from((30.0, 2_000.0, 900_000.0)),
        there=st.sampled_from((True, True, True, True, False)),
    )


def fleets(*, hosts_max: int = 4) -> st.SearchStrategy[list[HostSettings]]:
    return st.lists(host_settings(), min_size=2, max_size=hosts_max)


def schedules(names: Sequence[str] = EVERYTHING, *, events: int = 12) -> st.SearchStrategy[Schedule]:
    event = st.tuples(st.sampled_from(names), st.integers(0, 4), st.integers(0, 39))
    return st.lists(st.tuples(st.integers(0, 12), event), min_size=events - 6, max_size=events)


class FleetCheck:
    """One law over hosts, checked by what is true in the world."""

    def on_event(self, storm: FleetStorm, name: str, rig: HostRig, detail: int) -> None: ...

    def before_step(self, storm: FleetStorm, rig: HostRig, step: Step) -> None:
        """systemd gets this order now."""

    def after_tick(self, storm: FleetStorm, rig: HostRig, result: TickResult) -> None: ...

    def at_end(self, storm: FleetStorm) -> None:
        """All faults have ended, and everything had time to come back."""


class FleetStorm:
    """Applies events to a fleet."""

    def __init__(self, settings: Sequence[HostSettings], *checks: Callable[[], FleetCheck], room: int = 9) -> None:
        """`room`: for how many processes the database has connections, besides those of others."""
        self.fleet = Fleet(settings, max_connections=5 + 3 + 20 + 7 * room)
        self.shared, self.rigs = self.fleet.shared, self.fleet.rigs
        self.orders: dict[str, tuple[float, float]] = {}  # in force: since when, and at least until when
        self.checks = [make() for make in checks]
        self.fleet.watch(self._before_step, self._after_tick)

    def _before_step(self, rig: HostRig, step: Step) -> None:
        for check in self.checks:
            check.before_step(self, rig, step)

    def _after_tick(self, rig: HostRig, result: TickResult) -> None:
        for check in self.checks:
            check.after_tick(self, rig, result)

    def run(self, schedule: Schedule) -> None:
        for steps, event in schedule:
            self.fleet.advance(STEP_SECONDS * steps + event[2] % STEP_SECONDS)
            self.apply(event)
        self.settle()
        for check in self.checks:
            check.at_end(self)

    def apply(self, event: Event) -> None:
        name, host, detail = event
        rig = self.rigs[host % len(self.rigs)]
        for check in self.checks:
            check.on_event(self, name, rig, detail)
        getattr(self, f"_{name}")(rig, detail)
        self.fleet.link()

    def settle(self) -> None:
        """All faults end, at once."""
        self.shared.redis_up = self.shared.redis_writable = self.shared.postgres_up = True
        self.shared.postgres_refuses = False
        self.shared.other_clients = 20
        self.shared.max_connections += 70
        self.end_orders()
        for rig in self.rigs:
            self._heal(rig, 0)
            if rig.machine.frozen:
                rig.machine.frozen_until = self.shared.now
            rig.hit = None
            if rig.machine.powered:
                self._start_fleetd(rig, 0)
        self.fleet.link()
        self.fleet.advance(1)

    def up(self) -> list[HostRig]:
        """The hosts with power."""
        return [rig for rig in self.rigs if rig.machine.powered]

    # -- Redis and Postgres

    def _redis_down(self, rig: HostRig, detail: int) -> None:
        self.shared.redis_up = False

    def _redis_read_only(self, rig: HostRig, detail: int) -> None:
        self.shared.redis_writable = False

    def _redis_up(self, rig: HostRig, detail: int) -> None:
        self.shared.redis_up = self.shared.redis_writable = True

    def _flush(self, rig: HostRig, detail: int) -> None:
        """FLUSHALL, or a restart without a dump, which has another run_id."""
        self.orders.clear()  # hosts that are away now may miss them
        self.shared.loses_everything()
        self._nobody_remembers()
        self.fleet.ledger.flush()
        if detail % 2:
            self.shared.another_server()

    def _nobody_remembers(self) -> None:
        """A host that no other has heard of yet is forgotten with the ledger."""
        for rig in self.rigs:
            others = (r.ticker.host_memory.fleet.members for r in self.rigs if r is not rig)
            if not any(rig.machine.name in members for members in others):
                rig.machine.told_as_of = None

    def _fail_over(self, rig: HostRig, detail: int) -> None:
        self.orders.clear()
        self._nobody_remembers()
        self.fleet.ledger.fail_over(detail % 7)
        self.shared.loses_beats(2.0)

    def _jump(self, rig: HostRig, detail: int) -> None:
        self.shared.jump(JUMPS[detail % len(JUMPS)])

    def _postgres_down(self, rig: HostRig, detail: int) -> None:
        self.shared.postgres_up = False

    def _postgres_up(self, rig: HostRig, detail: int) -> None:
        self.shared.postgres_up = True

    def _others(self, rig: HostRig, detail: int) -> None:
        self.shared.other_clients = 15 + detail

    # -- partitions

    def _cut_from_redis(self, rig: HostRig, detail: int) -> None:
        rig.machine.cut_from_redis = True

    def _cut_from_postgres(self, rig: HostRig, detail: int) -> None:
        rig.machine.cut_from_postgres = True

    def _heal(self, rig: HostRig, detail: int) -> None:
        rig.machine.cut_from_redis = rig.machine.cut_from_postgres = False

    # -- ticks

    def _hit(self, rig: HostRig, detail: int, what: str, seconds: float) -> None:
        if rig.runs and rig.machine.powered and not rig.machine.frozen:
            rig.hit = Hit(POINTS[detail % len(POINTS)], what, seconds)

    def _freeze_in_tick(self, rig: HostRig, detail: int) -> None:
        self._hit(rig, detail, "freeze", (9.0, 25.0, 70.0, 110.0, 400.0)[detail // len(POINTS) % 5])

    def _crash_in_tick(self, rig: HostRig, detail: int) -> None:
        self._hit(rig, detail, "crash", 0.0)

    def _answer_lost(self, rig: HostRig, detail: int) -> None:
        self._hit(rig, (1, 3, 5)[detail % 3], "lost", 0.0)

    def _command_late(self, rig: HostRig, detail: int) -> None:
        self._hit(rig, (0, 2, 4)[detail % 3], "late", 2.0 + detail)

    # -- hosts

    def _freeze(self, rig: HostRig, detail: int) -> None:
        if rig.machine.powered:
            rig.machine.freeze(FREEZES[detail % len(FREEZES)])

    def _power_lost(self, rig: HostRig, detail: int) -> None:
        if rig.machine.powered:
            rig.kill()
            rig.machine.lose_power()

    def _boot(self, rig: HostRig, detail: int) -> None:
        rig.kill()
        rig.machine.boot(scheduler=detail % 2 == 1 and rig.machine.policy.scheduler.place == "here")
        rig.start_fleetd()
        rig.runs = True

    def _join(self, rig: HostRig, detail: int) -> None:
        if not rig.machine.powered:
            self._boot(rig, detail)

    def _forget(self, rig: HostRig, detail: int) -> None:
        """A person forgets a host that is gone."""
        if not rig.machine.powered and self.shared.redis_up and self.shared.redis_writable:
            self.fleet.ledger.forget(rig.machine.name)
            rig.machine.told_as_of = None

    def _kill_fleetd(self, rig: HostRig, detail: int) -> None:
        if rig.machine.powered and not rig.machine.frozen:
            rig.kill()

    def _stop_fleetd(self, rig: HostRig, detail: int) -> None:
        self._kill_fleetd(rig, detail)
        rig.runs = rig.runs and rig.machine.frozen

    def _start_fleetd(self, rig: HostRig, detail: int) -> None:
        if rig.machine.powered and not rig.runs:
            rig.start_fleetd()
            rig.runs = True

    # -- people and mishaps

    def number(self, rig: HostRig, detail: int) -> InstanceKey:
        numbers = rig.machine.policy.profiles[0].numbers
        return numbers[detail % len(numbers)]

    def _by_hand(self, rig: HostRig) -> HostWorld | None:
        return rig.machine if rig.machine.powered and not rig.machine.frozen else None

    def _hand_start(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.start_by_hand(self.number(rig, detail))

    def _hand_stop(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.stop(self.number(rig, detail))

    def _hand_start_scheduler(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.start_by_hand(SCHEDULER)

    def _hand_stop_scheduler(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.stop(SCHEDULER)

    def _order(self, rig: HostRig, order: SetInstances | ReleaseInstance) -> None:
        if rig.runs and self._by_hand(rig) is not None and not rig.waits:
            try:
                rig.ticker.order(order)
            except OrderRefusedError:
                return

    def want(self, rig: HostRig, instances: int) -> None:
        """A person orders so many instances there."""
        self._order(rig, SetInstances(profile="default", instances=instances))

    def _set(self, rig: HostRig, detail: int) -> None:
        self.want(rig, (3, 2, 3, 1, 0)[detail % 5])

    def _set_all(self, rig: HostRig, detail: int) -> None:
        """All hosts want as many as they may have, at once."""
        for other in self.rigs:
            self._set(other, 0)

    def _set_none(self, rig: HostRig, detail: int) -> None:
        for other in self.rigs:
            self._set(other, 4)

    def _tell_fleet(self, about: str, seconds: float, instances: int | None = None) -> None:
        """A person's order to the fleet, given on a host that reaches the ledger."""
        ledger = self.fleet.ledger
        if ledger.state is not None and self.shared.redis_up and self.shared.redis_writable:
            until_ms = ledger.state.clock_ms + round(1000 * seconds)
            order = FleetOrder(until_ms=until_ms, force=True, instances=instances)
            ledger.order(about, written(order))
            # The fleet clock stands while nobody beats; the next beat moves it on by CLOCK_LATE_SECONDS at most.
            self.orders[about] = self.shared.now, self.shared.now + 0.9 * seconds - CLOCK_LATE_SECONDS

    def _pause_fleet(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_pause(), 30.0 + 40 * (detail % 5))

    def _pause_host(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_pause(rig.machine.name), 30.0 + 40 * (detail % 5))

    def _maintain(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_maintenance(rig.machine.name), 60.0 + 100 * (detail % 5))

    def _set_fleet(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_set("default"), 60.0 + 100 * (detail % 5), detail % 7)

    def _set_host(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_set("default", rig.machine.name), 60.0 + 100 * (detail % 5), detail % 4)

    def _restart_fleet(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_restart(), RESTART_SECONDS)

    def _restart_host(self, rig: HostRig, detail: int) -> None:
        self._tell_fleet(about_restart(rig.machine.name), RESTART_SECONDS)

    def _end_orders(self, rig: HostRig, detail: int) -> None:
        self.end_orders()

    def end_orders(self) -> None:
        """People end all orders to the fleet."""
        self.orders.clear()
        for about in self.fleet.ledger.state.orders if self.fleet.ledger.state is not None else ():
            self.fleet.ledger.order(about, None)

    def _auto(self, rig: HostRig, detail: int) -> None:
        self._order(rig, SetInstances(profile="default", instances=None))

    def _release(self, rig: HostRig, detail: int) -> None:
        self.release_scheduler(rig)

    def _end_scheduler(self, rig: HostRig, detail: int) -> None:
        """A person stops it where it runs, and gives it back to fleetd a little later."""
        for other in self.rigs:
            if other.machine.scheduler is not None:
                self._hand_stop_scheduler(other, detail)

    def release_scheduler(self, rig: HostRig) -> None:
        self._order(rig, ReleaseInstance(key=SCHEDULER))

    def _kill_worker(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.kill_worker(self.number(rig, detail))

    def _kill_scheduler(self, rig: HostRig, detail: int) -> None:
        if (host := self._by_hand(rig)) is not None:
            host.kill_worker(SCHEDULER)

    def _surge(self, rig: HostRig, detail: int) -> None:
        self.shared.enqueue("default", 2 + 5 * detail)

    def _busy(self, rig: HostRig, detail: int) -> None:
        self.shared.rates = {"default": 0.5 + detail / 10}

    def _calm(self, rig: HostRig, detail: int) -> None:
        self.shared.rates = {}
