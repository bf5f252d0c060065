"""What this host makes of orders that it heard from the fleet's ledger: a restart begins, a later count holds.

Law 6: of two orders about the same thing the one that was given later holds. A restart is begun once for each order,
also over restarts of fleetd and reboots, and concerns only what was started before the order: whoever was away and
comes back with fresh instances has nothing to restart. One that is given up on one host ends on the others.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.core.fleet.orders import (
    RESTART_SECONDS,
    OrderHeard,
    about_restart,
    about_set,
    restarts_heard,
    set_heard,
    subject_of,
)
from fleetd.core.fleet.view import FleetKnown, RestartKnown
from fleetd.core.instances.host_memory import HostMemory, RolloutPhase
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.orders import Restart, Situation
from fleetd.core.model import reasons
from fleetd.errors import OrderRefusedError


def obey_heard(tick: HostTick, memory: HostMemory, before: FleetKnown) -> tuple[HostMemory, list[reasons.Reason]]:
    """The memory with what was heard in this tick, and what to log. `before`: what was known before it."""
    memory, noticed = _without_older_counts(tick, memory, before), _counts_heard(tick, memory, before)
    heard = restarts_heard(tick.fleet, tick.policy.host, tick.now_seconds)
    mine = (about_restart(), about_restart(tick.policy.host))  # a ledger that was lost may bring them again
    known = {about: one for about, one in restarts_known(memory).items() if about in mine}
    for about, order in heard.items():
        one = known.get(about)
        if one is None or one.until_ms != order.order.until_ms:
            one = RestartKnown(until_ms=order.order.until_ms)
        if one.phase in ("waits", "under_way") and about == about_restart():
            one, memory, said = _stopped_elsewhere(tick, memory, one)
            noticed += said
        if one.phase == "waits":
            one, memory, said = _begun(tick, memory, about, order, one)
            noticed += said
        known[about] = one
    if known == memory.fleet.restarts:
        return memory, noticed
    return structs.replace(memory, fleet=structs.replace(memory.fleet, restarts=known)), noticed


def restarts_known(memory: HostMemory) -> dict[str, RestartKnown]:
    """The same as in the memory, by how far the rollout is now. After a reboot nothing is left to restart."""
    rollout = memory.rollout
    found = {}
    for about, one in memory.fleet.restarts.items():
        if rollout is not None and rollout.order == one.until_ms:
            found[about] = structs.replace(
                one,
                phase=_PHASES[rollout.phase],
                done_instances=rollout.done_instances,
                total_instances=rollout.total_instances,
            )
        else:
            found[about] = structs.replace(one, phase="done") if one.phase == "under_way" else one
    return found


_PHASES: dict[RolloutPhase, Literal["under_way", "done", "given_up"]] = {
    RolloutPhase.UNDER_WAY: "under_way",
    RolloutPhase.DONE: "done",
    RolloutPhase.GIVEN_UP: "given_up",
}


def _without_older_counts(tick: HostTick, memory: HostMemory, before: FleetKnown) -> HostMemory:
    """Without what was set here while the ledger was away, where the ledger has a count now that is new."""
    orders, host, sets = memory.fleet.orders, tick.policy.host, memory.people.sets
    older = [
        name
        for name in sets
        for about in [about_set(name, host)]
        if about in orders and orders[about] != before.orders.get(about)
    ]
    if not older:
        return memory
    kept = {name: one for name, one in sets.items() if name not in older}
    return structs.replace(memory, people=structs.replace(memory.people, sets=kept))


def _counts_heard(tick: HostTick, memory: HostMemory, before: FleetKnown) -> list[reasons.Reason]:
    """What people set for this host or for all, that is new or has ended."""
    now, orders = memory.fleet.orders, {*before.orders, *memory.fleet.orders}
    found: list[reasons.Reason] = []
    for about in sorted(orders):
        kind, host, profile = subject_of(about)
        if kind != "set" or host not in ("", tick.policy.host) or now.get(about) == before.orders.get(about):
            continue
        heard = set_heard(tick.fleet, profile, host, tick.now_seconds)
        person, count = (None, None) if heard is None else (heard.order.person, heard.order.instances)
        found.append(reasons.CountHeard(profile=profile, instances=count, whole=not host, person=person))
    return found


def _begun(
    tick: HostTick, memory: HostMemory, about: str, heard: OrderHeard, one: RestartKnown
) -> tuple[RestartKnown, HostMemory, list[reasons.Reason]]:
    """Begin a restart; it waits while another one is under way here, and while what runs is unknown."""
    upgraded = memory.code_changed is not None or bool(memory.units_changed)
    rollout, order = memory.rollout_under_way, heard.order
    others = rollout is not None and rollout.cause == reasons.ReplaceCause.RESTART and not upgraded
    if others or tick.instances is None or tick.fleet.reply is None:
        return one, memory, []
    ago = max(0.0, RESTART_SECONDS - heard.left_seconds)
    now = Situation(tick, memory, tick.now_seconds, order.person, ordered_ago_seconds=ago)
    whole = about == about_restart()
    try:
        memory, reply = Restart(profile=order.profile).obey(now)
    except OrderRefusedError as refused:
        why = reasons.RestartNotBegun(person=order.person, whole=whole, why=str(refused))
        return structs.replace(one, phase="done"), memory, [why]
    if memory.rollout is None or not isinstance(reply, reasons.RestartTaken):
        return one, memory, []
    memory = structs.replace(memory, rollout=structs.replace(memory.rollout, order=one.until_ms))
    begun = reasons.RestartBegun(
        person=order.person,
        whole=whole,
        profile=order.profile,
        instances=reply.instances,
        tried_again=reply.tried_again,
        pins_ended=reply.pins_ended,
    )
    return structs.replace(one, phase="under_way", total_instances=reply.instances), memory, [begun]


def _stopped_elsewhere(
    tick: HostTick, memory: HostMemory, one: RestartKnown
) -> tuple[RestartKnown, HostMemory, list[reasons.Reason]]:
    """End a restart that was given up on another host: what failed there would fail here as well."""
    stopped = tick.fleet.restart_stopped
    if stopped is None or stopped.until_ms != one.until_ms or stopped.host == tick.policy.host:
        return one, memory, []
    rollout = memory.rollout_under_way
    if rollout is not None and rollout.order == one.until_ms:
        code, shipped = rollout.code_before or memory.code, rollout.shipped_before or memory.shipped
        memory = structs.replace(memory, rollout=None, code=code, shipped=shipped)  # new code holds again, as there
    why = reasons.RestartStoppedElsewhere(
        host=stopped.host, done_instances=one.done_instances, total_instances=one.total_instances
    )
    return structs.replace(one, phase="stopped"), memory, [why]
