"""On what terms the plan may use this host: holds, people's counts, what its memory and cores carry, a roll's spare.

Law 3: a host that is short of memory or cores adds nothing. Law 6: people's orders come first. A pause, an upgrade of
Mastodon's code under running workers, or a fleet quieted by hand hold everything that would move of its own accord;
what the database's budget takes back (law 2) and a surplus scheduler (law 1) are ended all the same.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.core.decision import ClampCode
from fleetd.core.facts import HostPressure, Known, Snapshot, Value
from fleetd.core.host_memory import HostMemory
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy

#: Memory pressure that lasts this long sheds the least important instance, and one more each such time.
PRESSED_SECONDS = 60.0
SHED_EVERY_SECONDS = 120.0
#: After an OOM kill nothing is added on this host for this long.
OOM_HOLD_SECONDS = 1800.0


class Hold(Value, frozen=True, kw_only=True):
    """Nothing moves of its own accord, and why."""

    kind: Literal["pause", "upgrade", "quieted"]
    code: ClampCode
    sentence: str
    until_seconds: float | None = None  # None: until somebody acts


class HostTerms(Value, frozen=True, kw_only=True):
    """What the fleet's decision must know of this host's memory."""

    holds: tuple[Hold, ...] = ()
    sets: dict[str, int] = {}  # by profile: as many instances as a person wants
    grown_bytes: dict[str, int] = {}  # by profile: what one instance grows to
    refusal: tuple[ClampCode, str] | None = None  # why nothing is added above min
    shed: bool = False  # memory pressure lasts: the least important goes
    spare_for: str = ""  # a profile that needs one more for start-before-stop
    doubled: str = ""  # a profile in which the spare runs beside the one it replaces
    away: str = ""  # a profile of which one was let go before its replacement
    due: str = ""  # the same, once that one has ended: its replacement is no growth

    @property
    def held(self) -> Hold | None:
        return self.holds[0] if self.holds else None


def terms_of(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: HostMemory,
    *,
    spare_for: str,
    doubled: str,
    away: str,
    due: str,
) -> HostTerms:
    """The terms of this tick; `memory` has already seen it."""
    now = snapshot.now_seconds
    again = memory.shed_seconds is None or now - memory.shed_seconds >= SHED_EVERY_SECONDS
    pressed = memory.pressed_since_seconds
    sets = {name: memory.set_instances(name, now) for name in memory.sets}
    return HostTerms(
        holds=holds_of(snapshot, instances, memory),
        sets={name: count for name, count in sets.items() if count is not None},
        grown_bytes={p.name: memory.grown_bytes(policy, p.name) for p in policy.profiles},
        refusal=_refusal(policy, snapshot, memory),
        # Unknown pressure sheds nobody (law 3).
        shed=isinstance(snapshot.machine, Known)
        and pressed is not None
        and now - pressed >= PRESSED_SECONDS
        and again,
        spare_for=spare_for,
        doubled=doubled,
        away=away,
        due=due,
    )


def remember_host(
    policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...] | None, memory: HostMemory
) -> HostMemory:
    """Since when the host is short of memory, and which code of Mastodon instances may be started with."""
    if not isinstance(snapshot.machine, Known):
        return memory
    machine, now = snapshot.machine.value, snapshot.now_seconds
    pressed = _short_of_memory(policy, machine.pressure)
    since = memory.pressed_since_seconds
    memory = structs.replace(
        memory,
        pressed_since_seconds=(now if since is None else since) if pressed else None,
        code_on_disk=machine.code,
    )
    if machine.code is None or machine.code.digest == memory.code:
        return memory
    if memory.code == "" or _all_run(machine.code.digest, instances, memory):
        return structs.replace(memory, code=machine.code.digest)
    return memory


def _all_run(digest: str, instances: tuple[InstanceView, ...] | None, memory: HostMemory) -> bool:
    """Whether every instance was started with this code and serves: people have restarted them all."""
    there = [memory.watches.get(str(v.number)) for v in instances or () if v.there]
    return bool(there) and all(w is not None and w.served and w.code == digest for w in there)


def holds_of(
    snapshot: Snapshot, instances: tuple[InstanceView, ...] | None, memory: HostMemory
) -> tuple[Hold, ...]:
    """What keeps everything from moving of its own accord, the first to be told first."""
    found: list[Hold] = []
    pause = memory.paused(snapshot.now_seconds)
    if pause is not None:
        why = f": {pause.reason}" if pause.reason else ""
        sentence = f"paused by fleetctl{why}; `fleetctl resume` ends it"
        until = pause.until_seconds
        found.append(Hold(kind="pause", code=ClampCode.PAUSED, sentence=sentence, until_seconds=until))
    code = memory.code_changed  # also while the host can't be read: unknown code is no accepted code
    if code is not None:
        version = f" ({code.version})" if code.version else ""
        sentence = (
            f"Mastodon's code on disk{version} is not what runs: nothing starts or stops until "
            "`fleetctl restart` (one at a time) or `fleetctl resume`"
        )
        found.append(Hold(kind="upgrade", code=ClampCode.UPGRADE, sentence=sentence))
    there = [v for v in instances or () if v.profile and v.there]
    quieted = [v for v in there if v.pinned == "quiet"]
    if len(quieted) >= 2 and 2 * len(quieted) > len(there):
        sentence = f"{len(quieted)} of {len(there)} instances were quieted by hand: nothing starts or stops"
        found.append(Hold(kind="quieted", code=ClampCode.PINNED, sentence=sentence))
    return tuple(found)


def _refusal(policy: Policy, snapshot: Snapshot, memory: HostMemory) -> tuple[ClampCode, str] | None:
    if memory.oom_seconds is not None:
        left = memory.oom_seconds + OOM_HOLD_SECONDS - snapshot.now_seconds
        if left > 0:
            sentence = f"an instance was killed for memory: nothing is added on this host for {left:.0f} s"
            return ClampCode.OOM_KILLED, sentence
    pressure = snapshot.machine.value.pressure if isinstance(snapshot.machine, Known) else None
    if pressure is None:
        return None
    if _short_of_memory(policy, pressure):
        share, limit = pressure.memory_stalled_share, policy.pressure.memory_max
        sentence = f"this host stood still for memory {share:.0%} of the last minute (pressure.memory_max {limit:.0%})"
        return ClampCode.HOST_PRESSURE, sentence
    if pressure.cpu_waiting_share > policy.pressure.cpu_max:
        share, limit = pressure.cpu_waiting_share, policy.pressure.cpu_max
        sentence = f"work waited for a core {share:.0%} of the last minute (pressure.cpu_max {limit:.0%})"
        return ClampCode.HOST_PRESSURE, sentence
    return None


def _short_of_memory(policy: Policy, pressure: HostPressure | None) -> bool:
    return pressure is not None and pressure.memory_stalled_share > policy.pressure.memory_max
