"""The state of each instance, derived from systemd, heartbeats and our own memory of orders.

Law 4 needs it right: before READY an instance is stopped, not quieted, because a TSTP during boot is lost; and
only a heartbeat that says quiet *and* idle, given after our order, proves that nothing is lost by a stop.

Which state may follow which is a table at the end, and not code: `state_of` derives each state afresh from facts, so
nothing enforces the order. The storms of the tests check every step against it, and the documentation draws it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from msgspec import structs

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.decision import InstanceState as S
from fleetd.core.model.facts import Known, ProcessFacts, Snapshot, SystemdFacts, UnitFacts, Value
from fleetd.core.model.heartbeats import Number, claim_of, present_heartbeat, processes_by_number
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy import Policy, Profile

#: After READY the first heartbeat comes within one beat (10 s). One without is no capacity, nor any later, unless
#: nobody on this host beats: then it is Redis that does not know.
FIRST_BEAT_SECONDS = 30.0

#: Sets that are asked for every instance many times a tick, so they are made once.
_GONE = frozenset({InstanceState.STOPPED, InstanceState.FAILED})
_CAPACITY = frozenset({InstanceState.STARTING, InstanceState.SERVING, InstanceState.OUTDATED})
_UP = frozenset({"active", "reloading"})

#: Why an instance is to be replaced by a fresh one; "": it is not.
Replace = Literal["", "outdated", "memory", "restart"]


class Drain(Value, frozen=True, kw_only=True):
    """A drain under way: quiet, watch, stop."""

    since_seconds: float
    quiet_sent_seconds: float | None = None
    stop_sent_seconds: float | None = None
    why: str = ""
    unconfirmed: bool = False  # three beats have come since the quiet, and none says quiet
    rolled: bool = False  # by a roll: the next one waits for it, whatever becomes of the roll


class Pin(Value, frozen=True, kw_only=True):
    """A person's order, kept for a while (law 6)."""

    wants: Literal["run", "stopped", "quiet"]
    since_seconds: float
    until_seconds: float
    by: Literal["hand", "fleetctl"] = "hand"


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
    replace: Replace = ""
    oldest_run_age_seconds: float | None = None
    job_ids: frozenset[str] = frozenset()  # of its running jobs, those that could be read
    digest: str = ""  # of the settings it was started with; "": unknown
    redis_known: bool = True

    @property
    def present(self) -> bool:
        """Whether it has a process, or is about to."""
        if self.state in _GONE:
            return False
        return self.pinned != "stopped" or self.state != InstanceState.PINNED

    @property
    def is_booting(self) -> bool:
        """Before READY: systemd says activating, or does not show yet what we ordered."""
        return self.state == InstanceState.STARTING and not self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether systemd has heard READY."""
        return self.unit is not None and self.unit.active_state in _UP

    @property
    def is_capacity(self) -> bool:
        """Whether it is capacity, now or soon."""
        return self.state in _CAPACITY or (self.pinned == "run" and self.state == InstanceState.PINNED)

    @property
    def serves(self) -> bool:
        """Whether it is capacity now: its heartbeat is there, or Redis can't be asked for it."""
        heard = self.beat_age_seconds is not None or not self.redis_known
        return self.is_capacity and self.state != InstanceState.STARTING and heard

    @property
    def lacks_heartbeat(self) -> bool:
        """Runs, but no heartbeat tells what it is busy with: not yet, or Redis has lost them all."""
        running = self.is_capacity or self.state == InstanceState.UNRESPONSIVE
        return running and not self.is_booting and self.beat_age_seconds is None


def present_or_pinned(instances: tuple[InstanceView, ...]) -> tuple[InstanceView, ...]:
    """Those that are there, or that a person's order keeps as they are; the other numbers are merely free."""
    return tuple(v for v in instances if v.present or v.pinned)


