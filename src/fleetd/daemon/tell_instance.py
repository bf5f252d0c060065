"""Tell of one instance: its state, and in a note what a person would want to know about it."""

from __future__ import annotations

from fleetd.core.instances.health import memory_max_bytes
from fleetd.core.instances.lifecycle import InstanceView, Pin
from fleetd.core.instances.orders import span
from fleetd.core.instances.start import failed_sentence, times
from fleetd.core.model.facts import Known
from fleetd.core.model.policy import Policy
from fleetd.core.model.status import InstanceStatus
from fleetd.daemon.tick import Told


def instance_status(policy: Policy, view: InstanceView, told: Told) -> InstanceStatus:
    """One row of the status."""
    return InstanceStatus(
        number=int(view.number),
        profile=view.profile,
        state=view.state.value,
        busy_threads=view.busy_threads,
        threads=view.threads,
        resident_bytes=view.resident_bytes,
        state_age_seconds=view.state_age_seconds if view.unit else None,
        note="; ".join(_notes(policy, view, told)),
    )


def pin_sentence(pin: Pin) -> str:
    """What a pin keeps, and who said so."""
    if pin.by == "hand":
        return {"run": "started by hand", "stopped": "stopped by hand", "quiet": "quieted by hand"}[pin.wants]
    return {
        "run": "kept running by fleetctl",
        "stopped": "kept stopped by fleetctl",
        "quiet": "kept quiet by fleetctl",
    }[pin.wants]


def _notes(policy: Policy, view: InstanceView, told: Told) -> list[str]:
    memory, now = told.host.memory, told.snapshot.now_seconds
    key, notes = str(view.number), []
    pin = memory.pins.get(key)
    if pin is not None:
        kept = "kept " if pin.by == "hand" else ""
        notes.append(f"{pin_sentence(pin)}, {kept}{span(max(0.0, pin.until_seconds - now))} more")
    if key in memory.stands_in:
        notes.append(f"stands in for {', '.join(f'@{n}' for n in memory.stands_in[key])}, stopped by hand")
    drain = memory.drains.get(key)
    if drain is not None and drain.stop_sent_seconds is None:
        left = policy.pace.drain_seconds_max - (now - drain.since_seconds)
        busy = "?" if view.busy_threads is None else str(view.busy_threads)
        notes.append(f"{busy} jobs left, stop at the latest in {max(0.0, left):.0f} s")
    elif drain is not None and view.there:
        notes.append(drain.why)
    failure = memory.failures.get(key)
    if failure is not None and view.there:
        notes.append(f"failed {times(failure.count)} before: {failure.why}")
    elif failure is not None:
        notes.append(failed_sentence([int(key)], memory, now))
    if view.unit is not None and view.unit.sub_state == "auto-restart" and view.unit.restarts > 1:
        notes.append(f"died {view.unit.restarts} times, restarted by systemd")
    if view.replace:
        notes.append(_replace_note(policy, view, told))
    return notes


def _replace_note(policy: Policy, view: InstanceView, told: Told) -> str:
    machine = told.snapshot.machine
    if view.replace == "memory" and isinstance(machine, Known):
        limit = memory_max_bytes(policy, machine.value)
        return f"holds more than {limit // 2**20} MiB: to be replaced"
    return {"outdated": "its settings changed: to be replaced", "restart": "to be restarted"}.get(
        view.replace, "to be replaced"
    )
