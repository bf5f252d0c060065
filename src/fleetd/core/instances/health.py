"""How each instance's present process fares: boot time, silence, memory, what it was started with, OOM kills.

Law 3 is kept here: silence counts only while Redis can be read, other instances on this host beat, and our own ticks
are punctual. If all are silent together, that is an unknown reading, and nothing is stopped for it. Law 4 is kept here
too: a boot that takes too long is stopped before READY, when it has fetched no job.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory, Watch
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, InstanceView
from fleetd.core.model.facts import EndCause, Ending, HostFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.policy_tables import PUNCTUAL_SECONDS_MAX, Policy
from fleetd.core.model.reasons.units import OomKilled

#: A process whose heartbeat is younger than this is well (Sidekiq beats every 5 or 10 s).
FRESH_BEAT_SECONDS = 30.0
#: A boot that takes this many times the learnt time has failed, but not before the second figure.
BOOT_FACTOR = 4.0
BOOT_SECONDS_MIN = 120.0
#: The weight of the learnt boot time against a shorter one. A longer boot replaces it at once.
BOOT_KEEP = 0.8
#: After an OOM kill an instance is assumed to grow to this many times what it had.
OOM_FACTOR = 1.25
SIGKILL = 9
#: Most running jobs remembered per instance, for when it falls silent.
JOB_IDS_MAX = 64
#: Stands for the digest of a unit file that is no longer on disk.
UNIT_FILE_BEFORE = "replaced before it was loaded"


def boot_seconds_max(memory: HostMemory, view: InstanceView) -> float | None:
    """How long this instance's boot may take; None: nothing learnt yet, so systemd's TimeoutStartSec decides."""
    learnt = memory.boot_seconds.get(view.learnt_under)
    return None if learnt is None else max(BOOT_SECONDS_MIN, BOOT_FACTOR * learnt)


def remember_health(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[OomKilled]]:
    """Fold this tick into the watches. Returns the memory, and a reason for each OOM kill.

    `tick` has the instances in their states before this call. `memory` must already include this tick's units
    (manual_changes.py).
    """
    now = tick.now_seconds
    if tick.instances is None:
        return structs.replace(memory, ticked_seconds=now), []
    elapsed = tick.policy.pace.punctual(memory.ticked_seconds, now)
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
    """The watch over the present process: the remembered one, or a new one if systemd has started a new process."""
    if before is not None and before.invocation_id == unit.invocation_id:
        return before
    begun = now_seconds - unit.state_age_seconds if unit.active_state == "activating" else None
    # systemd's own count tells its restarts from a person's, and includes those between two ticks.
    again = before is not None and not before.served and unit.restarts > before.first_boot_restarts
    file = SCHEDULER_UNIT if view.key == SCHEDULER else TEMPLATE_UNIT
    unit_digest = machine.unit_digests.get(file, "") if machine else ""
    file_digest = machine.file_digests.get(file, "") if machine else ""
    if unit.need_daemon_reload:  # systemd started it from the file that was there before
        unit_digest = before.unit_digest if before is not None and before.unit_digest else UNIT_FILE_BEFORE
        file_digest = before.file_digest if before is not None else ""
    return Watch(
        invocation_id=unit.invocation_id,
        begun_seconds=None if unit.sub_state == "auto-restart" else begun,
        first_boot_seconds=before.first_boot_seconds if before is not None and again else None,
        first_boot_restarts=before.first_boot_restarts if before is not None and again else 0,
        unit_digest=unit_digest,
        file_digest=file_digest,
        code=machine.code.digest if machine and machine.code else "",
    )


def _count_boots(watch: Watch, unit: UnitFacts, now_seconds: float, *, complete: bool) -> Watch:
    """Remember since when, and since which restart, it boots without ever sending a heartbeat.

    While Redis can't be read the count begins anew: a process that dies because Redis is away has not failed.
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
    # A boot ends at READY. If the heartbeat came late after that (Redis or fleetd was away), it was no slow boot.
    took = max(0.0, now_seconds - view.state_age_seconds - watch.begun_seconds)
    before = boots.get(view.learnt_under, took)
    boots[view.learnt_under] = max(took, before * BOOT_KEEP + took * (1.0 - BOOT_KEEP))


def _job_ids(view: InstanceView, watch: Watch) -> tuple[str, ...]:
    if view.beat_age_seconds is None:
        return watch.job_ids
    return tuple(sorted(view.job_ids)[:JOB_IDS_MAX])


def memory_max_bytes(policy: Policy, machine: HostFacts) -> int:
    """The memory one instance may hold: `memory.max`, else its share of the host, at least 1.5 × `memory.instance`."""
    if policy.memory.max_bytes is not None:
        return policy.memory.max_bytes
    instances = max(1, sum(p.max_instances for p in policy.profiles))
    share = (machine.memory_total_bytes - policy.memory.reserve_bytes) // instances
    return max(share, policy.memory.instance_bytes * 3 // 2)


def _heavy_since(watch: Watch, view: InstanceView, heavy_bytes: int | None, now_seconds: float) -> float | None:
    if heavy_bytes is None or view.resident_bytes is None:
        return watch.heavy_since_seconds  # unknown does not mean within the limit
    if view.resident_bytes <= heavy_bytes:
        return None
    return watch.heavy_since_seconds if watch.heavy_since_seconds is not None else now_seconds


def _oom_kills(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[OomKilled]]:
    """Find OOM kills since the last tick: systemd says so, or a SIGKILL came while the kernel's count grew."""
    now, shortage = tick.now_seconds, memory.shortage
    total = tick.machine.oom_kills_total if tick.machine is not None else None
    known = shortage.oom_kills_total
    if total is not None and known is not None and total > known:
        shortage = structs.replace(shortage, oom_counted_seconds=now)
    if total is not None:
        shortage = structs.replace(shortage, oom_kills_total=total)
    # The kernel counts at once; systemd may show it a tick later.
    at = shortage.oom_counted_seconds
    counted = at is not None and now - at <= PUNCTUAL_SECONDS_MAX
    watches, sizes = dict(memory.units.watches), dict(memory.instance_bytes)
    killed: list[OomKilled] = []
    for view in tick.instances or ():
        unit, before = view.unit, watches.get(view.key)
        if unit is None or before is None or before.oom_noticed or not _ended(before, unit):
            continue
        ending = unit.ending or Ending(cause=EndCause.UNKNOWN)
        said = unit.result == "oom-kill" or ending.cause == EndCause.OOM
        if not said and not (counted and ending.signal == SIGKILL):
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
