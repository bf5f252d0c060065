"""Instances of the simulated host: what systemd has, and what Sidekiq's heartbeats say."""

from __future__ import annotations

import math
import random
from collections import Counter, deque

from fleetd.core.model.facts import YOUNG_SECONDS
from fleetd.core.model.policy import Profile

RESTART_SECONDS = 5
#: From the stop of an idle process until it is gone.
EXIT_SECONDS = 1
#: Sidekiq's -t.
SHUTDOWN_SECONDS = 25


class Instance:
    """One number: its unit, and its process while present is one."""

    __slots__ = (
        "beat_at",
        "beat_busy",
        "beat_quiet",
        "beat_young",
        "began_at",
        "exit_at",
        "held",
        "invocation",
        "number",
        "opened",
        "pid",
        "profile",
        "quiet",
        "ready_at",
        "restart_at",
        "since",
        "singles",
        "state",
        "threads",
    )

    def __init__(self, number: int, profile: Profile) -> None:
        self.number = number
        self.profile = profile
        self.threads = profile.threads
        self.state = "inactive"  # as systemd says: inactive activating active deactivating
        self.since = 0
        self.began_at = 0
        self.ready_at = 0.0
        self.restart_at = -1
        self.exit_at = -1
        self.invocation = 0
        self.pid = 0
        self.quiet = False
        self.held = 0  # threads that are busy with single jobs
        self.singles: dict[
            int, tuple[str, int]
        ] = {}  # running single jobs: id to queue and second of the fetch
        self.opened = 0
        self.beat_at = -1
        self.beat_quiet = False
        self.beat_busy: Counter[str] = Counter()
        self.beat_young: Counter[str] = Counter()  # of those, with a job that began lately

    @property
    def fetches(self) -> bool:
        return self.state == "active" and not self.quiet

    @property
    def present(self) -> bool:
        return self.state != "inactive"

    def beat(self, now: int, fluid: dict[str, float], hanging: bool, chance: random.Random) -> None:
        """Tell what is at work; `fluid`: mean threads by queue. What hangs is not young any more."""
        self.beat_at, self.beat_quiet = now, self.quiet
        busy = Counter(name for name, _ in self.singles.values())
        young = Counter(name for name, began_at in self.singles.values() if now - began_at < YOUNG_SECONDS)
        if self.fetches:
            room = self.threads - self.held
            for name, mean in fluid.items():
                here = self.drawn(mean, room, chance)
                if here:
                    busy[name] += here
                    young[name] += 0 if hanging else here
                    room -= here
        self.beat_busy, self.beat_young = busy, young

    def drawn(self, mean_threads: float, room_threads: int, chance: random.Random) -> int:
        """Threads at work at one moment: scattered where threads are idle, nearly all of them where none is."""
        free = self.threads - self.held
        if free <= 0 or room_threads <= 0:
            return 0
        share = min(1.0, mean_threads / free)
        spread = math.sqrt(mean_threads * (1.0 - share))
        return min(room_threads, max(0, round(chance.gauss(mean_threads, spread))))

    def become(self, state: str, now: int) -> None:
        if state != self.state:
            self.state = state
            self.since = now


class Group:
    """All instances of one profile: they serve the same queues in the same order.

    What `look_again` finds is kept, because each second asks for it and it changes a few times an hour.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.instances = [Instance(number, profile) for number in profile.numbers]
        self.present: list[Instance] = []
        self.fetching: list[Instance] = []
        self.counted = 0  # instances that are capacity, now or soon
        self.claims_connections = 0
        self.fluid_busy: dict[str, float] = {}  # mean busy threads of each fluid queue in the last second
        self.busy_threads = 0.0  # their sum
        self.served = 0.0  # jobs done since the last heartbeat that flushed them
        self.hung = 0  # fetched while Postgres is away, not done yet
        self.turn = 0
        self.spare: deque[tuple[float, Instance]] = deque()  # threads left within the last second, and when
        self.order = [queue for queue, _ in profile.queues]
        self.weights = dict(profile.queues)

    def look_again(self) -> None:
        """After any change of an instance's state or of its quiet."""
        self.present = [i for i in self.instances if i.present]
        self.fetching = [i for i in self.present if i.fetches]
        self.counted = sum(1 for i in self.present if not i.quiet)
        self.claims_connections = len(self.present) * self.profile.claim_connections

    def open_connections(self) -> None:
        """After a second's work: connections are opened lazily and kept."""
        if not self.fetching:
            return
        self.busy_threads = sum(self.fluid_busy.values())
        fluid = math.ceil(self.busy_threads / len(self.fetching))
        for instance in self.fetching:
            if instance.held + fluid > instance.opened:
                instance.opened = min(instance.threads, instance.held + fluid)

    def rest(self) -> None:
        """Nothing is served in this second."""
        self.fluid_busy, self.busy_threads = {}, 0.0