class Orders(Value, frozen=True, kw_only=True):
    """What the host's memory says of one instance."""

    drain: Drain | None = None
    start_ordered: bool = False
    pinned: Literal["", "run", "stopped", "quiet"] = ""
    replace: Replace = ""
    unresponsive: bool = False
    unheard: bool = False  # READY for long, and never a heartbeat while others on this host beat
    failed: bool = False  # we ended it, because it did not come up


def state_of(
    unit: UnitFacts | None, process: ProcessFacts | None, orders: Orders, *, sidekiq_known: bool
) -> InstanceState:
    """The named state. A start we ordered that systemd does not show yet counts as starting: it has its claim."""
    if unit is None or unit.active_state == "inactive":
        if orders.start_ordered:
            return InstanceState.STARTING if orders.drain is None else InstanceState.STOPPING
        if orders.pinned == "stopped":
            return InstanceState.PINNED
        return InstanceState.FAILED if orders.failed else InstanceState.STOPPED
    if unit.active_state == "failed":
        return InstanceState.FAILED
    if unit.active_state == "deactivating":
        return InstanceState.STOPPING
    if unit.active_state == "activating":
        # Restarted by systemd in mid-drain: it is on its way out all the same, and no capacity.
        return InstanceState.STARTING if orders.drain is None else InstanceState.STOPPING
    if orders.drain is not None:
        return _leaving(orders.drain, process)
    if process is not None and process.quiet:
        return InstanceState.PINNED if orders.pinned == "quiet" else InstanceState.DRAINING
    young = unit.state_age_seconds < FIRST_BEAT_SECONDS
    if process is None and sidekiq_known and (young or orders.unheard):
        return InstanceState.STARTING
    if orders.unresponsive:
        return InstanceState.UNRESPONSIVE
    if orders.pinned == "run":
        return InstanceState.PINNED
    return InstanceState.OUTDATED if orders.replace == "outdated" else InstanceState.SERVING


def _leaving(drain: Drain, process: ProcessFacts | None) -> InstanceState:
    if drain.stop_sent_seconds is not None:
        return InstanceState.STOPPING
    if process is not None and process.quiet:
        return InstanceState.DRAINING
    return InstanceState.UNDRAINABLE if drain.unconfirmed else InstanceState.QUIETING


def views(
    policy: Policy, snapshot: Snapshot, systemd: SystemdFacts, orders: dict[str, Orders]
) -> tuple[InstanceView, ...]:
    """Every instance number the configuration names, in order, and the scheduler last."""
    none = Orders()
    known = isinstance(snapshot.sidekiq, Known)
    beats: dict[Number, list[ProcessFacts]] = {}
    if isinstance(snapshot.sidekiq, Known):
        beats = processes_by_number(snapshot.sidekiq.value.processes, policy.host)

    def view(number: Number, unit: UnitFacts | None, profile: Profile | None) -> InstanceView:
        process = present_heartbeat(beats.get(number, []), unit)
        return _view(policy, snapshot, number, unit, orders.get(str(number), none), profile, process)

    found = dict(_all_stopped(policy.profiles, known))  # in the order of numbers
    ordered = {int(key) for key in orders if key.isdecimal()}
    for n in found.keys() & (systemd.instances.keys() | ordered):
        found[n] = view(n, systemd.instances.get(n), policy.profile_of(n))
    return (*found.values(), view("scheduler", systemd.scheduler, None))


@lru_cache(maxsize=8)
def _all_stopped(profiles: tuple[Profile, ...], redis_known: bool) -> dict[int, InstanceView]:
    """Every number in order, as it is where it is not there and nobody ordered anything of it: most of the time."""
    found = {
        number: InstanceView(
            number=number,
            profile=profile.name,
            state=InstanceState.STOPPED,
            threads=profile.threads,
            claim_connections=0,
            busy_threads=None,
            quiet=False,
            resident_bytes=None,
            state_age_seconds=0.0,
            beat_age_seconds=None,
            unit=None,
            redis_known=redis_known,
        )
        for profile in profiles
        for number in profile.numbers
    }
    return dict(sorted(found.items()))


