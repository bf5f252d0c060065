"""Queues that nobody serves: jobs wait, no live process has the queue, and no profile of this host would bring one.

A fork's own queue, or one that a new version of Mastodon brought (`ingress`, `fasp`). Said only after a while, because
a stock unit that restarts serves nothing either while Rails boots. Law 3: while some heartbeat can't be read, its
process may serve any queue, so nothing is counted and nothing is said.
"""

from __future__ import annotations

from fleetd.core.model.facts import SidekiqFacts, Value
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.core.model.reasons.counts import QueuesUnserved, UnservedQueue

#: Rails boots in less, and the heartbeat of a process that ended is gone.
UNSERVED_SECONDS = 120.0


class UnservedMemory(Value, frozen=True, kw_only=True):
    """For how long jobs have waited in each queue that nobody serves, counted in complete readings only."""

    at_seconds: float | None = None  # CLOCK_BOOTTIME of the last complete reading
    waited_seconds: dict[str, float] = {}


def remember_unserved(
    policy: Policy, memory: UnservedMemory, sidekiq: SidekiqFacts, now_seconds: float
) -> UnservedMemory:
    """Fold in one reading. A queue that is empty or served is forgotten, so the memory is as small as a reading."""
    if not sidekiq.processes_complete:
        return memory
    served = _configured(policy).union(*(p.queues for p in sidekiq.processes if not p.quiet))
    elapsed = policy.pace.punctual(memory.at_seconds, now_seconds) or 0.0
    before = memory.waited_seconds
    return UnservedMemory(
        at_seconds=now_seconds,
        waited_seconds={
            name: before[name] + elapsed if name in before else 0.0
            for name, queue in sidekiq.queues.items()
            if queue.length_jobs > 0 and name not in served
        },
    )


def _configured(policy: Policy) -> frozenset[str]:
    """Queues that this host's units serve. The scheduler's own is spoken of where the scheduler is decided."""
    ours = {queue for profile in policy.profiles if profile.max_instances for queue, _ in profile.queues}
    if policy.scheduler.place != "elsewhere":
        ours.update(policy.scheduler.queues)
    return frozenset(ours | {SCHEDULER_QUEUE})


def unserved(memory: UnservedMemory, sidekiq: SidekiqFacts) -> QueuesUnserved | None:
    """The queues that nobody has served for a while; None: there are none, or it is unknown."""
    if not sidekiq.processes_complete:
        return None
    names = [name for name, seconds in memory.waited_seconds.items() if seconds >= UNSERVED_SECONDS]
    found = [UnservedQueue(queue=name, length_jobs=sidekiq.queues[name].length_jobs) for name in names]
    found.sort(key=lambda one: (-one.length_jobs, one.queue))
    return QueuesUnserved(queues=tuple(found)) if found else None
