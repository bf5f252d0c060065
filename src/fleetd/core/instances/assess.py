"""One look at this host: what happened to its units, how they fare, what is to be replaced, on what terms to plan."""

from __future__ import annotations

from fleetd.core.instances.changes import remember_units
from fleetd.core.instances.constraints import HostConstraints, constraints_of, holds_of, remember_host
from fleetd.core.instances.health import remember_health
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import InstanceView, Orders, views
from fleetd.core.instances.rollout import away, doubled, due, remember_rollout, replace_reasons, spare_for
from fleetd.core.model.facts import Known, Snapshot, Value
from fleetd.core.model.policy import Policy


class HostLook(Value, frozen=True, kw_only=True):
    """What deciding begins with."""

    instances: tuple[InstanceView, ...] | None  # None: systemd is unknown
    memory: HostMemory
    terms: HostConstraints
    noticed: tuple[str, ...]  # sentences for the log


def look(policy: Policy, snapshot: Snapshot, memory: HostMemory) -> HostLook:
    """Fold this tick into the host's memory, and see every instance in its named state."""
    memory, noticed = remember_units(policy, snapshot, memory)
    before = memory.orders(snapshot.now_seconds, {})
    instances = _instances(policy, snapshot, before)
    memory, killed = remember_health(policy, snapshot, instances, memory)
    memory = remember_host(policy, snapshot, instances, memory)
    reasons = replace_reasons(policy, snapshot, instances or (), memory)
    after = memory.orders(snapshot.now_seconds, reasons)
    if after != before:
        instances = _instances(policy, snapshot, after)
    held = bool(holds_of(snapshot, instances, memory))
    memory, rolled = remember_rollout(policy, snapshot, instances, memory, held=held)
    terms = constraints_of(
        policy,
        snapshot,
        instances,
        memory,
        spare_for=spare_for(policy, instances, memory),
        doubled=doubled(policy, instances, memory),
        away=away(memory),
        due=due(memory),
    )
    return HostLook(instances=instances, memory=memory, terms=terms, noticed=(*noticed, *killed, *rolled))


def _instances(
    policy: Policy, snapshot: Snapshot, orders: dict[str, Orders]
) -> tuple[InstanceView, ...] | None:
    if not isinstance(snapshot.systemd, Known):
        return None
    return views(policy, snapshot, snapshot.systemd.value, orders)
