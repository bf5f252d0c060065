"""Needed: from waiting jobs to threads, and from threads to instances of each profile.

The offered load of a queue without a backlog is its mean number of busy threads (Little's law, Operations Research
9(3), 1961). While a backlog shrinks, the load is lower than that by what is worked off beyond what comes in. A backlog
adds the threads that clear it before it is late (backlog.py; similar to the one-step answer of DS2, Kalavri et al.,
OSDI 2018). Threads become instances at a planned utilisation.

A queue that may wait for ever (target "none") counts with the threads that its incoming jobs keep busy. What waits in
it, and that more comes than is done, count for nothing.

Law 3: a queue that can't be read keeps its last known load; it never counts as idle.
"""

from __future__ import annotations

import math
from functools import lru_cache

from msgspec import structs

from fleetd.core.demand.backlog import CATCH_UP_SECONDS, INSTANCE_BOOT_SECONDS, Waiting, capacity_of, threads_in_time
from fleetd.core.demand.service_time import ServiceMemory, remember_service
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import QueueFacts, SidekiqFacts, Value
from fleetd.core.model.heartbeats import is_foreign
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy, Profile

#: Time constant of the mean load. Heartbeats are 5 to 10 s old, so several are averaged.
BUSY_MEAN_SECONDS = 20.0
#: Time constant of the slower mean, by which a profile shrinks. The faster one scatters by the square root of the load,
#: so its peaks would keep an instance that is never needed.
STEADY_MEAN_SECONDS = 120.0
#: The largest factor by which lateness raises the work of a backlog.
DOUBT_MAX = 4.0


class DemandMemory(Value, frozen=True, kw_only=True):
    """What demand remembers between ticks."""

    at_seconds: float | None = None  # of the last known reading
    busy_mean_threads: dict[str, float] = {}  # offered load: busy threads, corrected by the change of the backlog
    steady_mean_threads: dict[str, float] = {}  # the slower mean
    waiting_jobs: dict[str, int] = {}  # of the last reading
    service: ServiceMemory = ServiceMemory()


class Needed(Value, frozen=True, kw_only=True):
    """Threads that each queue needs now, and the instances of each profile for them, before any clamp."""

    queue_threads: dict[str, float]
    profile_threads: dict[str, float]  # with overflow from other profiles
    steady_threads: dict[str, float] = {}  # the same by the slower mean
    instances: dict[str, int]
    waiting: dict[str, Waiting] = {}  # what waits in each queue
    unread_queues: frozenset[str] = frozenset()  # of which something could not be read this time
    late_queues: frozenset[str] = frozenset()  # whose oldest job has waited longer than its target
    complete: bool = True  # False: a process's heartbeat could not be understood, so its work is unknown


