"""Demand: from waiting jobs to threads, and from threads to instances of each profile.

Offered load (Little's law, Operations Research 9(3), 1961): the mean number of busy threads on a queue that is
not backed up *is* the number it needs. While a backlog shrinks, so much less comes in than is worked off. A backlog
adds what clears it before it is late (backlog.py; in the direction of the one-step answer of DS2, Kalavri et al.,
OSDI 2018). Threads become instances at a planned utilisation.

Law 3: a queue whose reading is unknown keeps the load it was last known to have; it is never read as idle.
"""

from __future__ import annotations

import math
from functools import lru_cache

from fleetd.core.demand.backlog import (
    BOOT_SECONDS,
    CATCH_UP_SECONDS,
    Waiting,
    capacity_of,
    threads_in_time,
)
from fleetd.core.demand.service_time import ServiceMemory, remember_service
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import QueueFacts, SidekiqFacts, Value
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy import SCHEDULER_QUEUE, Policy, Profile

#: Time constant of the mean of busy threads; heartbeats are 5 to 10 s old, so several are averaged.
BUSY_MEAN_SECONDS = 20.0
#: Time constant of the mean that says what may go. The faster one scatters by the root of the load: its peaks would
#: keep an instance that is never needed.
STEADY_MEAN_SECONDS = 120.0
#: The most by which lateness multiplies what a backlog needs.
DOUBT_MAX = 4.0


class DemandMemory(Value, frozen=True, kw_only=True):
    """What demand remembers between ticks."""

    at_seconds: float | None = None  # of the last known reading
    busy_mean_threads: dict[str, float] = {}  # offered load: busy, less by what a backlog shrinks
    steady_mean_threads: dict[str, float] = {}  # the slower mean
    waiting_jobs: dict[str, int] = {}  # of the last reading
    service: ServiceMemory = ServiceMemory()


class Demand(Value, frozen=True, kw_only=True):
    """Threads each queue needs now, and the instances of each profile that makes, before any clamp."""

    need_threads: dict[str, float]
    profile_threads: dict[str, float]  # with what overflows into it from others
    steady_threads: dict[str, float] = {}  # the same by the slower mean
    needed_instances: dict[str, int]
    unread_queues: frozenset[str] = frozenset()  # keys that could not be understood this time
    late_queues: frozenset[str] = frozenset()  # whose oldest job has waited longer than its target
    complete: bool = True  # False: a process's heartbeat could not be understood, so its work is unknown


def remember(
    policy: Policy,
    memory: DemandMemory,
    sidekiq: SidekiqFacts,
    now_seconds: float,
    mute_queues: frozenset[str] = frozenset(),
) -> DemandMemory:
    """Fold one reading into the means. The same reading twice at one time changes nothing.

    `mute_queues`: those that instances without a heartbeat serve; their threads may be busy, so no mean goes down.
    Nor does any while a heartbeat can't be understood.
    """
    elapsed = now_seconds - memory.at_seconds if memory.at_seconds is not None else -1.0
    watched = frozenset(
        queue for profile in policy.profiles for queue, _ in profile.queues
    )  # bounded (law 7)
    kept = watched if not sidekiq.processes_complete else mute_queues
    loads = {
        name: _offered(memory, queue, elapsed) for name, queue in sidekiq.queues.items() if name in watched
    }

    def means(before: dict[str, float], constant_seconds: float) -> dict[str, float]:
        keep = math.exp(-elapsed / constant_seconds) if elapsed >= 0.0 else 0.0
        found = {}
        for name in watched:
            queue, start = sidekiq.queues.get(name), before.get(name)
            if queue is None:
                if start is not None:
                    found[name] = start
                continue
            busy = loads[name]
            mean = busy if start is None else start * keep + busy * (1.0 - keep)
            found[name] = max(mean, start) if start is not None and name in kept else mean
        return found

    return DemandMemory(
        at_seconds=now_seconds,
        busy_mean_threads=means(memory.busy_mean_threads, BUSY_MEAN_SECONDS),
        steady_mean_threads=means(memory.steady_mean_threads, STEADY_MEAN_SECONDS),
        waiting_jobs={name: q.length_jobs for name, q in sidekiq.queues.items() if name in watched},
        service=remember_service(memory.service, sidekiq, watched, now_seconds),
    )


