"""What one host remembers: its own orders, drains under way, failures, people's orders (law 6), what it learnt.

The memory is small, and is written before the orders it holds are carried out. It belongs to one boot of the host:
after a reboot it begins anew, except for what was learnt. That people's orders are forgotten is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import structs

from fleetd.core.evidence.weigh import EvidenceMemory
from fleetd.core.fleet.view import FleetKnown
from fleetd.core.instances.lifecycle import Drain, InstanceMemory, Pin
from fleetd.core.model import reasons
from fleetd.core.model.facts import CodeStamp, EndCause, Ending, RenderedSettings, UnfitUnit, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.unit_rules.judge import unfit_of

#: Pauses before a unit that failed is tried again; the last one repeats.
RETRY_SECONDS = (15.0, 30.0, 60.0, 120.0, 300.0)
RETRIES_MAX = 10
#: After an unconfirmed quiet no further instance is chosen for this long, or until a quiet is confirmed.
UNDRAINABLE_SECONDS = 3600.0
#: How long, and how many of, the jobs that we had pushed back are remembered.
PUSHED_BACK_SECONDS = 86400.0
PUSHED_BACK_MAX = 512
#: An instance without a heartbeat in Redis for this long, while others beat, is unresponsive. Its last heartbeat stayed
#: in Redis for 60 s before that.
UNRESPONSIVE_SECONDS = 60.0


class Failure(Value, frozen=True, kw_only=True):
    """How often in a row a unit failed or its start had no effect, and when it last did."""

    count: int
    last_seconds: float
    cause: reasons.FailureCause
    ordered: bool = False  # our start failed, so if the unit comes up late, we started it
    ended: bool = False  # we stopped it, so systemd calls it inactive; until it is active again

    @property
    def retry_at_seconds(self) -> float:
        return self.last_seconds + RETRY_SECONDS[min(self.count, len(RETRY_SECONDS)) - 1]

    @property
    def given_up(self) -> bool:
        return self.count > RETRIES_MAX


class Watch(Value, frozen=True, kw_only=True):
    """What was seen of an instance's present process (health.py)."""

    invocation_id: str
    begun_seconds: float | None = None  # when its boot began, if that was watched
    first_boot_seconds: float | None = None  # when the first of the boots in a row without a heartbeat began
    first_boot_restarts: int = 0  # how often systemd had restarted it by then
    served: bool = False  # its heartbeat was seen
    silent_seconds: float = 0.0  # without a heartbeat while others beat, in punctual ticks
    heavy_since_seconds: float | None = None  # since when it is over its memory limit
    resident_bytes: int = 0  # as last seen
    job_ids: tuple[str, ...] = ()  # of the jobs in its last heartbeat
    oom_noticed: bool = False  # its OOM kill was reported
    unit_digest: str = ""  # of the unit file it was started from, with drop-ins; "": unknown
    file_digest: str = ""  # of that file without drop-ins; "": unknown
    code: str = ""  # of Mastodon, as it was on disk when it was started; "": unknown


class UnitMemory(Value, frozen=True, kw_only=True):
    """How our units fared: as last seen, failed, watched, replaced."""

    seen: dict[InstanceKey, str] = {}  # ActiveState as last seen; absent: never looked
    failures: dict[InstanceKey, Failure] = {}
    watches: dict[InstanceKey, Watch] = {}
    released: tuple[InstanceKey, ...] = ()  # whose failures people had forgotten, until systemd shows another state
    restarting: tuple[InstanceKey, ...] = ()  # in a restart that others ordered
    booted: tuple[InstanceKey, ...] = ()  # up at any time since the host's boot or the target's start began them all
    replaced: dict[InstanceKey, str] = {}  # the digest each was last replaced for, so it happens once per digest
    polkit_absent_seconds: float | None = None  # when polkit was last seen not to run: systemd refused all orders then

    def given_up(self, key: InstanceKey) -> bool:
        """Whether a unit failed so often that fleetd tries it again only when a person says so."""
        failure = self.failures.get(key)
        return failure is not None and failure.given_up

    def may_retry(self, key: InstanceKey, now_seconds: float) -> bool:
        """Whether a unit may be started: after each failure only after a growing pause, a bounded number of times."""
        failure = self.failures.get(key)
        return failure is None or (not failure.given_up and now_seconds >= failure.retry_at_seconds)


