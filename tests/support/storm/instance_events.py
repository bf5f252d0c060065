"""Storms of everything that can happen to an instance: hangs, OOM kills, changed settings and code, people's orders."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs

from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.core.model.facts import HostPressure
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.daemon.tick import TickResult
from fleetd.errors import OrderRefusedError
from fleetd.words.reasons import sentence
from tests.support.storm.storm import Check, Storm
from tests.support.world.world import MIB

HANGS = ("hang", "unhang", "deaf", "hear", "hear", "mute", "speak")
BOOTS = ("slow_boot", "prompt_boot", "break", "mend", "mend", "starved_systemd", "fed_systemd")
CODE = ("code_changes", "code_breaks", "code_mended", "order_restart", "order_resume")
CHANGES = ("unit_file", "other_threads", "rendered", "rendered", "order_restart", "order_restart")
NUMBERS = ("fewer_numbers", "fewer_numbers", "one_profile", "all_numbers")
HEAVY = ("heavy", "heavy", "light")
PRESSURE = ("memory_pressure", "little_memory", "core_pressure", "no_pressure", "no_pressure", "oom_kill")
ORDERS = (
    "order_pause",
    "order_resume",
    "order_set",
    "order_set_auto",
    "order_pin",
    "order_release",
    "order_drain",
    "order_restart",
    "order_nonsense",
)
HOST = ("host_unreadable", "host_readable", "host_readable")


class LifeStorm(Storm):
    """`killed`: fleetd dies after every tick, and the next tick begins with what was stored. `in_mid_tick`: it dies in
    every fourth tick, before its first, second or third step."""

    def __init__(
        self,
        policy: Policy,
        *checks: Callable[[], Check],
        killed: bool = False,
        in_mid_tick: bool = False,
    ) -> None:
        super().__init__(policy, *checks)
        self.whole_policy = policy
        self.killed = killed
        self.in_mid_tick = in_mid_tick

    def tick(self) -> TickResult:
        if self.in_mid_tick and self.rig.ticks % 4 == 0:  # it does not die again while it repeats a lost order
            self.dies_after_steps = self.rig.ticks // 4 % 3
        result = super().tick()
        if self.killed:
            self.apply(("kill_fleetd", 0))
        return result

    # -- instances

    def _hang(self, detail: int) -> None:
        self.world.hang(self._number(detail), stuck=detail % 3 == 0)

    def _unhang(self, detail: int) -> None:
        for process in self.world.processes():
            process.hung = False

    def _deaf(self, detail: int) -> None:
        self.world.deaf.add(self._number(detail))

    def _hear(self, detail: int) -> None:
        self.world.deaf.clear()

    def _mute(self, detail: int) -> None:
        """Takes effect at its next boot."""
        self.world.mute.add(self._number(detail))

    def _speak(self, detail: int) -> None:
        self.world.mute.clear()
        for process in self.world.processes():
            process.mute = False

    def _oom_kill(self, detail: int) -> None:
        self.world.oom_kill(self._number(detail))

    def _slow_boot(self, detail: int) -> None:
        self.world.slow_boots[self._number(detail)] = 100.0 * (1 + detail)

    def _prompt_boot(self, detail: int) -> None:
        self.world.slow_boots.clear()

    def _starved_systemd(self, detail: int) -> None:
        self.world.start_job_seconds = 2.0 * detail

    def _fed_systemd(self, detail: int) -> None:
        self.world.start_job_seconds = 0.0

    def _heavy(self, detail: int) -> None:
        process = self.world.units[self._number(detail)].process
        if process is not None:
            process.resident_bytes = (20_000 + 1000 * detail) * MIB

    def _light(self, detail: int) -> None:
        for process in self.world.processes():
            process.resident_bytes = None

    # -- settings, unit files, Mastodon's code

    def _other_threads(self, detail: int) -> None:
        """Load a new configuration. `rendered` then writes the unit settings."""
        threads = 4 + detail % 3
        profiles = tuple(structs.replace(p, threads=threads, db_pool=threads + 2) for p in self.world.policy.profiles)
        policy = structs.replace(self.world.policy, profiles=profiles)
        self.world.policy = self.rig.ticker.policy = policy

    def _rendered(self, detail: int) -> None:
        self.world.rendered_policy = self.world.policy

    def _configure(self, policy: Policy) -> None:
        self.world.policy = self.rig.ticker.policy = policy
        self.world.render(policy)

    def _fewer_numbers(self, detail: int) -> None:
        """Each profile keeps its first numbers, or its last ones."""
        profiles = []
        for profile in self.whole_policy.profiles:
            kept = 1 + detail % len(profile.numbers)
            numbers = profile.numbers[:kept] if detail % 2 else profile.numbers[-kept:]
            low = min(profile.min_instances, kept)
            profiles.append(structs.replace(profile, numbers=numbers, min_instances=low, max_instances=kept))
        self._configure(structs.replace(self.whole_policy, profiles=tuple(profiles)))

    def _one_profile(self, detail: int) -> None:
        profiles = self.whole_policy.profiles
        self._configure(structs.replace(self.whole_policy, profiles=(profiles[detail % len(profiles)],)))

    def _all_numbers(self, detail: int) -> None:
        self._configure(self.whole_policy)

    def _unit_file(self, detail: int) -> None:
        self.world.unit_file = f"unit-{detail}"

    def _code_changes(self, detail: int) -> None:
        self.world.code = f"code-{detail}"

    def _code_breaks(self, detail: int) -> None:
        self.world.code, self.world.code_broken = f"broken-{detail}", True

    def _code_mended(self, detail: int) -> None:
        self.world.code_broken = False

    # -- the host

    def _memory_pressure(self, detail: int) -> None:
        self.world.pressure = HostPressure(memory_stalled_share=0.5, cpu_waiting_share=0.1)

    def _little_memory(self, detail: int) -> None:
        self.world.memory_available_bytes = 300 * MIB

    def _core_pressure(self, detail: int) -> None:
        self.world.pressure = HostPressure(memory_stalled_share=0.0, cpu_waiting_share=0.95)

    def _no_pressure(self, detail: int) -> None:
        self.world.pressure = None
        self.world.memory_available_bytes = 64 * 1024 * MIB

    def _host_unreadable(self, detail: int) -> None:
        self.rig.host.readable = False

    def _host_readable(self, detail: int) -> None:
        self.rig.host.readable = True

    # -- people's orders

    def order(self, order: Order) -> None:
        """Give an order. It is accepted, or refused with a reason and without a trace."""
        before = msgspec.json.encode(self.rig.ticker.host_memory)
        try:
            reply = self.rig.ticker.order(order)
        except OrderRefusedError as refused:
            assert len(str(refused)) > 10  # noqa: PT017 (it need not be refused)
            assert msgspec.json.encode(self.rig.ticker.host_memory) == before, "refused, but not forgotten"
            return
        assert sentence(reply).endswith(".")
        for check in self.checks:
            check.on_order(self, order)

    def _profile(self, detail: int) -> str:
        names = [p.name for p in self.world.policy.profiles]
        return names[detail % len(names)]

    def _order_pause(self, detail: int) -> None:
        self.order(Pause(for_seconds=30.0 * (1 + detail), reason="a storm"))

    def _order_resume(self, detail: int) -> None:
        self.order(Resume())

    def _order_set(self, detail: int) -> None:
        self.order(
            SetInstances(profile=self._profile(detail), instances=detail // 2 % 5, for_seconds=60.0 + 30 * detail)
        )

    def _order_set_auto(self, detail: int) -> None:
        self.order(SetInstances(profile=self._profile(detail), instances=None))

    def _order_pin(self, detail: int) -> None:
        self.order(PinInstance(key=self._number(detail), for_seconds=60.0 + 30 * detail))

    def _order_release(self, detail: int) -> None:
        self.order(ReleaseInstance(key=self._number(detail)))

    def _order_drain(self, detail: int) -> None:
        self.order(DrainInstance(key=self._number(detail), for_seconds=60.0 + 30 * detail))

    def _order_restart(self, detail: int) -> None:
        self.order(Restart(profile="" if detail % 3 else self._profile(detail)))

    def _order_nonsense(self, detail: int) -> None:
        orders: tuple[Order, ...] = (
            SetInstances(profile="", instances=1),
            SetInstances(profile=self._profile(detail), instances=99),
            PinInstance(key=InstanceKey(9999)),
            DrainInstance(key=SCHEDULER),
            Pause(for_seconds=1e12),
            Restart(profile="scheduler"),
        )
        self.order(orders[detail % len(orders)])
