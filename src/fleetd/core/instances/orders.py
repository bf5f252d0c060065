"""People's orders: the arguments of each, what it changes, when it is refused, and its help.

A new order is one class here, listed in ORDERS. The bus offers it as a method of that name with its fields as
arguments, and fleetctl as a command with its docstring as help. Each order expires (law 7) and outranks what fleetd
would do by itself (law 6). It starts and stops nothing: it changes the host's memory, and the next tick acts on that,
within the laws. An impossible order is refused with the reason, and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from msgspec import structs

from fleetd.core.fleet.orders import NOTE_CHARACTERS_MAX, ORDER_SECONDS_MAX
from fleetd.core.instances.host_memory import HostMemory, PauseInForce, Rollout, SetInForce
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import Drain, InstanceView, Pin
from fleetd.core.instances.outdated import outdated_for
from fleetd.core.instances.rollout import begin
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import SCHEDULER, TARGET_UNIT, InstanceKey, unit_name
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Profile
from fleetd.errors import OrderRefusedError

_NO_SYSTEMD = "systemd can't be read now, so it is not known what runs: try again in a few seconds"


class Situation:
    """What an order is judged by: the last tick with the present policy, the present memory, and who gives it."""

    def __init__(
        self,
        tick: HostTick,
        memory: HostMemory,
        now_seconds: float,
        person: Person | None = None,
        *,
        ordered_ago_seconds: float = 0.0,
    ) -> None:
        """`ordered_ago_seconds`: how long ago the order was given, where the ledger brought it."""
        self.person = person
        self.ordered_ago_seconds = ordered_ago_seconds
        self.tick = tick
        self.policy = tick.policy
        self.memory = memory
        self.people = memory.people
        self.now = now_seconds

    def seconds(self, for_seconds: float) -> float:
        """How long an order holds; 0: `pace.pin_seconds`, as for what people do by hand. Refused beyond a week."""
        if not (math.isfinite(for_seconds) and 0.0 <= for_seconds <= ORDER_SECONDS_MAX):
            days = ORDER_SECONDS_MAX / 86400
            raise OrderRefusedError(
                f"an order can't hold for {for_seconds:g} s: at most {days:.0f} days, or 0 for the default"
            )
        return for_seconds or self.policy.pace.pin_seconds

    def note(self, reason: str) -> str | None:
        """What a person wrote, on one line."""
        note = " ".join(reason.split())
        if len(note) > NOTE_CHARACTERS_MAX or not note.isprintable():
            raise OrderRefusedError(
                f"the reason is shown to everybody: at most {NOTE_CHARACTERS_MAX} characters, all printable"
            )
        return note or None

    def profile(self, name: str) -> Profile:
        profile = self.policy.profile(name)
        if profile is None:
            known = ", ".join(p.name for p in self.policy.profiles)
            raise OrderRefusedError(f"there is no profile {name[:64]!r}; there are: {known}")
        return profile

    def instances(self) -> tuple[InstanceView, ...]:
        if self.tick.instances is None:
            raise OrderRefusedError(_NO_SYSTEMD)
        return self.tick.instances

    def settled(self, key: InstanceKey) -> InstanceView:
        """This instance. Refused while no tick has shown our order to start it yet."""
        view = self.view(key)
        if key in self.memory.starts and not view.is_present:
            raise OrderRefusedError(f"{unit_name(key)} is being started at this moment: try again in a few seconds")
        return view

    def view(self, key: InstanceKey) -> InstanceView:
        instances = self.instances()
        view = next((v for v in instances if v.key == key), None)
        if view is None:
            known = ", ".join(f"@{v.key}" for v in instances if v.key != SCHEDULER)
            raise OrderRefusedError(f"no profile of fleetd.toml owns @{key}; there are: {known}")
        return view

    def may_end(self, view: InstanceView) -> InstanceView:
        """This instance. Refused if its unit is somebody else's."""
        unfit = self.memory.unfit(view.key)
        if unfit is not None:
            raise OrderRefusedError(
                f"{unfit.unit} ({unfit.file}) is not fleetd's, so it is left alone: fleetctl status"
            )
        return view

    def is_newer(self, view: InstanceView) -> bool:
        """Whether this instance was started after the order was given."""
        return view.unit is not None and view.unit.state_age_seconds < self.ordered_ago_seconds

    def drains(self, view: InstanceView) -> bool:
        return view.key in self.memory.drains or view.state == InstanceState.STOPPING

    def held(self) -> reasons.HoldReason | None:
        """What keeps an order that was taken from having an effect now, an upgrade that waits for one aside."""
        upgrades = (reasons.CodeChanged, reasons.UnitsUpgraded)
        found = (self.tick.constraints.maintenance, *self.tick.constraints.holds)
        return next((h.reason for h in found if h is not None and not isinstance(h.reason, upgrades)), None)

    def with_pin(self, key: InstanceKey, wants: reasons.PinKind, for_seconds: float) -> HostMemory:
        until = self.now + for_seconds
        pin = Pin(wants=wants, since_seconds=self.now, until_seconds=until, by="fleetctl", person=self.person)
        return self.memory.with_pins({**self.people.pins, key: pin})

    def with_people(self, **changes: object) -> HostMemory:
        return structs.replace(self.memory, people=structs.replace(self.people, **changes))


