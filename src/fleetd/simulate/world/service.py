"""One second of work: who fetches what. Threads of a profile are one pool; queues are served in its own order.

A fluid queue takes `jobs × mean service` of the free thread-seconds; a single job takes a thread until it is done, and
what waits takes the thread over at that moment, not at the next whole second.
Beyond the database's knee every job takes `busy / knee` times as long, so the second holds less work.
"""

from __future__ import annotations

import math
import random

from fleetd.simulate.world.fleet import Group, Instance
from fleetd.simulate.world.queues import SimQueue


class Single:
    """A single job under way."""

    __slots__ = ("ends", "instance", "invocation", "queue")

    def __init__(self, ends: float, instance: Instance, queue: SimQueue) -> None:
        self.ends = ends  # in the database's own time
        self.instance = instance
        self.invocation = instance.invocation
        self.queue = queue

    def __lt__(self, other: Single) -> bool:
        return self.ends < other.ends


class Threads:
    """The free threads of one profile, given out anew each second."""

    def __init__(self, group: Group, queues: dict[str, SimQueue]) -> None:
        self.group = group
        self.queues = [queues[name] for name in group.order if name in queues]
        self.serves = frozenset(self.queues)
        self.free = 0.0
        self.slowdown = 1.0
        self.database_seconds = 0.0  # now, as single jobs count it
        self.started: list[tuple[float, Instance, SimQueue]] = []  # when it ends, where, what

    def begin(self, slowdown: float, database_seconds: float) -> None:
        """A new second: all threads that no single job holds are free."""
        self.free = float(sum([i.threads - i.held for i in self.group.fetching]))
        self.slowdown = slowdown
        self.database_seconds = database_seconds
        self.started = []
        self.group.fluid_busy = {}
        self.group.served += self.group.hung
        self.group.hung = 0

    def hang(self, now: int) -> None:
        """No query is answered: each free thread fetches a job and holds it, what it was at included."""
        self.started = []
        if not self.group.fetching:
            self.group.rest()
            return
        busy = self.group.fluid_busy
        threads = sum([i.threads - i.held for i in self.group.fetching])
        for queue in self.queues:
            free = threads - math.ceil(sum(busy.values()))
            jobs = min(free, queue.offered)
            if jobs <= 0:
                continue
            if queue.single:
                before = queue.waiting + queue.fresh
                self._start(queue, jobs, now)
                threads -= before - queue.waiting - queue.fresh
            else:
                queue.take(jobs, now)
                busy[queue.name] = busy.get(queue.name, 0.0) + jobs
                self.group.hung += jobs

    def serve(self, now: int) -> None:
        """Fetch and serve what this second holds of the jobs on offer."""
        if self.group.profile.order == "weighted":
            self._by_weight(now)
            return
        for queue in self.queues:
            if self.free <= 0.0:
                break
            if queue.offered:
                self._take(queue, self._most(queue, self.free), now)

    def _by_weight(self, now: int) -> None:
        """Each fetch picks a queue by weight among those with work; what one doesn't need the others get."""
        weights = self.group.weights
        left = [(q, weights[q.name], self._cost(q)) for q in self.queues if q.offered]
        while left and self.free > 1e-9:
            rounds = self.free / sum([weight * cost for _, weight, cost in left])
            more = []
            for entry in left:
                queue, weight, _ = entry
                if queue.offered <= rounds * weight:
                    self._take(queue, queue.offered, now)
                else:
                    more.append(entry)
            if len(more) < len(left):
                left = more
                continue
            for queue, weight, cost in left:
                share = rounds * weight * cost
                self._take(queue, self._most(queue, min(share, self.free)), now)
            return

    def _cost(self, queue: SimQueue) -> float:
        """Thread-seconds of this second that one job takes."""
        return 1.0 if queue.single else queue.mean_seconds * self.slowdown

    def _most(self, queue: SimQueue, thread_seconds: float) -> int:
        """Whole jobs that fit; the fraction of one that is begun is carried into the next second."""
        fits = thread_seconds / self._cost(queue) + queue.carry
        if fits >= queue.offered:
            queue.carry = 0.0
            return queue.offered
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
        used = jobs * queue.mean_seconds * self.slowdown
        if used > self.free:
            used = max(self.free, 0.0)
        self.free -= used
        busy = self.group.fluid_busy
        busy[queue.name] = busy.get(queue.name, 0.0) + used
        self.group.served += jobs

    def _start(self, queue: SimQueue, threads: int, now: int) -> None:
        """Fetch single jobs until so many threads are held; those that are over by now hold none."""
        held = 0
        while held < threads and queue.offered > 0:
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
        group, fetching = self.group, self.group.fetching
        while waited and group.spare:
            left_at, instance = group.spare.popleft()
            if instance.fetches and instance.held < instance.threads:
                return left_at, instance
        for _ in range(len(fetching)):
            group.turn = (group.turn + 1) % len(fetching)
            instance = fetching[group.turn]
            if instance.held < instance.threads:
                break
        return self.database_seconds, instance


def share(fetching: list[Threads], queues: dict[str, SimQueue], chance: random.Random, now: int) -> None:
    """Idle threads of all profiles fetch alike: each gets its part of every queue it serves, before the rest."""
    chance.shuffle(fetching)
    for queue in queues.values():
        queue.parts = {}
        ready = queue.waiting + queue.fresh
        if not ready:
            continue
        serving = [threads for threads in fetching if queue in threads.serves]
        idle = sum([threads.free for threads in serving])
        if idle:
            queue.parts = {
                threads.group.profile.name: int(ready * threads.free / idle + chance.random())
                for threads in serving
            }
    for threads in fetching:
        for queue in threads.queues:
            part = queue.parts.get(threads.group.profile.name, 0)
            queue.offered = min(part, queue.waiting + queue.fresh)
        threads.serve(now)