def _offered(memory: DemandMemory, queue: QueueFacts, elapsed_seconds: float) -> float:
    """Threads that what comes in now would keep busy: busy ones, and what the backlog grows or shrinks by.

    A jump is no rate: growth counts up to what is busy, or was usual where an earlier queue takes all threads.
    """
    busy, before = float(queue.busy_threads), memory.waiting_jobs.get(queue.name)
    if before is None or elapsed_seconds <= 0.0:
        return busy
    grown = (queue.length_jobs - before) * memory.service.service_seconds(queue.name) / elapsed_seconds
    usual = memory.busy_mean_threads.get(queue.name, 0.0)
    return busy + min(max(busy, usual), max(-busy, grown))


def demand(
    policy: Policy,
    sidekiq: SidekiqFacts,
    memory: DemandMemory,
    instances: tuple[InstanceView, ...] | None = None,
    boot_seconds: dict[str, float] | None = None,
) -> Demand:
    """Threads and instances needed now; `memory` has already seen this reading.

    `instances` None: what runs is unknown, and no credit is given for it. `boot_seconds`: learnt, by profile.
    """
    queues = dict.fromkeys(queue for profile in policy.profiles for queue, _ in profile.queues)
    backlog = {queue: _backlog_threads(policy, queue, sidekiq.queues.get(queue), memory) for queue in queues}
    need = {queue: memory.busy_mean_threads.get(queue, 0.0) + more for queue, more in backlog.items()}
    steady = {queue: memory.steady_mean_threads.get(queue, 0.0) + more for queue, more in backlog.items()}
    if instances is None:
        threads = _profile_threads(policy, sidekiq, need)
    else:
        catching = _catching_up(policy, sidekiq, memory, instances, boot_seconds or {})
        load = {queue: memory.busy_mean_threads.get(queue, 0.0) for queue in queues}
        threads = _profile_threads(policy, sidekiq, load, catching)
    return Demand(
        need_threads=need,
        profile_threads=threads,
        steady_threads=_profile_threads(policy, sidekiq, steady),
        needed_instances={
            p.name: math.ceil(threads[p.name] / (p.threads * policy.pace.utilisation) - 1e-9)
            for p in policy.profiles
        },
        unread_queues=frozenset(queue for queue in need if queue not in sidekiq.queues),
        late_queues=frozenset(
            queue
            for queue in need
            if queue in sidekiq.queues
            and sidekiq.queues[queue].latency_seconds > policy.target_seconds(queue)
        ),
        complete=sidekiq.processes_complete,
    )


def _catching_up(
    policy: Policy,
    sidekiq: SidekiqFacts,
    memory: DemandMemory,
    instances: tuple[InstanceView, ...],
    boot_seconds: dict[str, float],
) -> dict[str, float]:
    """Threads with which each profile catches up in time with the queues it is there for."""
    found = {}
    for profile in policy.profiles:
        capacity = capacity_of(profile, instances, boot_seconds)
        found[profile.name] = threads_in_time(profile, at_home(policy, profile, sidekiq, memory), capacity)
    return found


def at_home(policy: Policy, profile: Profile, sidekiq: SidekiqFacts, memory: DemandMemory) -> list[Waiting]:
    """What waits in the queues that this profile is there for."""
    return [
        _waiting(policy, name, sidekiq.queues.get(name), memory)
        for name, _ in profile.queues
        if home(policy, name).name == profile.name
    ]


def _waiting(policy: Policy, name: str, facts: QueueFacts | None, memory: DemandMemory) -> Waiting:
    target, service = policy.target_seconds(name), memory.service.service_seconds(name)
    age, jobs = (facts.latency_seconds, facts.length_jobs) if facts is not None else (0.0, 0)
    # What is late all the same has shown that its jobs take longer than was thought.
    doubt = min(DOUBT_MAX, max(1.0, age / target))
    return Waiting(
        queue=name,
        load_threads=memory.busy_mean_threads.get(name, 0.0),
        work_seconds=jobs * memory.service.careful_seconds(name) * doubt,
        left_seconds=target - age,
        service_seconds=service,
        jobs=jobs,
    )


