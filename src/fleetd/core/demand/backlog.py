"""Catching up: how many threads clear what waits in time, given what is at work and what still boots.

A new instance helps only once it has booted. So each queue's work is held against what the threads there are, and those
that are coming, do until its oldest job would be late; only what is left over asks for more, and those have that time
less a boot. Without this a backlog whose instances still boot looks more urgent each second, and starts far too many.

A strict order gives to later queues what earlier ones leave; among weights a queue has its share of the fetches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Profile

#: What a new instance takes until it helps, until that was learnt.
INSTANCE_BOOT_SECONDS = 20.0
#: What can't be in time any more is planned to be gone this soon after a boot; sooner, and every ripple would start an
#: instance. Where it is more than the threads there are do in half a minute, each second makes many more late: then
#: sooner in proportion.
CATCH_UP_SECONDS, CATCH_UP_SECONDS_MIN = 10.0, 3.0
LARGE_SECONDS = 30.0
#: One that takes longer to boot than was learnt is expected this soon.
OVERDUE_SECONDS = 5.0


class Capacity(Value, frozen=True, kw_only=True):
    """The threads of one profile: at work, and coming with the seconds until they are."""

    serving_threads: float
    coming: tuple[tuple[float, float], ...] = ()
    boot_seconds: float = INSTANCE_BOOT_SECONDS

    @property
    def threads(self) -> float:
        return self.serving_threads + sum(threads for threads, _ in self.coming)

    def does(self, seconds: float) -> float:
        """Thread-seconds that it does from now on in so many seconds."""
        coming = sum(threads * max(0.0, seconds - ready) for threads, ready in self.coming)
        return self.serving_threads * seconds + coming


class Waiting(Value, frozen=True, kw_only=True):
    """One queue: what comes in, what waits, and for how long it may."""

    queue: str
    load_threads: float
    work_seconds: float  # thread-seconds that wait
    left_seconds: float  # until the oldest job is late
    service_seconds: float
    jobs: float = math.inf  # that wait: more threads than these serve nobody
    doubt: float = 1.0  # by which lateness multiplied the work


def capacity_of(profile: Profile, instances: tuple[InstanceView, ...], boot_seconds: dict[str, float]) -> Capacity:
    """What runs of a profile."""
    boot = boot_seconds.get(profile.name, INSTANCE_BOOT_SECONDS)
    ours = [v for v in instances if v.profile == profile.name and v.is_capacity]
    return Capacity(
        serving_threads=float(sum(v.threads for v in ours if v.serves)),
        coming=tuple(
            (float(v.threads), max(OVERDUE_SECONDS, boot - v.state_age_seconds)) for v in ours if not v.serves
        ),
        boot_seconds=boot,
    )


def threads_in_time(profile: Profile, queues: list[Waiting], capacity: Capacity) -> float:
    """Threads with which each of these queues is caught up in time; 0.0: those there are do it."""
    return max((threads for threads, _, _, _ in _asked(profile, queues, capacity)), default=0.0)


def hardest(profile: Profile, queues: list[Waiting], capacity: Capacity) -> tuple[float, Waiting, float] | None:
    """The queue that asks for most threads, with these, and how many seconds those there are would take.

    Infinite: for ever. None: they do it in time.
    """
    asked = max(_asked(profile, queues, capacity), key=lambda one: one[0], default=None)
    if asked is None:
        return None
    threads, first, share, held = asked
    boots = sum(coming * ready for coming, ready in capacity.coming)
    pace = share * (capacity.threads - held) - sum(w.load_threads for w in first)
    work = sum(w.work_seconds for w in first) + share * boots
    return threads, first[-1], work / pace if pace > 0.0 else math.inf


def _asked(
    profile: Profile, queues: list[Waiting], capacity: Capacity
) -> Iterator[tuple[float, list[Waiting], float, float]]:
    """Threads for a queue that is not done in time; it with those before it; their share; threads that others hold."""
    weights = dict(profile.queues)
    ordered = sorted(queues, key=lambda w: w.left_seconds) if profile.order == "weighted" else queues
    for place, waiting in enumerate(ordered):
        if not waiting.work_seconds:
            continue
        seconds = max(waiting.left_seconds, capacity.boot_seconds + CATCH_UP_SECONDS)
        first, later = ordered[: place + 1], ordered[place + 1 :]
        if profile.order == "weighted":
            fetched = sum(weights[w.queue] * w.service_seconds for w in first)
            rivals = sum(weights[w.queue] * w.service_seconds for w in later if w.work_seconds)
            share = fetched / (fetched + rivals)
        else:
            share = 1.0
        # Long jobs of the others keep their threads; short ones give them back at once.
        held = sum(w.load_threads * min(1.0, w.service_seconds / seconds) for w in later)
        work = sum(w.work_seconds + w.load_threads * seconds for w in first)
        left_over = work - share * max(0.0, capacity.does(seconds) - held * seconds)
        if left_over > 0.0:
            helps_seconds = seconds - capacity.boot_seconds
            if waiting.left_seconds < seconds:
                worth = left_over / max(1.0, capacity.threads)
                helps_seconds *= max(CATCH_UP_SECONDS_MIN / CATCH_UP_SECONDS, min(1.0, LARGE_SECONDS / worth))
            useful = sum(w.load_threads for w in ordered) + sum(w.jobs for w in first)
            yield min(useful, capacity.threads + left_over / (share * helps_seconds)), first, share, held
