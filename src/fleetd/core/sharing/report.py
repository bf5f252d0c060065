"""What a host tells the leader of itself in each beat: its record in the ledger, as JSON of at most RECORD_BYTES_MAX.

What doesn't fit is cut, in this order: the identities of processes without a tag, the settings (their digest stays, so
that a difference is still seen), then the least important profiles with their instances. Instances that are cut count
by their heartbeats (merged.py).

Law 3: another version's record, or one that no fleetd wrote, is none. Then the host's live processes count, as those of
a host without fleetd do. So do those of a host that can't read systemd.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, structs

from fleetd.core.capacity.admission import free_bytes
from fleetd.core.fleet.orders import about_restart
from fleetd.core.fleet.sizes import RECORD_BYTES_MAX
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.start import free_numbers
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import Value
from fleetd.core.model.heartbeats import is_foreign
from fleetd.core.model.identity import NUMBER_MAX, SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import INSTANCES_MAX, QUEUES_MAX, Profile
from fleetd.core.sharing.orders.heard import restarts_known
from fleetd.core.sharing.rolling import Rolls, rolls_of
from fleetd.core.sharing.settings import FleetSettings, settings_of

#: A record of another format is not read.
FORMAT = 1
#: The kinds of orders that this version obeys: 1: counts and restarts besides pauses and maintenance.
ORDERS_KNOWN = 1
#: Identities of processes without a tag that a record names.
UNTAGGED_MAX = 16
_MIB = 2**20

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Count = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
_Number = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
_Index = Annotated[int, Meta(ge=-1, lt=INSTANCES_MAX)]
_Seconds = Annotated[float, Meta(ge=0, le=2**40)]
_Mebibytes = Annotated[int, Meta(ge=0, le=2**40)]
_Threads = Annotated[int, Meta(ge=0, le=1000)]
_Code = Annotated[str, Meta(max_length=64)]


class InstanceReport(Value, frozen=True, kw_only=True, array_like=True):
    """One instance that is present or pinned."""

    key: _Number
    profile: _Index  # its place in `profiles`; -1: in none of them
    state: InstanceState
    age_seconds: _Seconds  # of that state
    threads: _Threads
    flags: str = ""  # r: systemd has heard READY; b: it beats; then what it is pinned to (run, stopped, quiet)

    @property
    def is_ready(self) -> bool:
        return "r" in self.flags[:2]

    @property
    def beats(self) -> bool:
        return "b" in self.flags[:2]

    @property
    def pinned(self) -> reasons.PinKind | None:
        return next((kind for kind in reasons.PinKind if self.flags[2:] == kind.value), None)


class ProfileReport(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One profile of a host, in its order of importance."""

    name: _Name
    order: Literal["strict", "weighted"]
    queues: tuple[tuple[Annotated[int, Meta(ge=0, lt=4096)], Annotated[int, Meta(ge=1)]], ...]  # (place, weight)
    threads: _Threads
    claim_connections: _Count
    min_instances: _Count
    max_instances: _Count
    #: Capacity now or soon. A spare is not counted, and an instance whose replacement is still to come is.
    running: _Count = 0
    free_numbers: _Count = 0  # that could be started now
    instance_mib: _Mebibytes = 0  # what one instance grows to
    boot_seconds: _Seconds | None = None  # None: not learnt
    set_instances: _Count | None = None  # by a person
    refused: _Code = ""  # why its last start was not admitted (a ClampCode); "": it was


class RestartReport(Value, frozen=True, kw_only=True, array_like=True):
    """How far a restart is that this host heard of. `phase`: that of RestartKnown."""

    until_ms: Annotated[int, Meta(ge=0, le=2**53)]
    whole: bool  # of all hosts; otherwise of this one
    phase: _Code
    done: _Count = 0
    total: _Count = 0
    at: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] | None = None  # the instance that is being replaced; 0: the scheduler


