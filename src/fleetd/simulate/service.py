"""One second of work: who fetches what. Threads of a profile are one pool; queues are served in its own order.

A fluid queue takes `jobs × mean service` of the free thread-seconds; a single job takes a thread until it is done, and
what waits takes the thread over at that moment, not at the next whole second.
Beyond the database's knee every job takes `busy / knee` times as long, so the second holds less work.
"""

from __future__ import annotations

from fleetd.simulate.fleet import Group, Instance
from fleetd.simulate.queues import SimQueue


class Threads:
    """The free threads of one profile within one second, while they are given out."""

    def __init__(
        self, group: Group, fetching: list[Instance], slowdown: float, database_seconds: float
    ) -> None:
        self.group = group
        self.fetching = fetching
        self.slowdown = slowdown
        self.database_seconds = database_seconds  # now, as single jobs count it
        self.free = float(sum(i.threads - i.held for i in fetching))
        self.started: list[tuple[float, Instance, SimQueue]] = []  # when it ends, where, what

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
        if queue.single:
            self._start(queue, jobs, now)
            return
        queue.take(jobs, now)
        used = min(jobs * queue.mean_seconds * self.slowdown, max(self.free, 0.0))
        self.free -= used
        self.group.fluid_busy[queue.name] = self.group.fluid_busy.get(queue.name, 0.0) + used
        self.group.served += jobs

    def _start(self, queue: SimQueue, threads: int, now: int) -> None:
        """Fetch single jobs until so many threads are held; those that are over by now hold none."""
        held = 0
        while held < threads and (queue.waiting or queue.fresh):
            begins, instance = self._thread(queue.waiting > 0)
            queue.take(1, now)
            ends = begins + queue.draw_service()
            if ends <= self.database_seconds:
                self.group.served += 1
                self.group.spare.append((ends, instance))
                continue
            instance.held += 1
            held += 1
            self.started.append((ends, instance, queue))
        self.free -= held

    def _thread(self, waited: bool) -> tuple[float, Instance]:
        """Who fetches a job, and since when: a thread just left, if the job waited for one; else the next in turn."""
        group = self.group
        while waited and group.spare:
            left_at, instance = group.spare.popleft()
            if instance.fetches and instance.held < instance.threads:
                return left_at, instance
        for _ in range(len(self.fetching)):
            group.turn = (group.turn + 1) % len(self.fetching)
            instance = self.fetching[group.turn]
            if instance.held < instance.threads:
                break
        return self.database_seconds, instance