class PauseInForce(Value, frozen=True, kw_only=True):
    """A pause: nothing moves of its own accord."""

    until_seconds: float
    note: str | None = None  # what the person wrote
    person: Person | None = None  # None, here and below: an earlier version remembers nobody


class SetInForce(Value, frozen=True, kw_only=True):
    """A person's count for a profile."""

    instances: int
    until_seconds: float
    person: Person | None = None


class PeoplesOrders(Value, frozen=True, kw_only=True):
    """What people ordered, by hand or with fleetctl; each order is kept for a while."""

    pause: PauseInForce | None = None
    sets: dict[str, SetInForce] = {}  # by profile
    pins: dict[InstanceKey, Pin] = {}
    stands_in: dict[InstanceKey, tuple[InstanceKey, ...]] = {}  # by instance: those stopped by hand that it replaces
    returning: tuple[InstanceKey, ...] = ()  # restarted by hand, and not up yet: whoever did it waits for that

    def paused(self, now_seconds: float) -> PauseInForce | None:
        return self.pause if self.pause is not None and now_seconds < self.pause.until_seconds else None

    def set_instances(self, profile: str, now_seconds: float) -> SetInForce | None:
        """The count a person set for this profile; None: none holds."""
        wanted = self.sets.get(profile)
        return wanted if wanted is not None and now_seconds < wanted.until_seconds else None

    def pinned(self, key: InstanceKey, wants: reasons.PinKind, now_seconds: float) -> bool:
        pin = self.pins.get(key)
        return pin is not None and pin.wants == wants and now_seconds < pin.until_seconds


class RolloutPhase(StrEnum):
    UNDER_WAY = "under_way"
    DONE = "done"
    GIVEN_UP = "given_up"


class Rollout(Value, frozen=True, kw_only=True):
    """A replacement of instances, one at a time (rollout.py)."""

    cause: reasons.ReplaceCause
    left: dict[InstanceKey, str]  # still to be replaced, in order, each with the invocation id that must go
    total_instances: int
    since_seconds: float
    done_instances: int = 0
    current: InstanceKey | None = None
    spare: InstanceKey | None = None  # started for the current one; None: it is replaced by stop, then start
    #: The profile of an instance that was let go before its replacement, until that serves; how many it had before.
    unavailable_in: str | None = None
    available_instances: int = 0
    code_before: str = ""  # Mastodon's code that was accepted before a restart, and is again if that is given up
    shipped_before: dict[str, str] | None = None  # likewise: the installed units
    person: Person | None = None  # who ordered a restart
    order: int = 0  # which order of the fleet's began it (RestartKnown.until_ms); 0: none
    waits: reasons.RolloutWait | None = None  # what it does or waits for, or why it was given up
    phase: RolloutPhase = RolloutPhase.UNDER_WAY
    ended_seconds: float = 0.0
    tried_with: str = ""  # what the instance that failed was started with, if it was given up (given_up.py)


class Shortage(Value, frozen=True, kw_only=True):
    """When this host was short of memory."""

    pressed_since_seconds: float | None = None
    shed_seconds: float | None = None  # when an instance was last let go for it
    oom_seconds: float | None = None  # when an instance of ours was last OOM-killed
    oom_kills_total: int | None = None
    oom_counted_seconds: float | None = None  # when the kernel's count last grew


class Life(Value, frozen=True, kw_only=True):
    """A unit since somebody last ordered its start (deaths.py)."""

    invocation_id: str  # of its process, as last seen
    restarts: int  # by systemd, before that process
    deaths: int  # that were counted


class RecentDeaths(Value, frozen=True, kw_only=True):
    """When an instance died lately, oldest first, and how the last time."""

    at_seconds: tuple[float, ...]
    last: Ending


class DeathMemory(Value, frozen=True, kw_only=True):
    """Processes of ours that ended, but not by an order (deaths.py)."""

    lives: dict[InstanceKey, Life] = {}
    recent: dict[InstanceKey, RecentDeaths] = {}
    totals: dict[str, dict[EndCause, int]] = {}  # since the host's boot, by InstanceView.learnt_under