def _backlog_threads(policy: Policy, queue: str, facts: QueueFacts | None, memory: DemandMemory) -> float:
    """Threads that clear what waits before it is late."""
    if facts is None:
        return 0.0
    target, age = policy.target_seconds(queue), facts.latency_seconds
    catch_up = max(CATCH_UP_SECONDS, target - BOOT_SECONDS - age)
    # What is late all the same has shown that its jobs take longer than was thought.
    doubt = min(DOUBT_MAX, max(1.0, age / target))
    return facts.length_jobs * memory.service.service_seconds(queue) * doubt / catch_up


def _profile_threads(
    policy: Policy, sidekiq: SidekiqFacts, need: dict[str, float], catching: dict[str, float] | None = None
) -> dict[str, float]:
    """Threads for each profile: what home can't carry goes where it can be carried.

    First to what the minima of others leave idle, which fetches there anyway; the rest makes home grow, and beyond its
    maximum others.
    """
    threads = dict.fromkeys((p.name for p in policy.profiles), 0.0)
    for queue, need_threads in need.items():
        threads[home(policy, queue).name] += need_threads
    for name, in_time in (catching or {}).items():  # a backlog keeps every thread busy
        threads[name] = max(threads[name], in_time * policy.pace.utilisation)
    _leave_to_foreign_processes(policy, sidekiq, threads)
    full = {p.name: p.threads * policy.pace.utilisation for p in policy.profiles}
    overflows = overflows_of(policy.profiles)
    for limit in ("min_instances", "max_instances") if overflows else ():
        carries = {p.name: getattr(p, limit) * full[p.name] for p in policy.profiles}
        excess = {name: max(0.0, threads[name] - carries[name]) for name in threads}
        for name, other in overflows:
            moved = min(excess[name], threads[name], max(0.0, carries[other] - threads[other]))
            if limit == "min_instances":  # beyond the maximum, what is wanted is still said
                threads[name] -= moved
            threads[other] += moved
            excess[name] -= moved
    return threads


@lru_cache(maxsize=16)
def overflows_of(profiles: tuple[Profile, ...]) -> tuple[tuple[str, str], ...]:
    """(profile, another that serves a queue whose home is the first), by importance."""
    queues = dict.fromkeys(queue for profile in profiles for queue, _ in profile.queues)
    return tuple(
        (profile.name, other.name)
        for profile in profiles
        for other in profiles
        if other is not profile
        and any(_home(profiles, q).name == profile.name and other.serves(q) for q in queues)
    )


def home(policy: Policy, queue: str) -> Profile:
    """The profile that is there for this queue: where fewest others come before it.

    In a strict order those are the earlier ones, among weights the heavier ones.
    """
    return _home(policy.profiles, queue)


@lru_cache(maxsize=1024)  # every tick asks for each queue
def _home(profiles: tuple[Profile, ...], queue: str) -> Profile:
    def before(profile: Profile) -> int:
        names = [name for name, _ in profile.queues]
        if queue not in names:
            return sum(len(p.queues) for p in profiles)
        if profile.order == "strict":
            return names.index(queue)
        own = dict(profile.queues)[queue]
        return sum(1 for _, weight in profile.queues if weight > own)

    return min(profiles, key=before)  # the first of equals: the more important


def _leave_to_foreign_processes(policy: Policy, sidekiq: SidekiqFacts, threads: dict[str, float]) -> None:
    """Processes fleetd did not render (a stock unit elsewhere) serve too: their threads need not be ours."""
    for process in sidekiq.processes:
        if parse_tag(process.tag) is not None or process.quiet or process.queues == {SCHEDULER_QUEUE}:
            continue
        spare = process.threads * policy.pace.utilisation
        for profile in policy.profiles:
            if any(profile.serves(queue) for queue in process.queues):
                taken = min(spare, threads[profile.name])
                threads[profile.name] -= taken
                spare -= taken