def _view(
    policy: Policy,
    snapshot: Snapshot,
    number: Number,
    unit: UnitFacts | None,
    orders: Orders,
    profile: Profile | None,
    process: ProcessFacts | None,
) -> InstanceView:
    known = isinstance(snapshot.sidekiq, Known)
    view = InstanceView(
        number=number,
        profile=profile.name if profile else "",
        state=state_of(unit, process, orders, sidekiq_known=known),
        threads=profile.threads if profile else policy.scheduler.threads,
        claim_connections=0,
        busy_threads=None,
        quiet=False,
        resident_bytes=None,
        state_age_seconds=unit.state_age_seconds if unit else 0.0,
        beat_age_seconds=None,
        unit=unit,
        pinned=orders.pinned,
        replace=orders.replace,
        redis_known=known,
    )
    if not view.present:  # systemd's word outranks the 60 s ghost of a dead process's heartbeat
        return view
    resident = _resident(snapshot, number, process)
    if process is None:
        claim = profile.claim_connections if profile else policy.scheduler.claim_connections
        return structs.replace(view, claim_connections=claim, resident_bytes=resident)
    reading_age = snapshot.sidekiq.age_seconds if isinstance(snapshot.sidekiq, Known) else 0.0
    return _with_heartbeat(view, process, resident, reading_age)


def _with_heartbeat(
    view: InstanceView, process: ProcessFacts, resident_bytes: int | None, reading_age_seconds: float
) -> InstanceView:
    run_age, tag = process.oldest_run_age_seconds, parse_tag(process.tag)
    return structs.replace(
        view,
        threads=process.threads,
        claim_connections=claim_of(process),
        busy_threads=process.busy_threads,
        quiet=process.quiet,
        resident_bytes=resident_bytes,
        beat_age_seconds=process.beat_age_seconds + reading_age_seconds,
        oldest_run_age_seconds=run_age + reading_age_seconds if run_age is not None else None,
        job_ids=frozenset(job.jid for job in process.jobs if job.jid),
        digest=tag.digest if tag else "",
    )


def _resident(snapshot: Snapshot, number: Number, process: ProcessFacts | None) -> int | None:
    """Of its cgroup, ffmpeg and the like included; else what the heartbeat says of the process."""
    from_cgroup = None
    if isinstance(snapshot.machine, Known):
        machine = snapshot.machine.value
        from_cgroup = (
            machine.scheduler_resident_bytes
            if number == "scheduler"
            else machine.instance_resident_bytes.get(number)
        )
    return from_cgroup if from_cgroup is not None else process.resident_bytes if process else None


#: What can come of any process: it ends (stopped, by a person: pinned), dies and is restarted, or has died too often.
_ENDS = frozenset({S.STOPPING, S.STOPPED, S.PINNED, S.STARTING, S.FAILED})
#: How one that serves is on its way out.
_LEAVES = frozenset({S.QUIETING, S.DRAINING})

TRANSITIONS: dict[S, frozenset[S]] = {
    S.STOPPED: frozenset({S.STARTING, S.PINNED, S.FAILED}),
    S.FAILED: frozenset({S.STARTING, S.STOPPED, S.PINNED}),
    S.STARTING: frozenset({S.SERVING, S.OUTDATED}) | _LEAVES | _ENDS,
    S.SERVING: frozenset({S.OUTDATED, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.OUTDATED: frozenset({S.SERVING, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.PINNED: frozenset({S.SERVING, S.OUTDATED, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    S.UNRESPONSIVE: frozenset({S.SERVING, S.OUTDATED}) | _LEAVES | _ENDS,
    # Quiet can't be undone: from here no way leads back to serving but through a fresh process.
    S.QUIETING: frozenset({S.DRAINING, S.UNDRAINABLE}) | _ENDS,
    S.UNDRAINABLE: frozenset({S.DRAINING}) | _ENDS,
    S.DRAINING: _ENDS,
    # Back to quieting: the stop of a boot got lost, and it serves.
    S.STOPPING: _LEAVES | _ENDS - {S.STOPPING},
}
