"""On what terms the plan may use this host: holds, people's counts, what its memory and cores carry, a roll's spare.

Law 3: a host that is short of memory or cores adds nothing. Law 6: people's orders come first. A pause, an upgrade of
Mastodon's code under running workers, or a fleet quieted by hand hold everything that would move of its own accord;
what the database's budget takes back (law 2) and a surplus scheduler (law 1) are ended all the same.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import ClampCode
from fleetd.core.model.facts import HostFacts, Known, Snapshot, Value
from fleetd.core.model.policy import Policy

#: Memory pressure that lasts this long sheds the least important instance, and one more each such time.
PRESSED_SECONDS = 60.0
SHED_EVERY_SECONDS = 120.0
#: After an OOM kill nothing is added on this host for this long.
OOM_HOLD_SECONDS = 1800.0
#: Where the kernel tells no pressure of the cores (no PSI): nothing is added above this load average.
LOAD_PER_CORE_MAX = 2.0


class Hold(Value, frozen=True, kw_only=True):
    """Nothing moves of its own accord, and why."""

    kind: Literal["pause", "upgrade", "quieted"]
    code: ClampCode
    sentence: str
    until_seconds: float | None = None  # None: until somebody acts


class HostConstraints(Value, frozen=True, kw_only=True):
    """What the fleet's decision must know of this host's memory."""

    holds: tuple[Hold, ...] = ()
    sets: dict[str, int] = {}  # by profile: as many instances as a person wants
    grown_bytes: dict[str, int] = {}  # by profile: what one instance grows to
    boot_seconds: dict[str, float] = {}  # by profile: learnt
    refusal: tuple[ClampCode, str] | None = None  # why nothing is added above min
    shed: str = ""  # why the least important goes: this host has long been short of memory; "": it is not
    spare_for: str = ""  # a profile that needs one more for start-before-stop
    doubled: str = ""  # a profile in which the spare runs beside the one it replaces
    away: str = ""  # a profile of which one was let go before its replacement
    due: str = ""  # the same, once that one has ended: its replacement is no growth

    @property
    def held(self) -> Hold | None:
        return self.holds[0] if self.holds else None


def constraints_of(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: HostMemory,
    *,
    spare_for: str,
    doubled: str,
    away: str,
    due: str,
) -> HostConstraints:
    """The terms of this tick; `memory` has already seen it."""
    now = snapshot.now_seconds
    again = memory.shed_seconds is None or now - memory.shed_seconds >= SHED_EVERY_SECONDS
    pressed = memory.pressed_since_seconds
    sets = {name: memory.set_instances(name, now) for name in memory.sets}
    return HostConstraints(
        holds=holds_of(snapshot, instances, memory),
        sets={name: count for name, count in sets.items() if count is not None},
        grown_bytes={p.name: memory.grown_bytes(policy, p.name) for p in policy.profiles},
        boot_seconds=memory.boot_seconds,
        refusal=_refusal(policy, snapshot, memory),
        # Unknown pressure sheds nobody (law 3).
        shed=_memory_shortage(policy, snapshot.machine.value)
        if isinstance(snapshot.machine, Known)
        and pressed is not None
        and now - pressed >= PRESSED_SECONDS
        and again
        else "",
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
    pressed = bool(_memory_shortage(policy, machine))
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
    there = [memory.watches.get(str(v.number)) for v in instances or () if v.present]
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
    quieted = [v for v in instances or () if v.pinned == "quiet" and v.profile and v.present]
    there = sum(1 for v in instances or () if v.profile and v.present) if quieted else 0
    if len(quieted) >= 2 and 2 * len(quieted) > there:
        sentence = f"{len(quieted)} of {there} instances were quieted by hand: nothing starts or stops"
        found.append(Hold(kind="quieted", code=ClampCode.PINNED, sentence=sentence))
    return tuple(found)


def _refusal(policy: Policy, snapshot: Snapshot, memory: HostMemory) -> tuple[ClampCode, str] | None:
    if memory.oom_seconds is not None:
        left = memory.oom_seconds + OOM_HOLD_SECONDS - snapshot.now_seconds
        if left > 0:
            sentence = f"an instance was killed for memory: nothing is added on this host for {left:.0f} s"
            return ClampCode.OOM_KILLED, sentence
    if not isinstance(snapshot.machine, Known):
        return None
    sentence = _memory_shortage(policy, snapshot.machine.value) or _core_shortage(
        policy, snapshot.machine.value
    )
    return (ClampCode.HOST_PRESSURE, sentence) if sentence else None


def _memory_shortage(policy: Policy, machine: HostFacts) -> str:
    """How this host is short of memory; "": it is not. A kernel that reclaims fast tells no pressure until the end."""
    share = machine.pressure.memory_stalled_share if machine.pressure is not None else 0.0
    if share > policy.pressure.memory_max:
        limit = policy.pressure.memory_max
        return f"this host stood still for memory {share:.0%} of the last minute (pressure.memory_max {limit:.0%})"
    available, reserve = machine.memory_available_bytes, policy.memory.reserve_bytes
    if available < reserve:
        return f"{available // 2**20} MiB of memory are available on this host (memory.reserve {reserve // 2**20} MiB)"
    return ""


def _core_shortage(policy: Policy, machine: HostFacts) -> str:
    limit = policy.pressure.cpu_max
    if machine.pressure is not None:
        share = machine.pressure.cpu_waiting_share
        if share > limit:
            return f"work waited for a core {share:.0%} of the last minute (pressure.cpu_max {limit:.0%})"
        return ""
    load = machine.load_per_core  # by and large the same; cpu_max = 1 switches both off
    if load is not None and load > LOAD_PER_CORE_MAX and limit < 1.0:
        return f"the load average is {load:.1f} a core (at most {LOAD_PER_CORE_MAX:.0f}; this kernel tells no pressure)"
    return ""