class Order(Value, frozen=True, kw_only=True, tag=True):
    """Base of all orders.

    `command`: fleetctl's name for it; the docstring is its help. `for_seconds` 0: as long as `pace.pin_seconds`.
    """

    command: ClassVar[str]
    summary: ClassVar[str]
    examples: ClassVar[tuple[str, ...]] = ()

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        """The memory with this order in it, and the answer. Raises OrderRefusedError."""
        raise NotImplementedError


class Pause(Order, frozen=True, kw_only=True):
    """Leave the fleet as it is, on all of its hosts.

    systemd still restarts what fails, drains under way go on to their end, and your own orders are still carried
    out. Instances above min are still drained when others need their database connections, and a second scheduler is
    still stopped.
    """

    command = "pause"
    summary = "Nothing starts or drains of its own accord for a while."
    examples = (
        'fleetctl pause --for 2h --reason "moving the database"',
        "fleetctl pause                      for 4h, unless configured otherwise",
        "fleetctl pause --host w2            one host of several; each of them can be told so",
        "fleetctl resume                     ends it early",
    )
    for_seconds: float = 0.0
    reason: str = ""

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        seconds, note = now.seconds(self.for_seconds), now.note(self.reason)
        pause = PauseInForce(until_seconds=now.now + seconds, note=note, person=now.person)
        going_on = sum(1 for d in now.memory.drains.values() if d.stop_sent_seconds is None)
        reply = reasons.PauseTaken(for_seconds=seconds, drains_going_on=going_on, note=pause.note)
        return now.with_people(pause=pause), reply


class Resume(Order, frozen=True, kw_only=True):
    """Let fleetd go on after a pause, or after Mastodon's code on disk or the workers' units have changed.

    After an upgrade this says that the new code is complete and may be started. Running instances keep the old code
    until they are restarted. fleetctl restart does both.

    With several hosts the pause of all of them ends, and an upgrade is accepted on the host where this is ordered.
    """

    command = "resume"
    summary = "End a pause; accept Mastodon's code and the workers' units as they are now."
    examples = ("fleetctl resume", "fleetctl resume --host w2            only what pauses this one host")

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        paused, code = now.people.paused(now.now) is not None, now.memory.code_changed
        units = now.memory.units_changed
        if not paused and code is None and not units:
            raise OrderRefusedError("nothing to resume: fleetd is not paused, and no upgrade holds it")
        memory = now.with_people(pause=None).with_upgrade_accepted()
        if units:
            memory = _as_they_are(now, memory, now.tick.active)
        version = code.version or None if code is not None else None
        reply = reasons.ResumeTaken(
            pause_ended=paused, code_accepted=code is not None, version=version, units_accepted=bool(units)
        )
        return memory, reply


