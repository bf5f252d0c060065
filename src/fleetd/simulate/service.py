"""One second of work: who fetches what. Threads of a profile are one pool; queues are served in its own order.

A fluid queue takes `jobs × mean service` of the free thread-seconds; a single job takes a thread until it is done.
Beyond the database's knee every job takes `busy / knee` times as long, so the second holds less work.
"""

from __future__ import annotations

from fleetd.simulate.fleet import Group, Instance
from fleetd.simulate.queues import SimQueue


class Threads:
    """The free threads of one profile within one second, while they are given out."""

    def __init__(self, group: Group, slowdown: float) -> None:
        self.group = group
        self.fetching = group.fetching
        self.slowdown = slowdown
        self.free = float(sum(i.threads - i.held for i in group.fetching))
        self.started: list[tuple[Instance, SimQueue]] = []

    def serve(self, queues: dict[str, SimQueue], now: int) -> None:
        """Fetch and serve what this second holds."""
        self.group.fluid_busy = {}
        if self.group.profile.order == "weighted":
            self._by_weight(queues, now)
            return
        for name in self.group.order:
            queue = queues.get(name)
            if self.free <= 0.0:
                break
            if queue is not None and queue.ready:
                self._take(queue, self._most(queue, self.free), now)

    def _by_weight(self, queues: dict[str, SimQueue], now: int) -> None:
        """Each fetch picks a queue by weight among those with work; what one doesn't need the others get."""
        left = [queues[name] for name in self.group.order if name in queues and queues[name].ready]
        while left and self.free > 1e-9:
            weights = self.group.weights
            per_fetch = sum(weights[q.name] * self._cost(q) for q in left)
            rounds = self.free / per_fetch
            small = [q for q in left if q.ready <= rounds * weights[q.name]]
            if small:
                for queue in small:
                    self._take(queue, queue.ready, now)
                left = [q for q in left if q not in small]
                continue
            for queue in left:
                share = rounds * weights[queue.name] * self._cost(queue)
                self._take(queue, self._most(queue, min(share, self.free)), now)
            return

    def _cost(self, queue: SimQueue) -> float:
        """Thread-seconds of this second that one job takes."""
        return 1.0 if queue.single else queue.mean_seconds * self.slowdown

    def _most(self, queue: SimQueue, thread_seconds: float) -> int:
        """Whole jobs that fit; the fraction of one that is begun is carried into the next second."""
        fits = thread_seconds / self._cost(queue) + queue.carry
        if fits >= queue.ready:
            queue.carry = 0.0
            return queue.ready
        whole = int(fits)
        queue.carry = fits - whole
        return whole

    def _take(self, queue: SimQueue, jobs: int, now: int) -> None:
        if jobs <= 0:
            return
        queue.take(jobs, now)
        if queue.single:
            self.free -= jobs
            self._start(queue, jobs)
            return
        used = min(jobs * queue.mean_seconds * self.slowdown, max(self.free, 0.0))
        self.free -= used
        self.group.fluid_busy[queue.name] = self.group.fluid_busy.get(queue.name, 0.0) + used
        self.group.served += jobs

    def _start(self, queue: SimQueue, jobs: int) -> None:
        """Single jobs go to the instances in turn, where a thread is free."""
        group = self.group
        for _ in range(jobs):
            for _ in range(len(self.fetching)):
                group.turn = (group.turn + 1) % len(self.fetching)
                instance = self.fetching[group.turn]
                if instance.held < instance.threads:
                    break
            instance.held += 1
            self.started.append((instance, queue))
