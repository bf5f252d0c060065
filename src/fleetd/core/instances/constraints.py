"""The constraints under which the plan may use this host: holds, people's counts, memory and cores, a rollout's spare.

Law 3: a host that is short of memory or cores adds nothing. Law 6: people's orders come first. A target of all workers
that was stopped, a pause, an upgrade of Mastodon's code or of the workers' units under running workers, or a fleet
mostly quieted by hand hold everything that would move of its own accord. Instances beyond the database's budget (law 2)
and a surplus scheduler (law 1) are stopped even then, unless their unit is somebody else's: that one is left alone
whatever happens (carry_out.py).
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.orders import OrderHeard, maintenance_of, pause_of, set_heard
from fleetd.core.instances.host_memory import HostMemory, Shortage
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.rollout import spare_for, spare_in
from fleetd.core.model import reasons
from fleetd.core.model.facts import HostFacts
from fleetd.core.model.heartbeats import other_hosts
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy

#: How long memory is short before the least important instance is shed, and how long until the next one.
PRESSED_SECONDS = 60.0
SHED_EVERY_SECONDS = 120.0
#: After an OOM kill nothing is added on this host for this long.
OOM_HOLD_SECONDS = 1800.0
#: Where the kernel shows no pressure (no PSI): nothing is added above this load average per core.
LOAD_PER_CORE_MAX = 2.0
#: Other hosts that one reason names.
HOSTS_NAMED_MAX = 3
#: Instead of the digest of a unit file that is not known any more.
_BEFORE = "before"


def constraints_of(tick: HostTick, memory: HostMemory) -> HostConstraints:
    """The constraints of this tick. `memory` must already include it."""
    now, rollout = tick.now_seconds, memory.rollout_under_way
    sets = _sets(tick, memory)
    unavailable = rollout.unavailable_in if rollout is not None else None
    ended = rollout is not None and rollout.current is None
    maintained = maintenance_of(tick.fleet, tick.policy.host, now)
    return HostConstraints(
        holds=_holds(tick, memory),
        maintenance=None if maintained is None else _maintenance(tick, maintained),
        last_may_go=maintained is not None and maintained.order.force,
        set_instances={name: count for name, (count, _) in sets.items()},
        set_by={name: person for name, (_, person) in sets.items() if person is not None},
        grown_bytes={p.name: memory.grown_bytes(tick.policy, p.name) for p in tick.policy.profiles},
        boot_seconds=memory.boot_seconds,
        refusal=_refusal(tick, memory.shortage),
        shed=_shed(tick, memory.shortage),
        spare_for=spare_for(tick, memory),
        spare_in=spare_in(tick, memory),
        unavailable_in=unavailable,
        replacement_due_in=unavailable if ended else None,
    )


def _sets(tick: HostTick, memory: HostMemory) -> dict[str, tuple[int, Person | None]]:
    """By profile: how many a person wants on this host, and who.

    What was ordered here without the ledger comes before what the ledger keeps; sharing/orders/heard.py forgets it once
    a later order is heard. What all hosts are to have together concerns this one alone only where there is no other.
    """
    now, view, host = tick.now_seconds, tick.fleet, tick.policy.host
    found: dict[str, tuple[int, Person | None]] = {}
    for profile in tick.policy.profiles:
        local = memory.people.set_instances(profile.name, now)
        heard = set_heard(view, profile.name, host, now)
        if heard is None and view.alone:
            heard = set_heard(view, profile.name, "", now)
        if local is not None:
            found[profile.name] = local.instances, local.person
        elif heard is not None and heard.order.instances is not None:
            found[profile.name] = min(heard.order.instances, profile.max_instances), heard.order.person
    return found


def _maintenance(tick: HostTick, heard: OrderHeard) -> Hold:
    order = heard.order
    reason = reasons.UnderMaintenance(host=tick.policy.host, note=order.note, person=order.person)
    return Hold(reason=reason, until_seconds=tick.now_seconds + heard.left_seconds)


def remember_host(tick: HostTick, memory: HostMemory) -> HostMemory:
    """Remember since when the host is short of memory, and which of Mastodon's code instances may be started with."""
    machine, shortage = tick.machine, memory.shortage
    if machine is None:
        return memory
    since = shortage.pressed_since_seconds
    pressed = _memory_shortage(tick.policy, machine) is not None
    begun = tick.now_seconds if since is None else since
    memory = structs.replace(
        memory,
        shortage=structs.replace(shortage, pressed_since_seconds=begun if pressed else None),
        code_on_disk=machine.code,
    )
    memory = _remember_shipped(tick, machine, memory)
    if machine.code is None or machine.code.digest == memory.code:
        return memory
    if memory.code == "" or _all_run(machine.code.digest, tick.active, memory):
        return structs.replace(memory, code=machine.code.digest)
    return memory


def _remember_shipped(tick: HostTick, machine: HostFacts, memory: HostMemory) -> HostMemory:
    """Which installed unit files instances may be started with: the first that are seen, or those with which all run.

    A memory of an earlier version of fleetd's has none. If instances run with another unit then, it is that version's.
    """
    disk = machine.shipped_digests
    memory = structs.replace(memory, shipped_on_disk=disk)
    if memory.shipped is None:
        shipped = {unit: disk[unit] if _run_with(unit, tick, machine, memory) else _BEFORE for unit in disk}
    else:
        shipped = disk | memory.shipped
        changed = set(memory.units_changed)
        idle = {unit for unit in changed if not _present(unit, tick)}
        restarted = {unit for unit in changed - idle if _run_with(unit, tick, machine, memory, served=True)}
        if restarted == changed - idle and (restarted or tick.policy.scheduler.place == "elsewhere"):
            restarted |= idle  # nothing runs with it, and what runs is what is on disk
        shipped |= {unit: disk[unit] for unit in restarted}
    return memory if shipped == memory.shipped else structs.replace(memory, shipped=shipped)