def _as_they_are(now: Situation, memory: HostMemory, kept: Iterable[InstanceView]) -> HostMemory:
    """These keep the unit that they run with: no roll by itself follows. Changed settings are rolled out all the same.

    Raises OrderRefusedError while it is unknown what they run with.
    """
    machine = now.tick.machine
    if machine is None:
        raise OrderRefusedError("what the installation changed can't be read now; `fleetctl status` says why")
    rendered = {key: settings.digest for key, settings in machine.rendered.items()}
    same = [v for v in kept if v.digest in {None, rendered.get(v.key)}]
    targets = {v.key: outdated_for(now.policy, v, machine, memory) for v in same}
    replaced = memory.units.replaced | {key: target for key, target in targets.items() if target is not None}
    return structs.replace(memory, units=structs.replace(memory.units, replaced=replaced))


class SetInstances(Order, frozen=True, kw_only=True):
    """Run N instances of PROFILE for a while, on all hosts together. With auto, its queues decide again.

    There may be fewer if the database's connections or the host's memory don't allow N; fleetctl status says so.
    """

    command = "set"
    summary = "Run a fixed number of instances of a profile, whatever its queues need."
    examples = (
        "fleetctl set default-first 6 --for 1h      before an announcement; the hosts share them out",
        "fleetctl set default-first 2 --host w2     on one host of several; the others go on as before",
        "fleetctl set pull-first 0 --for 30m        give its connections to others",
        "fleetctl set pull-first auto               its queues decide again, before the time is over",
    )
    profile: str
    instances: int | None  # None: auto
    for_seconds: float = 0.0

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        profile, seconds = now.profile(self.profile), now.seconds(self.for_seconds)
        if self.instances is None and self.for_seconds:
            raise OrderRefusedError("auto ends an order and has no end of its own: leave the time out")
        if self.instances is None:
            if now.people.set_instances(profile.name, now.now) is None:
                raise OrderRefusedError(f"{profile.name} is not set to a number: its queues decide already")
            sets = {name: kept for name, kept in now.people.sets.items() if name != profile.name}
            return now.with_people(sets=sets), reasons.AutoTaken(profile=profile.name)
        if not 0 <= self.instances <= profile.max_instances:
            raise OrderRefusedError(
                f"{profile.name} has 0 to {profile.max_instances} instances here (max in fleetd.toml), "
                f"not {self.instances}"
            )
        wanted = SetInForce(instances=self.instances, until_seconds=now.now + seconds, person=now.person)
        return now.with_people(sets={**now.people.sets, profile.name: wanted}), reasons.SetTaken(
            profile=profile.name,
            instances=self.instances,
            for_seconds=seconds,
            min_instances=profile.min_instances,
            held=now.held(),
        )


class PinInstance(Order, frozen=True, kw_only=True):
    """Keep instance N as it is now.

    An instance that you start, stop or quiet with systemctl is pinned without this.
    """

    command = "pin"
    summary = "Keep an instance as it is: running or stopped."
    examples = (
        "fleetctl pin 3 --for 1d        @3, mastodon-sidekiq@3 and mastodon-sidekiq@3.service are the same",
        "fleetctl pin scheduler",
        "fleetctl release 3             ends it early",
    )
    key: InstanceKey
    for_seconds: float = 0.0

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        view, seconds = now.settled(self.key), now.seconds(self.for_seconds)
        if now.drains(view):
            raise OrderRefusedError(
                f"{unit_name(view.key)} is being drained, which can't be undone: let it end, or start another"
            )
        wants = reasons.PinKind.RUN if view.is_present else reasons.PinKind.STOPPED
        wants = reasons.PinKind.QUIET if view.quiet else wants
        reply = reasons.PinTaken(key=view.key, wants=wants, for_seconds=seconds)
        return now.with_pin(view.key, wants, seconds), reply


