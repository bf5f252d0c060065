"""The state of each instance, derived from systemd, heartbeats and our own memory of orders.

Law 4 needs it right: before READY an instance is stopped, not quieted, because a TSTP during boot is lost; and
only a heartbeat that says quiet *and* idle, given after our order, proves that nothing is lost by a stop.
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.decision import InstanceState
from fleetd.core.facts import Known, ProcessFacts, Snapshot, SystemdFacts, UnitFacts, Unknown, Value
from fleetd.core.identity import parse_tag
from fleetd.core.policy import CLAIM_MARGIN_CONNECTIONS, Policy, Profile

#: After READY the first heartbeat comes within one beat (10 s); until then the instance is not capacity.
FIRST_BEAT_SECONDS = 30.0

#: Sidekiq notes its start a moment before systemd hears READY.
START_SLACK_SECONDS = 15.0

Number = int | Literal["scheduler"]


class Drain(Value, frozen=True, kw_only=True):
    """A drain under way: quiet, watch, stop."""

    since_seconds: float
    quiet_sent_seconds: float | None = None
    stop_sent_seconds: float | None = None
    why: str = ""


class Pin(Value, frozen=True, kw_only=True):
    """A person's order by hand, kept for a while (law 6)."""

    wants: Literal["run", "stopped", "quiet"]
    since_seconds: float
    until_seconds: float


class InstanceView(Value, frozen=True, kw_only=True):
    """One instance as deciding sees it."""

    number: Number
    profile: str
    state: InstanceState
    threads: int
    claim_connections: int  # 0 when no process is there or coming
    busy_threads: int | None  # None: unknown
    quiet: bool
    resident_bytes: int | None
    state_age_seconds: float
    beat_age_seconds: float | None
    unit: UnitFacts | None
    pinned: Literal["", "run", "stopped", "quiet"] = ""

    @property
    def boots(self) -> bool:
        """Before READY: systemd says activating, or does not show yet what we ordered."""
        ready = self.unit is not None and self.unit.active_state in {"active", "reloading"}
        return self.state == InstanceState.STARTING and not ready

    @property
    def counts(self) -> bool:
        """Whether it is capacity, now or soon."""
        return self.state in {InstanceState.STARTING, InstanceState.SERVING}

    @property
    def mute(self) -> bool:
        """Runs, but no heartbeat tells what it is busy with: not yet, or Redis has lost them all."""
        return self.counts and not self.boots and self.beat_age_seconds is None


def heartbeat_of(
    sidekiq_processes: tuple[ProcessFacts, ...], host: str, number: Number, unit: UnitFacts | None
) -> ProcessFacts | None:
    """The heartbeat of a unit's present process; a ghost (60 s) of the one before is told apart by pid or age."""
    own = []
    for process in sidekiq_processes:
        tag = parse_tag(process.tag)
        if tag is not None and tag.host == host and tag.number == number:
            own.append(process)
    if not own:
        return None
    if unit is None:
        return None
    exact = [p for p in own if p.pid == unit.main_pid]
    # Behind a wrapper the pid differs; a process older than the unit's start is a ghost of the one before.
    fresh = [p for p in own if p.started_age_seconds <= unit.state_age_seconds + START_SLACK_SECONDS]
    return min(exact or fresh, key=lambda p: p.started_age_seconds, default=None)


def state_of(
    unit: UnitFacts | None,
    process: ProcessFacts | None,
    drain: Drain | None,
    *,
    sidekiq_known: bool,
    start_ordered: bool,
) -> InstanceState:
    """The named state. A start we ordered that systemd does not show yet counts as starting: it has its claim."""
    if unit is None or unit.active_state == "inactive":
        return InstanceState.STARTING if start_ordered else InstanceState.STOPPED
    if unit.active_state == "failed":
        return InstanceState.FAILED
    if unit.active_state == "deactivating":
        return InstanceState.STOPPING
    if unit.active_state == "activating":
        # Restarted by systemd in mid-drain: it is on its way out all the same, and no capacity.
        return InstanceState.STARTING if drain is None else InstanceState.STOPPING
    if drain is not None and drain.stop_sent_seconds is not None:
        return InstanceState.STOPPING
    if process is not None and process.quiet:
        return InstanceState.DRAINING
    if drain is not None:
        return InstanceState.QUIETING
    if process is None and sidekiq_known and unit.state_age_seconds < FIRST_BEAT_SECONDS:
        return InstanceState.STARTING
    return InstanceState.SERVING


class Orders(Value, frozen=True, kw_only=True):
    """What the host's memory says of one instance."""

    drain: Drain | None = None
    start_ordered: bool = False
    pinned: Literal["", "run", "stopped", "quiet"] = ""


def views(
    policy: Policy, snapshot: Snapshot, systemd: SystemdFacts, orders: dict[str, Orders]
) -> tuple[InstanceView, ...]:
    """Every instance number the configuration names, in order, and the scheduler last."""
    none = Orders()
    found = [
        _view(policy, snapshot, n, systemd.instances.get(n), orders.get(str(n), none), profile)
        for profile in policy.profiles
        for n in profile.numbers
    ]
    scheduler = _view(policy, snapshot, "scheduler", systemd.scheduler, orders.get("scheduler", none), None)
    return (*sorted(found, key=lambda v: int(v.number)), scheduler)


def _view(
    policy: Policy,
    snapshot: Snapshot,
    number: Number,
    unit: UnitFacts | None,
    orders: Orders,
    profile: Profile | None,
) -> InstanceView:
    process, reading_age = None, 0.0
    if isinstance(snapshot.sidekiq, Known):
        reading_age = snapshot.sidekiq.age_seconds
        process = heartbeat_of(snapshot.sidekiq.value.processes, policy.host, number, unit)
    state = state_of(
        unit,
        process,
        orders.drain,
        sidekiq_known=isinstance(snapshot.sidekiq, Known),
        start_ordered=orders.start_ordered,
    )
    there = state not in {InstanceState.STOPPED, InstanceState.FAILED}
    if not there:
        process = None  # systemd's word outranks the 60 s ghost of a dead process's heartbeat
    threads = process.threads if process else (profile.threads if profile else policy.scheduler.threads)
    claim = (
        claim_of(process)
        if process
        else (profile.claim_connections if profile else policy.scheduler.claim_connections)
    )
    return InstanceView(
        number=number,
        profile=profile.name if profile else "",
        state=state,
        threads=threads,
        claim_connections=claim if there else 0,
        busy_threads=process.busy_threads if process else None,
        quiet=process.quiet if process else False,
        resident_bytes=_resident(snapshot, number, process) if there else None,
        state_age_seconds=unit.state_age_seconds if unit else 0.0,
        beat_age_seconds=process.beat_age_seconds + reading_age if process else None,
        unit=unit,
        pinned=orders.pinned,
    )


def claim_of(process: ProcessFacts) -> int:
    """Database connections a process may open, by what it was started with, not by what is configured now."""
    tag = parse_tag(process.tag)
    wanted = process.threads + CLAIM_MARGIN_CONNECTIONS
    return min(tag.db_pool, wanted) if tag else wanted


def _resident(snapshot: Snapshot, number: Number, process: ProcessFacts | None) -> int | None:
    if not isinstance(snapshot.machine, Unknown) and isinstance(number, int):
        from_cgroup = snapshot.machine.value.instance_resident_bytes.get(number)
        if from_cgroup is not None:
            return from_cgroup
    return process.resident_bytes if process else None
