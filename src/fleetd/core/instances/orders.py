"""People's orders, obeyed: from a command and what is known to the host's memory and a sentence for the person.

Law 6: an order outranks what fleetd would do, and is kept until it expires (law 7). It moves nothing itself: the next
tick does, within the laws. What is impossible is refused with the reason, and then nothing is changed.
"""

from __future__ import annotations

import math

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory, Pause, Rollout, SetCount, unit_name
from fleetd.core.instances.lifecycle import Drain, InstanceView, Pin
from fleetd.core.instances.rollout import begin
from fleetd.core.model import commands
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.policy import Policy, Profile
from fleetd.errors import OrderRefusedError

_NO_SYSTEMD = "systemd can't be read now, so it is not known what runs: try again in a few seconds"


def obey(
    policy: Policy,
    instances: tuple[InstanceView, ...] | None,
    memory: HostMemory,
    command: commands.Command,
    now_seconds: float,
) -> tuple[HostMemory, str]:
    """The memory with this order in it, and a sentence. Raises OrderRefusedError.

    `instances`: of the last tick; None: systemd was unknown.
    """
    order = _Order(policy, instances, memory, now_seconds)
    match command:
        case commands.Pause():
            return order.pause(command)
        case commands.Resume():
            return order.resume()
        case commands.SetInstances():
            return order.set_instances(command)
        case commands.PinInstance():
            return order.pin(command)
        case commands.ReleaseInstance():
            return order.release(command)
        case commands.DrainInstance():
            return order.drain(command)
        case commands.Restart():
            return order.restart(command)