class ReleaseInstance(Order, frozen=True, kw_only=True):
    """Give instance N back to fleetd, however it was pinned: by fleetctl or by hand.

    One that failed is tried again at once.
    """

    command = "release"
    summary = "End a pin, and forget an instance's failures."
    examples = ("fleetctl release 3", "fleetctl release scheduler")
    key: InstanceKey

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        view = now.view(self.key)
        key = view.key
        pin, failure = now.people.pins.get(key), now.memory.units.failures.get(key)
        if pin is None and failure is None:
            raise OrderRefusedError(f"{unit_name(key)} is not pinned and has not failed: there is nothing to release")
        pins = {k: p for k, p in now.people.pins.items() if k != key}
        quiet = pin is not None and pin.wants == reasons.PinKind.QUIET
        if pin is not None and quiet:  # quiet can't be undone: the next tick drains it
            pins[key] = structs.replace(pin, since_seconds=now.now, until_seconds=now.now, by="fleetctl")
        count = failure.count if failure is not None else 0
        reply = reasons.ReleaseTaken(
            key=key,
            is_drained=quiet,
            forgotten_failures=count,
            profile_set=view.profile in now.tick.constraints.set_instances,
        )
        return now.memory.with_pins(pins).with_released((key,)), reply


class DrainInstance(Order, frozen=True, kw_only=True):
    """Let instance N finish its jobs, stop it, and keep it stopped for a while. No job is lost."""

    command = "drain"
    summary = "Quiet an instance, wait until it is idle, stop it."
    examples = (
        "fleetctl drain 3 --for 1d          and keep it stopped for a day",
        "fleetctl drain 3 --wait            stay until it is stopped",
    )
    key: InstanceKey
    for_seconds: float = 0.0

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        if self.key == SCHEDULER:
            raise OrderRefusedError(
                "the scheduler can't be drained, or nothing would be scheduled: fleetctl restart replaces it, "
                "systemctl stop mastodon-sidekiq-scheduler stops it"
            )
        view, seconds = now.settled(self.key), now.seconds(self.for_seconds)
        name = unit_name(view.key)
        if not view.is_present:
            raise OrderRefusedError(f"{name} does not run, so there is nothing to drain; `fleetctl pin` keeps it so")
        now.may_end(view)
        if now.drains(view):
            ours = view.key in now.memory.drains
            keeps = ours and not view.left_over  # nothing would start that one again
            going_on = reasons.DrainUnderWay(
                key=view.key,
                busy_threads=view.busy_threads,
                drained=ours,
                for_seconds=seconds if keeps else 0.0,
            )
            return now.with_pin(view.key, reasons.PinKind.STOPPED, seconds) if keeps else now.memory, going_on
        drain = Drain(since_seconds=now.now, cause=reasons.DrainedByPeople(person=now.person))
        reply = reasons.DrainTaken(
            key=view.key,
            busy_threads=view.busy_threads,
            drain_seconds_max=now.policy.pace.drain_seconds_max,
            for_seconds=seconds,
            left_over=view.left_over,
        )
        pinned = now.memory if view.left_over else now.with_pin(view.key, reasons.PinKind.STOPPED, seconds)
        return pinned.with_drain(view.key, drain), reply