def remember(
    policy: Policy,
    memory: DemandMemory,
    sidekiq: SidekiqFacts,
    now_seconds: float,
    silent_queues: frozenset[str] = frozenset(),
) -> DemandMemory:
    """Fold one reading into the means. Folding it in a second time at the same moment changes nothing.

    `silent_queues`: queues served by instances without a heartbeat. Those threads may be busy, so the means of these
    queues don't fall. While a heartbeat can't be understood, no mean falls.
    """
    elapsed = now_seconds - memory.at_seconds if memory.at_seconds is not None else -1.0
    watched = frozenset(queue for profile in policy.profiles for queue, _ in profile.queues)  # bounded (law 7)
    kept = watched if not sidekiq.processes_complete else silent_queues
    loads = {
        name: _offered(memory, queue, elapsed, waits_for_ever=math.isinf(policy.target_seconds(name)))
        for name, queue in sidekiq.queues.items()
        if name in watched
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
            if busy is None:  # the threads at work are unknown, so they are taken to be as many as before
                if start is not None:
                    found[name] = start
                continue
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


def of_read_queues(memory: DemandMemory, sidekiq: SidekiqFacts) -> DemandMemory:
    """Without the loads of queues whose threads at work are unknown.

    For a host that follows, which may not learn them for days: what they were once must not count on the day it decides
    again.
    """
    read = {name for name, queue in sidekiq.queues.items() if queue.busy_threads is not None}
    busy, steady = (
        {name: threads for name, threads in means.items() if name in read}
        for means in (memory.busy_mean_threads, memory.steady_mean_threads)
    )
    return structs.replace(memory, busy_mean_threads=busy, steady_mean_threads=steady)


def _offered(memory: DemandMemory, queue: QueueFacts, elapsed_seconds: float, *, waits_for_ever: bool) -> float | None:
    """Threads that incoming jobs would keep busy: the busy threads, plus or minus the change of the backlog.

    None: the busy threads are unknown.

    A jump of the backlog is no rate. So its growth counts at most as much as the busy threads, or as the usual load
    where an earlier queue takes all threads; of a queue that may wait for ever not at all.
    """
    if queue.busy_threads is None:
        return None
    busy, before = float(queue.busy_threads), memory.waiting_jobs.get(queue.name)
    if before is None or elapsed_seconds <= 0.0:
        return busy
    grown = (queue.length_jobs - before) * memory.service.service_seconds(queue.name) / elapsed_seconds
    usual = memory.busy_mean_threads.get(queue.name, 0.0)
    return busy + min(0.0 if waits_for_ever else max(busy, usual), max(-busy, grown))


def needed_instances(tick: HostTick, sidekiq: SidekiqFacts, memory: DemandMemory) -> Needed:
    """Threads and instances needed now. `memory` must already include this reading.

    While systemd is unknown it is unknown what runs, so nothing that runs is counted against the backlog.
    """
    policy = tick.policy
    waiting = {
        queue: _waiting(policy, queue, sidekiq.queues.get(queue), memory)
        for profile in policy.profiles
        for queue, _ in profile.queues
    }
    backlog = {queue: _backlog_threads(w) for queue, w in waiting.items()}
    queue_threads = {queue: w.load_threads + backlog[queue] for queue, w in waiting.items()}
    steady = {q: _planned(policy, q, memory.steady_mean_threads.get(q, 0.0)) + more for q, more in backlog.items()}
    if tick.instances is None:
        threads = _profile_threads(policy, sidekiq, queue_threads)
    else:
        boots = tick.constraints.boot_seconds
        catching = {
            p.name: threads_in_time(p, at_home(policy, p, waiting), capacity_of(p, tick.active, boots))
            for p in policy.profiles
        }
        load = {queue: _planned(policy, queue, w.load_threads) for queue, w in waiting.items()}
        threads = _profile_threads(policy, sidekiq, load, catching)
    return Needed(
        queue_threads=queue_threads,
        profile_threads=threads,
        steady_threads=_profile_threads(policy, sidekiq, steady),
        instances={
            p.name: math.ceil(threads[p.name] / (p.threads * policy.pace.utilisation) - 1e-9) for p in policy.profiles
        },
        waiting=waiting,
        unread_queues=frozenset(queue for queue in waiting if not _is_read(policy, queue, sidekiq.queues.get(queue))),
        late_queues=frozenset(queue for queue, w in waiting.items() if w.left_seconds < 0.0),
        complete=sidekiq.processes_complete,
    )


def _planned(policy: Policy, queue: str, threads: float) -> float:
    """The load as it is planned for. A queue that may wait for ever needs no spare share of the threads."""
    return threads * policy.pace.utilisation if math.isinf(policy.target_seconds(queue)) else threads


def _is_read(policy: Policy, name: str, queue: QueueFacts | None) -> bool:
    if queue is None or queue.busy_threads is None:
        return False
    return queue.latency_seconds is not None or math.isinf(policy.target_seconds(name))


def at_home(policy: Policy, profile: Profile, waiting: dict[str, Waiting]) -> list[Waiting]:
    """The backlogs of the queues whose home is this profile."""
    return [waiting[name] for name, _ in profile.queues if home(policy, name).name == profile.name]


def _waiting(policy: Policy, name: str, facts: QueueFacts | None, memory: DemandMemory) -> Waiting:
    target = policy.target_seconds(name)
    # Of a queue that can't be read nothing is known to wait; `unread_queues` keeps its profiles from shrinking.
    latency, jobs = (facts.latency_seconds or 0.0, facts.length_jobs) if facts is not None else (0.0, 0)
    doubt = min(DOUBT_MAX, max(1.0, latency / target))  # a late queue means job time was underestimated
    counts = math.isfinite(target)
    return Waiting(
        queue=name,
        load_threads=memory.busy_mean_threads.get(name, 0.0),
        work_seconds=jobs * memory.service.careful_seconds(name) * doubt if counts else 0.0,
        left_seconds=target - latency,
        service_seconds=memory.service.service_seconds(name),
        jobs=jobs,
        doubt=doubt,
    )


def _backlog_threads(waiting: Waiting) -> float:
    """Threads that clear the backlog before it is late, without counting what already runs."""
    catch_up = max(CATCH_UP_SECONDS, waiting.left_seconds - INSTANCE_BOOT_SECONDS)
    return waiting.jobs * waiting.service_seconds * waiting.doubt / catch_up


def _profile_threads(
    policy: Policy, sidekiq: SidekiqFacts, need: dict[str, float], catching: dict[str, float] | None = None
) -> dict[str, float]:
    """Threads for each profile. What a queue's home can't carry goes to other profiles that serve the queue.

    It goes first to threads that idle in the others' `min`, because they fetch it anyway. The rest makes the home grow,
    and beyond its `max` the others.
    """
    threads = dict.fromkeys((p.name for p in policy.profiles), 0.0)
    for queue, need_threads in need.items():
        threads[home(policy, queue).name] += need_threads
    for name, in_time in (catching or {}).items():  # a backlog keeps all threads busy, so it needs no spare share
        threads[name] = max(threads[name], in_time * policy.pace.utilisation)
    _leave_to_foreign_processes(policy, sidekiq, threads)
    full = {p.name: p.threads * policy.pace.utilisation for p in policy.profiles}
    overflows = overflows_of(policy.profiles)
    for limit in ("min_instances", "max_instances") if overflows else ():
        carries = {p.name: getattr(p, limit) * full[p.name] for p in policy.profiles}
        excess = {name: max(0.0, threads[name] - carries[name]) for name in threads}
        for name, other in overflows:
            moved = min(excess[name], threads[name], max(0.0, carries[other] - threads[other]))
            if limit == "min_instances":  # beyond max the whole need of the home stays visible
                threads[name] -= moved
            threads[other] += moved
            excess[name] -= moved
    return threads


@lru_cache(maxsize=16)
def overflows_of(profiles: tuple[Profile, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of a profile and another one that serves a queue whose home is the first, by importance."""
    queues = dict.fromkeys(queue for profile in profiles for queue, _ in profile.queues)
    return tuple(
        (profile.name, other.name)
        for profile in profiles
        for other in profiles
        if other is not profile and any(_home(profiles, q).name == profile.name and other.serves(q) for q in queues)
    )


def home(policy: Policy, queue: str) -> Profile:
    """The home of a queue: the profile in which the fewest other queues come before it.

    In a strict order those are the earlier queues, in a weighted order the heavier ones.
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

    return min(profiles, key=before)  # of equals the first, which is the most important


def _leave_to_foreign_processes(policy: Policy, sidekiq: SidekiqFacts, threads: dict[str, float]) -> None:
    """Subtract the threads of processes that fleetd did not render (a stock unit elsewhere): they serve queues too."""
    for process in sidekiq.processes:
        if not is_foreign(process) or process.quiet or process.stalled or process.queues == {SCHEDULER_QUEUE}:
            continue
        spare = process.threads * policy.pace.utilisation
        for profile in policy.profiles:
            if any(profile.serves(queue) for queue in process.queues):
                taken = min(spare, threads[profile.name])
                threads[profile.name] -= taken
                spare -= taken
