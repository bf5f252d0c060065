"""Catching up: how many threads clear a backlog in time, given the threads at work and those that still boot.

A new instance helps only once it has booted. So the work of each queue is compared with what serving and booting
threads get done until its oldest job would be late. Only work that is left over asks for more threads, and those have
that time less a boot. Without this, a backlog whose instances still boot would look more urgent each second, and far
too many instances would be started.

In a strict order, later queues get what earlier ones leave. In a weighted order, each queue gets its share of fetches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Profile

#: How long an instance boots, until that was learnt.
INSTANCE_BOOT_SECONDS = 20.0
#: A backlog that can't be cleared in time is to be cleared this soon after a boot. If that were shorter, every ripple
#: would start an instance. A backlog larger than what the present threads do in LARGE_SECONDS makes many more jobs late
#: each second, so it is to be cleared sooner in proportion, down to the second figure.
CATCH_UP_SECONDS, CATCH_UP_SECONDS_MIN = 10.0, 3.0
LARGE_SECONDS = 30.0
#: An instance that already boots for longer than was learnt is expected after this time.
OVERDUE_SECONDS = 5.0


class Capacity(Value, frozen=True, kw_only=True):
    """The threads of one profile."""

    serving_threads: float
    coming: tuple[tuple[float, float], ...] = ()  # (threads of a booting instance, seconds until they serve)
    boot_seconds: float = INSTANCE_BOOT_SECONDS

    @property
    def threads(self) -> float:
        return self.serving_threads + sum(threads for threads, _ in self.coming)

    def does(self, seconds: float) -> float:
        """Thread-seconds of work that it gets done in the next `seconds`."""
        coming = sum(threads * max(0.0, seconds - ready) for threads, ready in self.coming)
        return self.serving_threads * seconds + coming


class Waiting(Value, frozen=True, kw_only=True):
    """One queue: its load, its backlog, and how long that may still wait."""

    queue: str
    load_threads: float
    work_seconds: float  # the backlog that is to be cleared in time, in thread-seconds
    left_seconds: float  # until the oldest job is late; infinite: never, and no work counts
    service_seconds: float
    jobs: float = math.inf  # waiting jobs; more threads than these would have nothing to do
    doubt: float = 1.0  # the factor by which lateness raised the work

    @property
    def is_fetched(self) -> bool:
        """Whether jobs wait in it, so that a weighted order fetches it in its turn."""
        return self.work_seconds > 0.0 or (math.isinf(self.left_seconds) and self.jobs > 0)


def capacity_of(profile: Profile, instances: tuple[InstanceView, ...], boot_seconds: dict[str, float]) -> Capacity:
    """The serving and booting threads of a profile."""
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
    """Threads that clear each of these queues in time; 0.0: the present ones suffice."""
    return max((threads for threads, _, _, _ in _asked(profile, queues, capacity)), default=0.0)


def hardest(profile: Profile, queues: list[Waiting], capacity: Capacity) -> tuple[float, Waiting, float] | None:
    """The queue that asks for the most threads: these threads, the queue, and the seconds that present threads take.

    Infinite seconds: they never catch up. None: the present threads clear every queue in time.
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
    """For each queue not cleared in time: threads needed; it and those before it; their share; what the others hold."""
    weights = dict(profile.queues)
    ordered = sorted(queues, key=lambda w: w.left_seconds) if profile.order == "weighted" else queues
    for place, waiting in enumerate(ordered):
        if not waiting.work_seconds:
            continue
        seconds = max(waiting.left_seconds, capacity.boot_seconds + CATCH_UP_SECONDS)
        first, later = ordered[: place + 1], ordered[place + 1 :]
        if profile.order == "weighted":
            fetched = sum(weights[w.queue] * w.service_seconds for w in first)
            rivals = sum(weights[w.queue] * w.service_seconds for w in later if w.is_fetched)
            share = fetched / (fetched + rivals)
        else:
            share = 1.0
        # Long jobs of the other queues keep their threads; short ones free them at once.
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