class Restart(Order, frozen=True, kw_only=True):
    """Replace every running instance of PROFILE, or of all profiles, and show the progress.

    They are drained and replaced one at a time, on one host after the other, so that never more than one is missing. If
    a replacement does not come up on one host, the others are left as they are. Ctrl-C ends only the watching: fleetctl
    pause holds the restart, fleetctl resume lets it go on.
    """

    command = "restart"
    summary = "Replace the instances one at a time, without losing a job."
    examples = (
        "fleetctl restart                    everything, the scheduler last; after an upgrade of Mastodon",
        "fleetctl restart default-first      one profile",
        "fleetctl restart --host w2          one host of several",
        "fleetctl restart --no-wait          fleetctl status shows the progress",
    )
    profile: str = ""  # "": of all, the scheduler's too

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        if self.profile:
            now.profile(self.profile)
        rollout = now.memory.rollout_under_way
        restarts = rollout is not None and rollout.cause == reasons.ReplaceCause.RESTART
        upgraded = now.memory.code_changed is not None or bool(now.memory.units_changed)
        scheduler = not self.profile and now.policy.scheduler.place != "elsewhere"
        meant = [v for v in now.instances() if self._means(v, scheduler=scheduler)]
        fit = [v for v in meant if now.memory.unfit(v.key) is None]
        if meant and not fit:
            now.may_end(meant[0])
        meant = [v for v in fit if not now.tick.can_not_return(v)]
        if fit and not meant:
            raise OrderRefusedError("they are masked, so systemd would not start them again: systemctl unmask first")
        chosen = [v for v in meant if v.is_present and not v.quiet and v.key not in now.memory.drains]
        chosen = [v for v in chosen if not now.is_newer(v)]
        if rollout is not None and restarts and not upgraded:
            return now.memory, _goes_on(now, rollout, chosen)
        if not chosen:
            stopped = now.memory.target.stopped_seconds is not None
            start = f"; to start them: systemctl start {TARGET_UNIT}" if stopped else ""
            runs = "was running when that was ordered" if now.ordered_ago_seconds else "runs"
            raise OrderRefusedError(f"no instance of {self.profile or 'any profile'} {runs}: nothing to restart{start}")
        # A person who restarts has fixed what failed, and accepts Mastodon's code as it is on disk.
        failed = tuple(v.key for v in meant if v.key in now.memory.units.failures)
        pins = {k: p for k, p in now.people.pins.items() if k not in {v.key for v in chosen}}
        fresh = begin(now.policy, chosen, reasons.ReplaceCause.RESTART, now.now)
        fresh = structs.replace(
            fresh, code_before=now.memory.code, shipped_before=now.memory.shipped, person=now.person
        )
        memory = structs.replace(
            now.memory.with_released(failed).with_pins(pins).with_upgrade_accepted(),
            rollout=_goes_on_from(rollout, fresh) if rollout is not None else fresh,
        )
        if self.profile and now.memory.units_changed:
            memory = _as_they_are(now, memory, [v for v in now.tick.active if v not in chosen])
        return memory, reasons.RestartTaken(
            instances=len(chosen),
            code_for_all=upgraded and bool(self.profile),
            tried_again=failed,
            pins_ended=len(now.people.pins) - len(pins),
            left_out=tuple(v.key for v in fit if v.is_present and v not in meant),
            held=now.held(),
        )

    def _means(self, view: InstanceView, *, scheduler: bool) -> bool:
        if view.key == SCHEDULER:
            return scheduler
        return not self.profile or view.profile == self.profile


def _goes_on(now: Situation, rollout: Rollout, chosen: list[InstanceView]) -> reasons.RestartUnderWay:
    """The answer to a restart of what a restart under way replaces anyway. Refused if it leaves some of them out."""
    done, total = rollout.done_instances, rollout.total_instances
    begun_ago = now.now - rollout.since_seconds
    left_out = [v.key for v in chosen if v.key not in rollout.left and v.state_age_seconds > begun_ago]
    if left_out:
        raise OrderRefusedError(
            f"a restart of others is under way, {done} of {total} done: order this one once it has ended; "
            "`fleetctl pause` holds it"
        )
    return reasons.RestartUnderWay(done_instances=done, total_instances=total)


def _goes_on_from(before: Rollout, fresh: Rollout) -> Rollout:
    """A restart ordered in mid-rollout waits for the instance that drains, and for a replacement still to come."""
    fresh = structs.replace(fresh, unavailable_in=before.unavailable_in, available_instances=before.available_instances)
    leaving = before.current
    if leaving is None or leaving in fresh.left or leaving not in before.left:
        return fresh
    left = {leaving: before.left[leaving], **fresh.left}
    return structs.replace(fresh, left=left, current=leaving, total_instances=fresh.total_instances + 1)


#: Every order, in the order of fleetctl's help.
ORDERS: tuple[type[Order], ...] = (Pause, Resume, SetInstances, PinInstance, ReleaseInstance, DrainInstance, Restart)
