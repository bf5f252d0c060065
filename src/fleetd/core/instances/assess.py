"""Assess this host: what its readings prove, what happened to its units, how they fare, and what constrains it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from fleetd.core.evidence.weigh import weigh
from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.constraints import constraints_of, remember_host
from fleetd.core.instances.deaths import remember_deaths
from fleetd.core.instances.health import remember_health
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.left_over import is_up
from fleetd.core.instances.lifecycle import InstanceMemory, InstanceView, SeenUnit, all_stopped, view_of
from fleetd.core.instances.manual_changes import remember_units
from fleetd.core.instances.outdated import replace_causes
from fleetd.core.instances.rollout import remember_rollout
from fleetd.core.model.facts import Known, RenderedSettings, Snapshot, Value
from fleetd.core.model.heartbeats import heartbeats_by_key, present_heartbeat
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import Reason


class Assessment(Value, frozen=True, kw_only=True):
    """What all decisions of a tick start from."""

    tick: HostTick
    memory: HostMemory
    noticed: tuple[Reason, ...]  # for the log


def assess(policy: Policy, snapshot: Snapshot, memory: HostMemory, fleet: FleetView | None = None) -> Assessment:
    """Fold this tick into the host's memory, and derive the state of every instance. `fleet`: None: there is none."""
    weighed = weigh(policy, snapshot, memory.evidence)
    memory = structs.replace(memory, evidence=weighed.memory)
    tick = HostTick(policy=policy, snapshot=weighed.snapshot, evidence=weighed.evidence, fleet=fleet or FleetView())
    looked = memory
    memory, noticed = remember_units(tick, memory)
    before = memory.by_instance(tick.now_seconds, {})
    tick = tick.seeing(instance_views(tick, before, memory.left_over))
    memory, killed = remember_health(tick, memory)
    memory, died = remember_deaths(tick, memory, looked, killed)
    memory = remember_host(tick, memory)
    after = memory.by_instance(tick.now_seconds, replace_causes(tick, memory))
    if after != before:
        tick = tick.seeing(instance_views(tick, after, memory.left_over))
    tick = tick.under(constraints_of(tick, memory))
    memory, ended = remember_rollout(tick, memory)
    tick = tick.under(constraints_of(tick, memory))
    return Assessment(tick=tick, memory=memory, noticed=(*noticed, *killed, *died, *ended))


def instance_views(
    tick: HostTick,
    memories: dict[InstanceKey, InstanceMemory],
    left_over: Mapping[InstanceKey, RenderedSettings] = MappingProxyType({}),
) -> tuple[InstanceView, ...] | None:
    """Every configured instance in the order of numbers, those left over, then the scheduler; None: systemd is unknown.

    `left_over`: as in HostMemory. Those that are gone are not seen any more.
    """
    policy, systemd, redis = tick.policy, tick.systemd, tick.snapshot.sidekiq
    if systemd is None:
        return None
    beats = heartbeats_by_key(redis.value.processes, policy.host) if isinstance(redis, Known) else {}
    age = redis.age_seconds if isinstance(redis, Known) else None
    nothing = InstanceMemory()

    def view(key: InstanceKey) -> InstanceView:
        unit = systemd.units.get(key)
        process = present_heartbeat(beats.get(key, []), unit)
        seen = SeenUnit(
            key=key,
            unit=unit,
            process=process,
            memory=memories.get(key, nothing),
            stalled=process is not None and process.stalled,
            left_over=left_over.get(key),
        )
        return view_of(policy, seen, tick.machine, age)

    found = dict(all_stopped(policy.profiles, age is not None))
    for key in found.keys() & (systemd.units.keys() | memories.keys()):
        found[key] = view(key)
    left = [key for key in left_over if is_up(systemd, key) or memories.get(key, nothing).start_ordered]
    return (*found.values(), *map(view, left), view(SCHEDULER))