def _present(unit: str, tick: HostTick) -> list[InstanceView]:
    return [v for v in tick.active if v.is_present and (v.profile is None) is (unit == SCHEDULER_UNIT)]


def _run_with(unit: str, tick: HostTick, machine: HostFacts, memory: HostMemory, *, served: bool = False) -> bool:
    """Whether all that run were started with the unit that is on disk. `served`: and have served since."""
    watches = [memory.units.watches.get(v.key) for v in _present(unit, tick)]
    now = machine.unit_digests.get(unit, "")
    return all(
        w is not None and (not w.unit_digest or w.unit_digest == now) and (w.served or not served) for w in watches
    )


def _all_run(digest: str, active: tuple[InstanceView, ...], memory: HostMemory) -> bool:
    """Whether every instance was started with this code and serves, so people have restarted them all."""
    watches = [memory.units.watches.get(v.key) for v in active if v.is_present]
    return bool(watches) and all(w is not None and w.served and w.code == digest for w in watches)


def _holds(tick: HostTick, memory: HostMemory) -> tuple[Hold, ...]:
    """Everything that keeps this host from moving of its own accord, the most important to show first."""
    found: list[Hold] = []
    unfit = memory.unfit_units.get(TEMPLATE_UNIT)
    if unfit is not None:
        found.append(Hold(reason=reasons.UnitUnfit(unfit=unfit)))
    stopped = memory.target.stopped_seconds
    if stopped is not None:
        found.append(Hold(reason=reasons.TargetStopped(stopped_seconds=max(0.0, tick.now_seconds - stopped))))
    pause = memory.people.paused(tick.now_seconds)
    if pause is not None:
        found.append(
            Hold(reason=reasons.Paused(note=pause.note, person=pause.person), until_seconds=pause.until_seconds)
        )
    of_fleet = pause_of(tick.fleet, tick.policy.host, tick.now_seconds)
    if of_fleet is not None:
        heard, whole = of_fleet
        why = reasons.Paused(
            note=heard.order.note, person=heard.order.person, whole=whole, host="" if whole else tick.policy.host
        )
        found.append(Hold(reason=why, until_seconds=tick.now_seconds + heard.left_seconds))
    code = memory.code_changed  # also while the host can't be read: unknown code is not accepted
    if code is not None:
        found.append(Hold(reason=reasons.CodeChanged(version=code.version or None)))
    if memory.units_changed:
        found.append(Hold(reason=reasons.UnitsUpgraded(units=memory.units_changed)))
    present = [v for v in tick.active if v.profile is not None and v.is_present]
    quieted = sum(1 for v in present if v.pinned == reasons.PinKind.QUIET)
    if quieted >= 2 and 2 * quieted > len(present):
        reason = reasons.MostQuietedByHand(quieted_instances=quieted, present_instances=len(present))
        found.append(Hold(reason=reason))
    return tuple(found)


def _shed(tick: HostTick, shortage: Shortage) -> reasons.MemoryShortage | None:
    """Why the least important instance goes: memory has long been short. Unknown memory sheds nothing (law 3)."""
    now, pressed, shed = tick.now_seconds, shortage.pressed_since_seconds, shortage.shed_seconds
    if tick.machine is None or pressed is None or now - pressed < PRESSED_SECONDS:
        return None
    again = shed is None or now - shed >= SHED_EVERY_SECONDS
    return _memory_shortage(tick.policy, tick.machine) if again else None


def _refusal(tick: HostTick, shortage: Shortage) -> reasons.ClampReason | None:
    others = () if tick.fleet.shared else _other_hosts(tick)
    if others:
        return reasons.OtherHostsSeen(hosts=others)
    if shortage.oom_seconds is not None:
        left = shortage.oom_seconds + OOM_HOLD_SECONDS - tick.now_seconds
        if left > 0:
            return reasons.OomHold(left_seconds=left)
    if tick.machine is None:
        return None
    return _memory_shortage(tick.policy, tick.machine) or _core_shortage(tick.policy, tick.machine)


def _other_hosts(tick: HostTick) -> tuple[str, ...]:
    """Hosts whose rendered workers beat, although this one shares no ledger with any (law 2)."""
    processes = tick.sidekiq.processes if tick.sidekiq is not None else ()
    return other_hosts(processes, tick.policy.host)[:HOSTS_NAMED_MAX]


def _memory_shortage(policy: Policy, machine: HostFacts) -> reasons.MemoryShortage | None:
    """How this host is short of memory; None: it is not.

    Available memory is checked too, because a kernel that reclaims fast shows no pressure until the end.
    """
    share = machine.pressure.memory_stalled_share if machine.pressure is not None else 0.0
    if share > policy.pressure.memory_max:
        return reasons.MemoryStalled(share=share, limit=policy.pressure.memory_max)
    available, reserve = machine.memory_available_bytes, policy.memory.reserve_bytes
    if available < reserve:
        return reasons.MemoryBelowReserve(available_bytes=available, reserve_bytes=reserve)
    return None


def _core_shortage(policy: Policy, machine: HostFacts) -> reasons.CoresShort | reasons.LoadHigh | None:
    limit, load = policy.pressure.cpu_max, machine.load_per_core
    if machine.pressure is not None:
        share = machine.pressure.cpu_waiting_share
        return reasons.CoresShort(share=share, limit=limit) if share > limit else None
    if load is not None and load > LOAD_PER_CORE_MAX and limit < 1.0:  # instead of pressure; 1 switches both off
        return reasons.LoadHigh(load_per_core=load, limit=LOAD_PER_CORE_MAX)
    return None
