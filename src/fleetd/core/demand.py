"""Demand: from waiting jobs to threads, and from threads to instances of each profile.

Offered load (Little's law, Operations Research 9(3), 1961): the mean number of busy threads on a queue that is
not backed up *is* the number it needs. A backlog adds what clears it before it is late: jobs × service time / the time
that is left (the one-step answer of DS2, Kalavri et al., OSDI 2018). Threads become instances at a planned utilisation.

Law 3: a queue whose reading is unknown keeps the load it was last known to have; it is never read as idle.
"""

from __future__ import annotations

import math
from functools import lru_cache

from fleetd.core.facts import QueueFacts, SidekiqFacts, Value
from fleetd.core.identity import parse_tag
from fleetd.core.policy import SCHEDULER_QUEUE, Policy, Profile
from fleetd.core.service_time import ServiceMemory, remember_service

#: Time constant of the mean of busy threads; heartbeats are 5 to 10 s old, so several are averaged.
BUSY_MEAN_SECONDS = 20.0
#: The shortest time in which a backlog is planned to be gone; below it every ripple would start an instance.
CATCH_UP_SECONDS_MIN = 10.0
#: The most by which lateness multiplies what a backlog needs.
DOUBT_MAX = 4.0
#: What a new instance takes until it helps; a backlog's time is less by that.
BOOT_SECONDS = 20.0


class DemandMemory(Value, frozen=True, kw_only=True):
    """What demand remembers between ticks."""

    at_seconds: float | None = None  # of the last known reading
    busy_mean_threads: dict[str, float] = {}
    service: ServiceMemory = ServiceMemory()


class Demand(Value, frozen=True, kw_only=True):
    """Threads each queue needs now, and the instances of each profile that makes, before any clamp."""

    need_threads: dict[str, float]
    profile_threads: dict[str, float]  # with what overflows into it from others
    raw_instances: dict[str, int]
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
    keep = math.exp(-elapsed / BUSY_MEAN_SECONDS) if elapsed >= 0.0 else 0.0
    means: dict[str, float] = {}
    watched = frozenset(
        queue for profile in policy.profiles for queue, _ in profile.queues
    )  # bounded (law 7)
    for name in watched:
        queue, before = sidekiq.queues.get(name), memory.busy_mean_threads.get(name)
        if queue is not None:
            start = before if before is not None else float(queue.busy_threads)
            mean = start * keep + queue.busy_threads * (1.0 - keep)
            means[name] = max(mean, start) if name in mute_queues or not sidekiq.processes_complete else mean
        elif before is not None:
            means[name] = before
    return DemandMemory(
        at_seconds=now_seconds,
        busy_mean_threads=means,
        service=remember_service(memory.service, sidekiq, watched, now_seconds),
    )


def demand(policy: Policy, sidekiq: SidekiqFacts, memory: DemandMemory) -> Demand:
    """Threads and instances needed now; `memory` has already seen this reading."""
    queues = dict.fromkeys(queue for profile in policy.profiles for queue, _ in profile.queues)
    need = {queue: _need_threads(policy, queue, sidekiq.queues.get(queue), memory) for queue in queues}
    threads = _share_out(policy, need)
    _leave_to_foreign_processes(policy, sidekiq, threads)
    raw, threads = _overflow(policy, threads)
    return Demand(
        need_threads=need,
        profile_threads=threads,
        raw_instances=raw,
        unread_queues=frozenset(queue for queue in need if queue not in sidekiq.queues),
        late_queues=frozenset(
            queue
            for queue in need
            if queue in sidekiq.queues
            and sidekiq.queues[queue].oldest_age_seconds > policy.target_seconds(queue)
        ),
        complete=sidekiq.processes_complete,
    )


def _need_threads(policy: Policy, queue: str, facts: QueueFacts | None, memory: DemandMemory) -> float:
    load = memory.busy_mean_threads.get(queue, 0.0)
    if facts is None:
        return load
    target, age = policy.target_seconds(queue), facts.oldest_age_seconds
    catch_up = max(CATCH_UP_SECONDS_MIN, target - BOOT_SECONDS - age)
    # What is late all the same has shown that its jobs take longer than was thought.
    doubt = min(DOUBT_MAX, max(1.0, age / target))
    return load + facts.length_jobs * memory.service.service_seconds(queue) * doubt / catch_up


def home(policy: Policy, queue: str) -> Profile:
    """The profile whose instances serve this queue best: earliest in a strict order, largest share of weights."""
    return _home(policy.profiles, queue)


@lru_cache(maxsize=1024)  # every tick asks for each queue
def _home(profiles: tuple[Profile, ...], queue: str) -> Profile:
    def share(profile: Profile) -> float:
        for place, (name, weight) in enumerate(profile.queues):
            if name == queue:
                strict = profile.order == "strict"
                return 1.0 / (1 + place) if strict else weight / sum(each for _, each in profile.queues)
        return 0.0

    return max(profiles, key=share)  # the first of equals: the more important


def _share_out(policy: Policy, need: dict[str, float]) -> dict[str, float]:
    threads = dict.fromkeys((p.name for p in policy.profiles), 0.0)
    for queue, need_threads in need.items():
        threads[home(policy, queue).name] += need_threads
    return threads


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


def _overflow(policy: Policy, threads: dict[str, float]) -> tuple[dict[str, int], dict[str, float]]:
    """Instances and threads per profile; what one's maximum can't carry goes to others that serve its queues.

    The most important first, and to none more than it can carry itself.
    """
    per_instance = {p.name: p.threads * policy.pace.utilisation for p in policy.profiles}
    carries = {p.name: p.max_instances * per_instance[p.name] for p in policy.profiles}
    carried = dict(threads)
    for profile in policy.profiles:
        excess = threads[profile.name] - carries[profile.name]
        for other in policy.profiles:
            if excess <= 0.0:
                break
            if other is not profile and any(other.serves(queue) for queue, _ in profile.queues):
                taken = min(excess, max(0.0, carries[other.name] - carried[other.name]))
                carried[other.name] += taken
                excess -= taken
    raw = {name: math.ceil(n / per_instance[name] - 1e-9) for name, n in carried.items()}
    return raw, carried