class AbsenceMemory(Value, frozen=True, kw_only=True):
    """How long no scheduler has been seen, counted in healthy readings only (scheduler.py)."""

    at_seconds: float | None = None
    absent_seconds: float = 0.0
    redis_run_id: str = ""
    quiet: tuple[str, ...] = ()  # other hosts' schedulers that are being drained, by identity


class TargetMemory(Value, frozen=True, kw_only=True):
    """mastodon-sidekiq.target in this boot (target.py). Times are CLOCK_BOOTTIME."""

    up: bool | None = None  # as last seen: active, or about to be; None: never looked
    stopped_seconds: float | None = None  # when it was stopped; None: it is up, or never was in this boot
    started_seconds: float | None = None  # when it was last seen to come up


class HostMemory(Value, frozen=True, kw_only=True):
    """Everything a host remembers. Times are CLOCK_BOOTTIME of this boot."""

    boot_id: str = ""
    since_seconds: float | None = None  # when systemd was first read in this boot
    ticked_seconds: float | None = None  # of the last tick
    drains: dict[InstanceKey, Drain] = {}
    starts: dict[InstanceKey, float] = {}  # our start orders that systemd has not shown yet
    pushed_back: dict[str, float] = {}  # jid to when we made it start over
    undrainable_seconds: float | None = None  # when a quiet was last found unconfirmed
    units: UnitMemory = UnitMemory()
    people: PeoplesOrders = PeoplesOrders()
    target: TargetMemory = TargetMemory()
    rollout: Rollout | None = None
    shortage: Shortage = Shortage()
    deaths: DeathMemory = DeathMemory()
    boot_seconds: dict[str, float] = {}  # learnt, by InstanceView.learnt_under
    instance_bytes: dict[str, int] = {}  # likewise: what one may grow to, where an OOM kill showed it
    code: str = ""  # digest of Mastodon's code that instances may be started with; "": none seen yet
    code_on_disk: CodeStamp | None = None  # as last read; None: not stamped
    #: By unit: digest of the installed file with which instances may be started; None: of an earlier version, or new.
    shipped: dict[str, str] | None = None
    shipped_on_disk: dict[str, str] = {}  # as last read
    evidence: EvidenceMemory = EvidenceMemory()
    scheduler: AbsenceMemory = AbsenceMemory()
    scheduler_handover: bool = False  # we stopped ours in order to start it again
    unfit_units: dict[str, UnfitUnit] = {}  # as last read; see HostFacts
    #: The settings of numbers that fleetd rendered and the configuration names no more (left_over.py).
    left_over: dict[InstanceKey, RenderedSettings] = {}
    fleet: FleetKnown = FleetKnown()  # outlives a reboot

    def worth_keeping(self) -> HostMemory:
        """The memory to save: without what changes every tick and begins anew after a restart of fleetd anyway."""
        watches = {
            key: structs.replace(
                watch,
                silent_seconds=0.0,
                resident_bytes=0,
                job_ids=watch.job_ids if watch.silent_seconds else (),  # of others the next heartbeat has them
            )
            for key, watch in self.units.watches.items()
        }
        rollout = self.rollout
        if rollout is not None and rollout.phase == RolloutPhase.UNDER_WAY:
            rollout = structs.replace(rollout, waits=None)
        units = structs.replace(self.units, watches=watches)
        return structs.replace(
            self,
            evidence=EvidenceMemory(),
            scheduler=AbsenceMemory(),
            fleet=self.fleet.worth_keeping(),
            unfit_units={},
            ticked_seconds=None,
            units=units,
            rollout=rollout,
        )

    @property
    def code_changed(self) -> CodeStamp | None:
        """Mastodon's code on disk, if instances may not be started with it; None: they may, or it is unknown."""
        code = self.code_on_disk
        return code if code is not None and self.code not in {"", code.digest} else None

    @property
    def units_changed(self) -> tuple[str, ...]:
        """Units whose installed file is another than the one with which instances may be started."""
        disk, known = self.shipped_on_disk, self.shipped or {}
        return tuple(unit for unit in disk if known.get(unit, disk[unit]) != disk[unit])

    def with_upgrade_accepted(self) -> HostMemory:
        """Instances may be started with the code and the units that are on disk."""
        code = self.code_on_disk.digest if self.code_on_disk is not None else self.code
        return structs.replace(self, code=code, shipped={**(self.shipped or {}), **self.shipped_on_disk})

    def unfit(self, key: InstanceKey) -> UnfitUnit | None:
        """Why this unit is none that fleetd starts, ends or replaces; None: it is one."""
        return unfit_of(key, self.unfit_units)

    @property
    def rollout_under_way(self) -> Rollout | None:
        rollout = self.rollout
        return rollout if rollout is not None and rollout.phase == RolloutPhase.UNDER_WAY else None

    def with_start(self, key: InstanceKey, now_seconds: float) -> HostMemory:
        return structs.replace(self, starts={**self.starts, key: now_seconds})

    def with_drain(self, key: InstanceKey, drain: Drain) -> HostMemory:
        return structs.replace(self, drains={**self.drains, key: drain})

    def with_failures(self, failures: dict[InstanceKey, Failure]) -> HostMemory:
        return structs.replace(self, units=structs.replace(self.units, failures=failures))

    def with_released(self, keys: Collection[InstanceKey]) -> HostMemory:
        """Without the failures of these."""
        failures = {k: f for k, f in self.units.failures.items() if k not in keys}
        released = tuple(sorted({*self.units.released, *keys}))
        return structs.replace(self, units=structs.replace(self.units, failures=failures, released=released))

    def with_pins(self, pins: dict[InstanceKey, Pin]) -> HostMemory:
        return structs.replace(self, people=structs.replace(self.people, pins=pins))

    def with_pushed_back(self, job_ids: frozenset[str], now_seconds: float) -> HostMemory:
        """Remember jobs that our stop makes start over; the oldest are forgotten (law 7)."""
        kept = {j: at for j, at in self.pushed_back.items() if now_seconds - at < PUSHED_BACK_SECONDS}
        kept |= dict.fromkeys(sorted(job_ids), now_seconds)
        newest = sorted(kept.items(), key=lambda item: -item[1])[:PUSHED_BACK_MAX]
        return structs.replace(self, pushed_back=dict(newest))

    def holds_pushed_back(self, job_ids: frozenset[str], now_seconds: float) -> bool:
        """Whether one of these jobs was already pushed back by a stop of ours."""
        return any(now_seconds - self.pushed_back.get(j, -1e12) < PUSHED_BACK_SECONDS for j in job_ids)

    def undrainable(self, now_seconds: float) -> bool:
        """Whether a recent quiet was not confirmed, so that no further instance is chosen."""
        at = self.undrainable_seconds
        return at is not None and now_seconds - at < UNDRAINABLE_SECONDS

    def by_instance(
        self, now_seconds: float, replace: Mapping[InstanceKey, reasons.ReplaceCause]
    ) -> dict[InstanceKey, InstanceMemory]:
        """What is remembered of each instance, without those of which nothing is. `replace`: those to be replaced."""
        pins = {k: p.wants for k, p in self.people.pins.items() if now_seconds < p.until_seconds}
        watches = self.units.watches.items()
        silent = {k for k, w in watches if w.served and w.silent_seconds >= UNRESPONSIVE_SECONDS}
        unheard = {k for k, w in watches if not w.served and w.silent_seconds > 0.0}
        failed = {k for k, f in self.units.failures.items() if f.ended}
        released = frozenset(self.units.released)
        return {
            key: InstanceMemory(
                drain=self.drains.get(key),
                start_ordered=key in self.starts,
                pinned=pins.get(key),
                replace=replace.get(key),
                unresponsive=key in silent,
                unheard=key in unheard,
                failed=key in failed,
                released=key in released,
            )
            for key in {*self.drains, *self.starts, *pins, *replace, *silent, *unheard, *failed, *released}
        }

    def grown_bytes(self, policy: Policy, profile: str) -> int:
        """What an instance of this profile grows to: as configured, or more if an OOM kill showed it."""
        return max(policy.memory.instance_bytes, self.instance_bytes.get(profile, 0))
