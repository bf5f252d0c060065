"""Queues of the simulated Redis: batches of jobs by the second they arrived in, and how long each job waited.

Fluid queues (mean service time below a second) are served in counts. In discrete ones each job is an event.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter, deque

from fleetd.simulate.trace.trace import ServiceSeconds

#: Jobs that take at least this long on average are discrete: each holds a thread until it ends.
DISCRETE_FROM_SECONDS = 1.0


class SimQueue:
    """One queue with its waits. Times are whole seconds since the start of the trace."""

    def __init__(self, name: str, service: ServiceSeconds, arrivals: array[int], seed: int) -> None:
        self.name = name
        self.mean_seconds = service.mean
        self.sigma = service.sigma
        self.discrete = service.mean >= DISCRETE_FROM_SECONDS
        self.arrivals = arrivals
        self.batches: deque[list[int]] = deque()  # [second, jobs], oldest first
        self.waiting = 0
        self.fresh = 0  # arrived in this second, and not fetched yet
        self.offered = 0  # of both: how many the threads that fetch now may take
        self.waits: Counter[int] = Counter()  # whole seconds waited to jobs
        self.jobs = 0
        self.carry = 0.0  # the fraction of a job that was served
        self._chance = random.Random(f"{seed}/service/{name}")

    def enqueue(self, second: int, jobs: int) -> None:
        if jobs:
            self.batches.append([second, jobs])
            self.waiting += jobs
            self.jobs += jobs

    def push_back(self, second: int, jobs: int) -> None:
        """A stopping process returns jobs to the head of the queue. They were counted when they arrived."""
        self.batches.appendleft([second, jobs])
        self.waiting += jobs

    def take(self, jobs: int, now: int) -> None:
        """Fetch so many: first those that wait, then those of this second."""
        self.offered -= jobs
        old = min(jobs, self.waiting)
        self.waiting -= old
        jobs -= old
        while old:
            batch = self.batches[0]
            taken = batch[1] if batch[1] <= old else old
            self.waits[now - batch[0]] += taken
            old -= taken
            if taken == batch[1]:
                self.batches.popleft()
            else:
                batch[1] -= taken
        if jobs:
            self.fresh -= jobs
            self.jobs += jobs
            self.waits[0] += jobs

    def end_second(self, now: int) -> None:
        """Jobs that arrived in this second and found no thread wait from now on."""
        self.enqueue(now, self.fresh)
        self.fresh = 0

    def latency_seconds(self, now: int) -> float:
        """The age of the oldest job; 0.0 without one."""
        return float(now - self.batches[0][0]) if self.batches else 0.0

    def sample_service_seconds(self) -> float:
        """One job's duration: lognormal with this queue's mean."""
        return self.mean_seconds * self._chance.lognormvariate(-self.sigma * self.sigma / 2.0, self.sigma)