class SchedulerReport(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The scheduler's unit on a host."""

    place: Literal["auto", "here", "elsewhere"] = "auto"
    may_start: bool = False  # it is rendered, and neither masked, pinned, failed nor somebody else's
    present: bool = False


class HostReport(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What the leader must know of a host."""

    format: int = FORMAT
    host: _Name
    fleetd: str = ""  # its version
    code_version: str = ""  # of Mastodon's code on disk
    code_digest: str = ""  # "": not stamped
    cores: Annotated[int, Meta(ge=1, le=2**20)] | None = None  # None, here and below: unknown
    tick_seconds: _Seconds = 5.0
    memory_left_mib: _Mebibytes | None = None  # for new instances
    refused: _Code = ""  # why nothing is added above min (a ClampCode); "": something may be
    held: _Code = ""  # why nothing moves of its own accord (a ClampCode, or one of HELD_ALSO); "": it may
    systemd_known: bool = True
    booting: _Count = 0
    queues: tuple[_Name, ...] = ()  # all names; profiles say their place here
    profiles: tuple[ProfileReport, ...] = ()
    instances: tuple[InstanceReport, ...] = ()
    cut: bool = False  # some profiles and their instances are left out
    untagged: tuple[tuple[str, int], ...] = ()  # its own processes without a tag: identity and number
    scheduler: SchedulerReport = SchedulerReport()
    rolls: Rolls = ""
    orders: _Count = 0  # which kinds of orders it knows (ORDERS_KNOWN); 0: pauses and maintenance only
    restarts: Annotated[tuple[RestartReport, ...], Meta(max_length=2)] = ()
    digest: str = ""  # of the settings
    settings: FleetSettings | None = None  # None: they were cut

    def queues_of(self, profile: ProfileReport) -> tuple[tuple[str, int], ...]:
        return tuple((self.queues[place], weight) for place, weight in profile.queues)

    def fits(self, profile: ProfileReport) -> int:
        """Further instances of this profile that memory is left for; 0: none, or that is unknown."""
        if self.memory_left_mib is None:
            return 0
        return self.memory_left_mib // max(1, profile.instance_mib)

    @property
    def present(self) -> int:
        """Instances that have a process, or are about to."""
        gone = {InstanceState.STOPPED, InstanceState.FAILED}
        return sum(1 for i in self.instances if i.state not in gone and not _kept_stopped(i))


def _kept_stopped(instance: InstanceReport) -> bool:
    return instance.state == InstanceState.PINNED and instance.pinned == reasons.PinKind.STOPPED


#: Why a host is not moved besides its own holds: it only observes; it was silent lately; it is in maintenance, and the
#: last that serves.
OBSERVES, SILENT, MAINTENANCE = "observes", "silent", "maintenance"


def report_of(
    tick: HostTick, memory: HostMemory, fleetd: str = "", refused: Mapping[str, str] = MappingProxyType({})
) -> HostReport:
    """What this host tells. `refused`: by profile, the code for which its last start was not admitted."""
    policy, machine = tick.policy, tick.machine
    queues = tuple(dict.fromkeys(queue for p in policy.profiles for queue, _ in p.queues))
    places = {queue: place for place, queue in enumerate(queues)}
    indexes = {p.name: index for index, p in enumerate(policy.profiles)}
    instances = [_instance(v, indexes) for v in tick.active if v.key != SCHEDULER]
    code, left, refusal = machine.code if machine else None, free_bytes(tick), tick.constraints.refusal
    settings = settings_of(policy)
    return HostReport(
        host=policy.host,
        fleetd=fleetd[:64],
        code_version=code.version[:64] if code else "",
        code_digest=code.digest[:128] if code else "",
        cores=machine.cores if machine else None,
        tick_seconds=policy.pace.tick_seconds,
        memory_left_mib=None if left is None else left // _MIB,
        refused=refusal.code.value if refusal else "" if machine else reasons.ClampCode.MEMORY_UNKNOWN.value,
        held=tick.held.reason.code.value if tick.held else OBSERVES if policy.observes else "",
        systemd_known=tick.instances is not None,
        booting=sum(1 for v in tick.active if v.state == InstanceState.STARTING),
        queues=queues,
        profiles=tuple(_profile(tick, memory, p, places, refused.get(p.name, "")) for p in policy.profiles),
        instances=tuple(instances[: 2 * INSTANCES_MAX]),
        cut=len(instances) > 2 * INSTANCES_MAX,
        untagged=_untagged(tick),
        scheduler=_scheduler(tick, memory),
        rolls=rolls_of(memory),
        orders=ORDERS_KNOWN,
        restarts=_restarts(memory),
        digest=settings.digest,
        settings=settings,
    )


def _profile(
    tick: HostTick, memory: HostMemory, profile: Profile, places: dict[str, int], refused: str
) -> ProfileReport:
    name, constraints = profile.name, tick.constraints
    numbers = free_numbers(tick, profile, tick.of(name), memory)
    configured = [number for number in numbers.free if number in profile.numbers]
    return ProfileReport(
        name=name,
        order=profile.order,
        queues=tuple((places[queue], weight) for queue, weight in profile.queues),
        threads=profile.threads,
        claim_connections=profile.claim_connections,
        min_instances=profile.min_instances,
        max_instances=profile.max_instances,
        running=tick.running.get(name, 0) + (constraints.unavailable_in == name),
        free_numbers=len(configured),
        instance_mib=tick.grown_bytes(name) // _MIB,
        boot_seconds=round(constraints.boot_seconds[name], 1) if name in constraints.boot_seconds else None,
        set_instances=constraints.set_instances.get(name),
        refused=refused,
    )


def _instance(view: InstanceView, indexes: dict[str, int]) -> InstanceReport:
    ready, beats = "r" if view.is_ready else "-", "b" if view.beat_age_seconds is not None else "-"
    return InstanceReport(
        key=view.key,
        profile=indexes.get(view.profile or "", -1),
        state=view.state,
        age_seconds=max(0.0, round(view.state_age_seconds, 1)),
        threads=view.threads,
        flags=f"{ready}{beats}{view.pinned.value if view.pinned else ''}",
    )


def _untagged(tick: HostTick) -> tuple[tuple[str, int], ...]:
    processes = tick.sidekiq.processes if tick.sidekiq is not None else ()
    own = [(p.identity, p.own_key) for p in processes if p.own_key and not is_foreign(p)]
    return tuple((identity, key) for identity, key in own if len(identity) <= 255)[:UNTAGGED_MAX]


def _scheduler(tick: HostTick, memory: HostMemory) -> SchedulerReport:
    view, machine = tick.view(SCHEDULER), tick.machine
    may_start = (
        view is not None
        and view.pinned is None
        and machine is not None
        and SCHEDULER in machine.rendered
        and machine.masks(SCHEDULER) is None
        and memory.unfit(SCHEDULER) is None
        and memory.units.may_retry(SCHEDULER, tick.now_seconds)
    )
    present = view is not None and view.is_present
    return SchedulerReport(place=tick.policy.scheduler.place, may_start=may_start, present=present)


def _restarts(memory: HostMemory) -> tuple[RestartReport, ...]:
    rollout, busy = memory.rollout_under_way, rolls_of(memory) == "busy"
    return tuple(
        RestartReport(
            until_ms=one.until_ms,
            whole=about == about_restart(),
            phase=one.phase,
            done=one.done_instances,
            total=one.total_instances,
            at=rollout.current if rollout is not None and busy and rollout.order == one.until_ms else None,
        )
        for about, one in sorted(restarts_known(memory).items())
    )[:2]


def written(report: HostReport) -> str:
    """The record, cut to what fits."""
    for shorter in (report, structs.replace(report, untagged=()), structs.replace(report, untagged=(), settings=None)):
        text = msgspec.json.encode(shorter)
        if len(text) <= RECORD_BYTES_MAX:
            return text.decode()
    kept = len(report.profiles)
    while len(text) > RECORD_BYTES_MAX and kept:
        kept -= 1
        shorter = _without_last(report, kept)
        text = msgspec.json.encode(shorter)
    return text.decode()


def _without_last(report: HostReport, kept: int) -> HostReport:
    profiles = report.profiles[:kept]
    places = sorted({place for p in profiles for place, _ in p.queues})
    moved = {place: index for index, place in enumerate(places)}
    return structs.replace(
        report,
        queues=tuple(report.queues[place] for place in places),
        profiles=tuple(
            structs.replace(p, queues=tuple((moved[place], weight) for place, weight in p.queues)) for p in profiles
        ),
        instances=tuple(i for i in report.instances if 0 <= i.profile < kept),
        cut=True,
        untagged=(),
        settings=None,
    )


_DECODER = msgspec.json.Decoder(HostReport)


def read(record: str | bytes, host: str) -> HostReport | None:
    """The report in this host's record; None: there is none that this version can read."""
    try:
        report = _DECODER.decode(record)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None
    return report if _is_sound(report, host) else None


def _is_sound(report: HostReport, host: str) -> bool:
    if report.format != FORMAT or report.host != host or len(report.queues) > INSTANCES_MAX * QUEUES_MAX:
        return False
    profiles, queues = len(report.profiles), len(report.queues)
    keys = {i.key for i in report.instances}
    return (
        profiles <= INSTANCES_MAX
        and len(keys) == len(report.instances) <= 2 * INSTANCES_MAX
        and len({p.name for p in report.profiles}) == profiles
        and all(i.profile < profiles for i in report.instances)
        and all(p.threads and p.queues and all(place < queues for place, _ in p.queues) for p in report.profiles)
        and all(p.min_instances <= p.max_instances <= INSTANCES_MAX for p in report.profiles)
        and all(1 <= key <= NUMBER_MAX for _, key in report.untagged)
    )


def keys_of(report: HostReport) -> frozenset[InstanceKey]:
    """The instances that a report tells of."""
    return frozenset(InstanceKey(i.key) for i in report.instances)
