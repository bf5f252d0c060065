"""How each instance's present process fares: boot time, silence, weight, what it was started with, OOM kills.

Law 3 lives here: silence counts only while Redis is readable, others on this host beat and our own ticks are punctual.
All silent together is an unknown reading, and nothing is stopped for it. So does law 4: a boot that is ended is stopped
before READY, when it has fetched no job.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory, Watch
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, InstanceView
from fleetd.core.model.facts import HostFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.units import OomKilled

#: A pause between ticks longer than this was a freeze; what happened meanwhile nobody watched.
PUNCTUAL_SECONDS_MAX = 20.0
PUNCTUAL_TICKS = 2.5
#: A heartbeat younger than this says that its process is well (Sidekiq beats every 5 or 10 s).
FRESH_BEAT_SECONDS = 30.0
#: A boot that takes this many times as long as learnt has gone wrong; but never ended before the second figure.
BOOT_FACTOR = 4.0
BOOT_SECONDS_MIN = 120.0
#: How much of a learnt boot time a shorter one leaves; a longer one counts at once.
BOOT_KEEP = 0.8
#: After an OOM kill an instance is taken to grow to this many times what it had.
OOM_FACTOR = 1.25
SIGKILL = 9
#: Jobs that are remembered of one instance, for when it falls silent.
JOB_IDS_MAX = 64
#: In place of the digest of a unit file that is no longer on disk.
UNIT_FILE_BEFORE = "replaced before it was loaded"


def punctual(policy: Policy, since_seconds: float | None, now_seconds: float) -> float | None:
    """Seconds since the last tick; None where that is too long: nobody watched what happened since."""
    if since_seconds is None:
        return None
    gap = now_seconds - since_seconds
    longest = max(PUNCTUAL_SECONDS_MAX, PUNCTUAL_TICKS * policy.pace.tick_seconds)
    return gap if 0.0 <= gap <= longest else None


def boot_seconds_max(memory: HostMemory, view: InstanceView) -> float | None:
    """How long its boot may take; None: nothing learnt yet, so systemd's TimeoutStartSec decides."""
    learnt = memory.boot_seconds.get(view.learnt_under)
    return None if learnt is None else max(BOOT_SECONDS_MIN, BOOT_FACTOR * learnt)


def remember_health(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[Reason]]:
    """Fold this tick into the watches; returns the memory with each OOM kill.

    `tick` with the instances as they look before this; `memory` has already seen this tick's units (changes.py).
    """
    now = tick.now_seconds
    if tick.instances is None:
        return structs.replace(memory, ticked_seconds=now), []
    elapsed = punctual(tick.policy, memory.ticked_seconds, now)
    machine, sidekiq = tick.machine, tick.sidekiq
    complete = sidekiq is not None and sidekiq.processes_complete
    others_beat = any(v.beat_age_seconds is not None and v.beat_age_seconds < FRESH_BEAT_SECONDS for v in tick.active)
    memory, killed = _oom_kills(tick, memory)
    heavy_bytes = memory_max_bytes(tick.policy, machine) if machine is not None else None
    watches = {}
    boots = dict(memory.boot_seconds)
    for view in tick.active:
        if view.unit is None or not view.is_present:
            continue
        watch = _watch(memory.units.watches.get(view.key), view, view.unit, machine, now)
        watch = _count_boots(watch, view.unit, now, complete=complete)
        if view.is_ready and view.beat_age_seconds is not None and not watch.served:
            watch = structs.replace(watch, served=True)
            _learn_boot(boots, view, watch, now)
        silent = view.lacks_heartbeat and view.state_age_seconds >= FIRST_BEAT_SECONDS
        counted = elapsed if silent and complete and others_beat else None
        watches[view.key] = structs.replace(
            watch,
            silent_seconds=watch.silent_seconds + counted if counted is not None else 0.0,
            heavy_since_seconds=_heavy_since(watch, view, heavy_bytes, now),
            resident_bytes=view.resident_bytes or watch.resident_bytes,
            job_ids=_job_ids(view, watch),
        )
    units = structs.replace(memory.units, watches=watches)
    return structs.replace(memory, ticked_seconds=now, units=units, boot_seconds=boots), killed


def _watch(
    before: Watch | None, view: InstanceView, unit: UnitFacts, machine: HostFacts | None, now_seconds: float
) -> Watch:
    """The watch over this process: the one before, or a fresh one where systemd has started another."""
    if before is not None and before.invocation_id == unit.invocation_id:
        return before
    begun = now_seconds - unit.state_age_seconds if unit.active_state == "activating" else None
    # systemd's own count tells its restarts from a person's, and has those that fell between two ticks.
    again = before is not None and not before.served and unit.restarts > before.first_boot_restarts
    file = SCHEDULER_UNIT if view.key == SCHEDULER else TEMPLATE_UNIT
    unit_digest = machine.unit_digests.get(file, "") if machine else ""
    if unit.need_daemon_reload:  # systemd started it by the file that was there before
        unit_digest = before.unit_digest if before is not None and before.unit_digest else UNIT_FILE_BEFORE
    return Watch(
        invocation_id=unit.invocation_id,
        begun_seconds=None if unit.sub_state == "auto-restart" else begun,
        first_boot_seconds=before.first_boot_seconds if before is not None and again else None,
        first_boot_restarts=before.first_boot_restarts if before is not None and again else 0,
        unit_digest=unit_digest,
        code=machine.code.digest if machine and machine.code else "",
    )