class _Order:
    """What an order is judged by."""

    def __init__(
        self,
        policy: Policy,
        instances: tuple[InstanceView, ...] | None,
        memory: HostMemory,
        now_seconds: float,
    ) -> None:
        self.policy = policy
        self.instances = instances
        self.memory = memory
        self.now = now_seconds

    def pause(self, command: commands.Pause) -> tuple[HostMemory, str]:
        seconds = self._seconds(command.for_seconds)
        reason = command.reason.strip()[: commands.REASON_CHARACTERS_MAX]
        memory = structs.replace(self.memory, pause=Pause(until_seconds=self.now + seconds, reason=reason))
        leaving = sum(1 for d in self.memory.drains.values() if d.stop_sent_seconds is None)
        more = f"; {leaving} drain(s) under way go on, because quiet can't be undone" if leaving else ""
        return memory, f"Paused for {span(seconds)}: nothing starts or stops of its own accord{more}."

    def resume(self) -> tuple[HostMemory, str]:
        ended: list[str] = []
        memory = self.memory
        if memory.paused(self.now) is not None:
            ended.append("the pause has ended")
        code = memory.code_changed
        if code is not None:
            memory = structs.replace(memory, code=code.digest)
            version = f" ({code.version})" if code.version else ""
            ended.append(
                f"Mastodon's code on disk{version} is accepted: new instances start with it, running ones keep "
                "the old one until `fleetctl restart`"
            )
        if not ended:
            raise OrderRefusedError("nothing to resume: fleetd is not paused, and no upgrade holds it")
        memory = structs.replace(memory, pause=None)
        return memory, f"Resumed: {'; '.join(ended)}."

    def set_instances(self, command: commands.SetInstances) -> tuple[HostMemory, str]:
        profile = self._profile(command.profile)
        seconds = self._seconds(command.for_seconds)
        if command.instances is None:
            if self.memory.set_instances(profile.name, self.now) is None:
                raise OrderRefusedError(f"{profile.name} is not set to a number: its queues decide already")
            sets = {k: v for k, v in self.memory.sets.items() if k != profile.name}
            return structs.replace(self.memory, sets=sets), f"{profile.name}: its queues decide again."
        if not 0 <= command.instances <= profile.max_instances:
            raise OrderRefusedError(
                f"{profile.name} has 0 to {profile.max_instances} instances here (max in fleetd.toml), "
                f"not {command.instances}"
            )
        wanted = SetCount(instances=command.instances, until_seconds=self.now + seconds)
        memory = structs.replace(self.memory, sets={**self.memory.sets, profile.name: wanted})
        low = (
            f" That is below min ({profile.min_instances})."
            if command.instances < profile.min_instances
            else ""
        )
        return memory, (
            f"{profile.name} is set to {command.instances} for {span(seconds)}, as far as connections and memory "
            f"allow; `fleetctl set {profile.name} auto` ends it.{low}"
        )

    def pin(self, command: commands.PinInstance) -> tuple[HostMemory, str]:
        view, seconds = self._view(command.number), self._seconds(command.for_seconds)
        name = unit_name(str(view.number))
        self._not_just_started(view)
        if str(view.number) in self.memory.drains or view.state == InstanceState.STOPPING:
            raise OrderRefusedError(
                f"{name} is being drained, which can't be undone: let it end, or start another"
            )
        wants = "quiet" if view.quiet else "run" if view.present else "stopped"
        memory = self._pinned(view, wants, seconds)
        told = {
            "run": "runs and is kept running",
            "stopped": "is stopped and kept so",
            "quiet": "is kept quiet",
        }
        return memory, f"{name} {told[wants]} for {span(seconds)}; `fleetctl release {view.number}` ends it."

    def release(self, command: commands.ReleaseInstance) -> tuple[HostMemory, str]:
        view = self._view(command.number)
        key, name = str(view.number), unit_name(str(view.number))
        pin, failure = self.memory.pins.get(key), self.memory.failures.get(key)
        if pin is None and failure is None:
            raise OrderRefusedError(f"{name} is not pinned and has not failed: there is nothing to release")
        pins, said = dict(self.memory.pins), "fleetd decides about it again"
        if pin is not None and pin.wants == "quiet":  # quiet can't be undone: the next tick drains it
            pins[key] = structs.replace(pin, until_seconds=self.now)
            said = "it is drained now, because quiet can't be undone"
        else:
            pins.pop(key, None)
        if failure is not None:
            said += f"; its {failure.count} failures are forgotten, so it may be tried again"
        failures = {k: f for k, f in self.memory.failures.items() if k != key}
        return structs.replace(self.memory, pins=pins, failures=failures), f"{name} is released: {said}."

    def drain(self, command: commands.DrainInstance) -> tuple[HostMemory, str]:
        view, seconds = self._view(command.number), self._seconds(command.for_seconds)
        name = unit_name(str(view.number))
        self._not_just_started(view)
        if not view.present:
            raise OrderRefusedError(
                f"{name} does not run, so there is nothing to drain; `fleetctl pin` keeps it so"
            )
        if str(view.number) in self.memory.drains or view.state == InstanceState.STOPPING:
            raise OrderRefusedError(f"{name} is being drained already")
        self.memory = self._pinned(view, "stopped", seconds)
        memory = self.memory.with_drain(view.number, Drain(since_seconds=self.now, why="drained by fleetctl"))
        busy = "" if view.busy_threads is None else f", {view.busy_threads} jobs to finish"
        return memory, (
            f"{name} is drained{busy}: stopped once idle, at the latest after "
            f"{span(self.policy.pace.drain_seconds_max)}, and kept stopped for {span(seconds)}; "
            f"`fleetctl release {view.number}` ends that."
        )

    def restart(self, command: commands.Restart) -> tuple[HostMemory, str]:
        if command.profile:
            self._profile(command.profile)
        if self.instances is None:
            raise OrderRefusedError(_NO_SYSTEMD)
        rollout = self.memory.rollout
        under_way = rollout is not None and not rollout.ended
        if (
            rollout is not None
            and under_way
            and rollout.cause == "restart"
            and self.memory.code_changed is None
        ):
            raise OrderRefusedError(
                f"a restart is under way, {rollout.done} of {rollout.total} done: `fleetctl pause` holds it"
            )
        scheduler = not command.profile and self.policy.scheduler.place != "elsewhere"
        meant = [
            v
            for v in self.instances
            if (v.profile == command.profile if command.profile else v.profile or scheduler)
        ]
        chosen = [v for v in meant if v.present and not v.quiet and str(v.number) not in self.memory.drains]
        if not chosen:
            raise OrderRefusedError(
                f"no instance of {command.profile or 'any profile'} runs: nothing to restart"
            )
        memory, more = self._accepted(command, meant)
        keys = {str(v.number) for v in chosen}
        pins = {k: p for k, p in memory.pins.items() if k not in keys}
        memory = structs.replace(memory, pins=pins)
        before, rollout = rollout, begin(self.policy, chosen, "restart", self.now)
        if rollout is not None:
            rollout = structs.replace(rollout, code_before=self.memory.code)
            memory = structs.replace(
                memory, rollout=_goes_on_from(before, rollout) if before and under_way else rollout
            )
        ended = len(self.memory.pins) - len(pins)
        more += f" {ended} pin(s) on them end." if ended else ""
        return memory, f"{len(chosen)} to restart, one at a time, each once its jobs are done.{more}"

    def _accepted(self, command: commands.Restart, meant: list[InstanceView]) -> tuple[HostMemory, str]:
        """The memory with Mastodon's code accepted and earlier failures forgotten: who restarts has cured the cause."""
        memory, more = self.memory, ""
        if memory.code_changed is not None and command.profile:
            more = " The code on disk is accepted for all profiles: what else starts has it, too."
        if memory.code_on_disk is not None:
            memory = structs.replace(memory, code=memory.code_on_disk.digest)
        failed = [str(v.number) for v in meant if str(v.number) in memory.failures]
        if failed:
            more += f" What failed before is tried again: {', '.join(unit_name(k) for k in failed)}."
        failures = {k: f for k, f in memory.failures.items() if k not in failed}
        return structs.replace(memory, failures=failures), more

    def _not_just_started(self, view: InstanceView) -> None:
        """Between our order to start it and the tick that sees it, it is neither stopped nor running."""
        if str(view.number) in self.memory.starts and not view.present:
            name = unit_name(str(view.number))
            raise OrderRefusedError(f"{name} is being started at this moment: try again in a few seconds")

    def _pinned(self, view: InstanceView, wants: str, seconds: float) -> HostMemory:
        until = self.now + seconds
        pin = Pin(wants=wants, since_seconds=self.now, until_seconds=until, by="fleetctl")  # type: ignore[arg-type]
        return structs.replace(self.memory, pins={**self.memory.pins, str(view.number): pin})

    def _seconds(self, for_seconds: float) -> float:
        """How long an order holds; 0: as long as what people do by hand."""
        if not (math.isfinite(for_seconds) and 0.0 <= for_seconds <= commands.ORDER_SECONDS_MAX):
            days = commands.ORDER_SECONDS_MAX / 86400
            raise OrderRefusedError(f"an order holds for at most {days:.0f} days, and for more than no time")
        return for_seconds or self.policy.pace.pin_seconds

    def _profile(self, name: str) -> Profile:
        profile = self.policy.profile(name)
        if profile is None:
            known = ", ".join(p.name for p in self.policy.profiles)
            raise OrderRefusedError(f"there is no profile {name!r}; there are: {known}")
        return profile

    def _view(self, number: commands.Number) -> InstanceView:
        if self.instances is None:
            raise OrderRefusedError(_NO_SYSTEMD)
        view = next((v for v in self.instances if v.number == number), None)
        if view is None:
            known = ", ".join(f"@{v.number}" for v in self.instances if v.profile)
            raise OrderRefusedError(f"no profile of fleetd.toml owns @{number}; there are: {known}")
        return view


def _goes_on_from(before: Rollout, rollout: Rollout) -> Rollout:
    """A restart ordered in mid-rollout waits for the one that is on its way out, and for what is still to come back."""
    rollout = structs.replace(rollout, away=before.away, count=before.count)
    leaving = before.current
    if not leaving or leaving in rollout.left or leaving not in before.left:
        return rollout
    left = {leaving: before.left[leaving], **rollout.left}
    return structs.replace(rollout, left=left, current=leaving, total=rollout.total + 1)


def span(seconds: float) -> str:
    """A length of time for people: "90 s", "30 min", "4.0 h", "2.0 days"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