def _count_boots(watch: Watch, unit: UnitFacts, now_seconds: float, *, complete: bool) -> Watch:
    """Since when, and from which restart on, it boots without ever coming to a heartbeat.

    While Redis can't be read the count begins anew: what dies because Redis is away has not failed.
    """
    if watch.served or not complete:
        known = watch.first_boot_seconds is not None
        return structs.replace(watch, first_boot_seconds=None) if known else watch
    if watch.first_boot_seconds is None and unit.active_state == "activating":
        return structs.replace(watch, first_boot_seconds=now_seconds, first_boot_restarts=unit.restarts)
    return watch


def _learn_boot(boots: dict[str, float], view: InstanceView, watch: Watch, now_seconds: float) -> None:
    if watch.begun_seconds is None:
        return
    # Until READY: that no heartbeat got through after it (Redis was away, fleetd was dead) is no slow boot.
    took = max(0.0, now_seconds - view.state_age_seconds - watch.begun_seconds)
    before = boots.get(view.learnt_under, took)
    boots[view.learnt_under] = max(took, before * BOOT_KEEP + took * (1.0 - BOOT_KEEP))


def _job_ids(view: InstanceView, watch: Watch) -> tuple[str, ...]:
    if view.beat_age_seconds is None:
        return watch.job_ids
    return tuple(sorted(view.job_ids)[:JOB_IDS_MAX])


def memory_max_bytes(policy: Policy, machine: HostFacts) -> int:
    """What one instance may hold: as configured, else its share of the host, at least 1.5 of what it is to grow to."""
    if policy.memory.max_bytes is not None:
        return policy.memory.max_bytes
    instances = max(1, sum(p.max_instances for p in policy.profiles))
    share = (machine.memory_total_bytes - policy.memory.reserve_bytes) // instances
    return max(share, policy.memory.instance_bytes * 3 // 2)


def _heavy_since(watch: Watch, view: InstanceView, heavy_bytes: int | None, now_seconds: float) -> float | None:
    if heavy_bytes is None or view.resident_bytes is None:
        return watch.heavy_since_seconds  # unknown is not light
    if view.resident_bytes <= heavy_bytes:
        return None
    return watch.heavy_since_seconds if watch.heavy_since_seconds is not None else now_seconds


def _oom_kills(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[Reason]]:
    """Who died for memory since the last tick: systemd's word, or a SIGKILL while the kernel counted one more."""
    now, shortage = tick.now_seconds, memory.shortage
    total = tick.machine.oom_kills_total if tick.machine is not None else None
    known = shortage.oom_kills_total
    if total is not None and known is not None and total > known:
        shortage = structs.replace(shortage, oom_counted_seconds=now)
    if total is not None:
        shortage = structs.replace(shortage, oom_kills_total=total)
    # The kernel counts at once; systemd may tell a tick later.
    at = shortage.oom_counted_seconds
    counted = at is not None and now - at <= PUNCTUAL_SECONDS_MAX
    watches, sizes = dict(memory.units.watches), dict(memory.instance_bytes)
    killed: list[Reason] = []
    for view in tick.instances or ():
        unit, before = view.unit, watches.get(view.key)
        if unit is None or before is None or before.oom_noticed or not _ended(before, unit):
            continue
        if unit.result != "oom-kill" and not (counted and unit.killed_by_signal == SIGKILL):
            continue
        had = max(before.resident_bytes, tick.policy.memory.instance_bytes)
        sizes[view.learnt_under] = max(sizes.get(view.learnt_under, 0), int(had * OOM_FACTOR))
        watches[view.key] = structs.replace(before, oom_noticed=True)
        shortage = structs.replace(shortage, oom_seconds=now)
        killed.append(OomKilled(key=view.key, grown_bytes=sizes[view.learnt_under]))
    units = structs.replace(memory.units, watches=watches)
    return structs.replace(memory, shortage=shortage, units=units, instance_bytes=sizes), killed


def _ended(watch: Watch, unit: UnitFacts) -> bool:
    """Whether the process that was watched has ended without being stopped."""
    restarted = unit.invocation_id != watch.invocation_id
    return restarted or unit.active_state == "failed" or unit.sub_state == "auto-restart"
