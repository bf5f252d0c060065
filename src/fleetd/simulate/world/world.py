"""The simulated world: queues, instances, the database and the host, in steps of a second.

It is honest where a policy could be flattered: service is not preemptive, heartbeats are as old as Sidekiq's and
staggered, counters are flushed with them, boots take their time, a quiet instance keeps its threads until its jobs are
done.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter

from fleetd.core.model.policy import Policy
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.trace import Trace, value_at
from fleetd.simulate.world.fleet import EXIT_SECONDS, RESTART_SECONDS, SHUTDOWN_SECONDS, Group, Instance
from fleetd.simulate.world.queues import SimQueue
from fleetd.simulate.world.service import Single, Threads, share

#: What serves at the begin has done so for this long.
RUN_BEFORE_SECONDS = 3600


class World:
    """Everything outside a policy. `now` counts whole seconds from the begin of the trace."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self.trace = trace
        self.policy = policy
        self.now = 0
        self.groups = [Group(profile) for profile in policy.profiles]
        self.instances = {i.number: i for group in self.groups for i in group.instances}
        self.group_of = {i.number: group for group in self.groups for i in group.instances}
        self.queues = {q.name: SimQueue(q, arrivals(trace, q), trace.seed) for q in trace.queues}
        self._threads = [Threads(group, self.queues) for group in self.groups]
        self._seconds = math.ceil(trace.duration_seconds)
        self.down: set[str] = set()  # sources that are away
        self.processed = 0.0  # as the flushed counters say
        self.lost_jobs = 0
        self.lost_by_stops_jobs = 0  # of these: pushed back while nobody took them
        self.instance_seconds = 0
        self.busy_threads = 0.0  # truly, in the last second
        self._chance = random.Random(f"{trace.seed}/world")
        self._events: list[tuple[float, int, int, int, str]] = []  # (at, order, number, invocation, what)
        self._order = 0
        self._singles: list[Single] = []
        self._database_seconds = 0.0  # the time that queries take; it slows down beyond the knee
        self._faults = sorted(trace.faults, key=lambda f: f.at_seconds)
        self._alive = 0
        self._booted_at, self._boots_now = -1, 0
        for group in self.groups:
            for instance in group.instances[: max(trace.initial_instances, 0)]:
                self._boot(instance)
                instance.state, instance.since = "active", -RUN_BEFORE_SECONDS
                instance.began_at = -RUN_BEFORE_SECONDS
                group.look_again()
                self._beat(instance)
                self._later(self._chance.randint(1, self.trace.beat_seconds), instance, "beat")

    # -- time

    def advance_to(self, second: int) -> None:
        """Let the world run up to a second of the trace."""
        while self.now < second:
            self._second()
            self.now += 1

    def _second(self) -> None:
        now = self.now
        if self._faults or self.down:
            self._apply_faults()
        while self._events and self._events[0][0] <= now:
            _, _, number, invocation, what = heapq.heappop(self._events)
            self._happen(self.instances[number], invocation, what)
        slowdown = self._slowdown()
        if "postgres" not in self.down:
            self._database_seconds += 1.0 / slowdown
            self._finish()
        self._arrive(now)
        if "redis" in self.down:
            if "postgres" not in self.down:  # what is at work is done, and nobody fetches
                for group in self.groups:
                    group.rest()
        elif "postgres" in self.down:
            self._hang(now)
        else:
            self._serve(now, slowdown)
        for queue in self.queues.values():
            if queue.fresh:
                queue.end_second(now)
        self.busy_threads = sum([group.busy_threads for group in self.groups]) + len(self._singles)
        self.instance_seconds += self._alive

    def _arrive(self, now: int) -> None:
        if "redis" in self.down:
            return  # who would enqueue gets an error instead
        if now < self._seconds:
            for queue in self.queues.values():
                queue.fresh = queue.arrivals[now]

    def _serve(self, now: int, slowdown: float) -> None:
        fetching = []
        for threads in self._threads:
            if threads.group.fetching:
                threads.begin(slowdown, self._database_seconds)
                fetching.append(threads)
            else:
                threads.group.rest()
        if len(fetching) > 1:
            share(fetching, self.queues, self._chance, now)
        for queue in self.queues.values():
            queue.offered = queue.waiting + queue.fresh
        for threads in fetching:
            threads.serve(now)
            self._begun(threads)

    def _hang(self, now: int) -> None:
        """Postgres is away: every thread fetches a job and hangs in it."""
        for queue in self.queues.values():
            queue.offered = queue.waiting + queue.fresh
        for threads in self._threads:
            threads.hang(now)
            self._begun(threads)

    def _begun(self, threads: Threads) -> None:
        """Single jobs that these threads began in this second."""
        for ends, instance, queue in threads.started:
            job = Single(ends, instance, queue)
            heapq.heappush(self._singles, job)
            instance.singles[id(job)] = (queue.name, self.now)
        threads.group.open_connections()

    def _slowdown(self) -> float:
        knee = self.trace.knee_busy_threads
        return 1.0 if knee is None else max(1.0, self.busy_threads / knee)

    def _finish(self) -> None:
        singles = self._singles
        for group in self.groups:
            group.spare.clear()
        while singles and singles[0].ends <= self._database_seconds:
            job = heapq.heappop(singles)
            instance = job.instance
            if instance.singles.pop(id(job), None) is None or instance.invocation != job.invocation:
                continue  # died, or was pushed back
            instance.held -= 1
            group = self.group_of[instance.number]
            group.served += 1
            group.spare.append((job.ends, instance))
            if instance.state == "deactivating" and not instance.held:
                self._later(EXIT_SECONDS, instance, "exit")

    # -- units

    def _later(self, seconds: float, instance: Instance, what: str) -> None:
        self._order += 1
        heapq.heappush(
            self._events, (self.now + seconds, self._order, instance.number, instance.invocation, what)
        )

    def _become(self, instance: Instance, state: str) -> None:
        instance.become(state, self.now)
        self.group_of[instance.number].look_again()

    def _boot(self, instance: Instance) -> None:
        instance.invocation += 1
        instance.pid = 1000 + instance.number * 1000 + instance.invocation
        instance.began_at = self.now
        instance.quiet = instance.beat_quiet = False
        instance.held, instance.opened, instance.beat_at = 0, 0, -1
        instance.singles, instance.beat_busy, instance.beat_young = {}, Counter(), Counter()
        if not instance.present:
            self._alive += 1
        self._become(instance, "activating")
        # The first start of a second takes as long under every policy, so does the next: none is lucky.
        self._boots_now = self._boots_now + 1 if self._booted_at == self.now else 0
        self._booted_at = self.now
        chance = random.Random(f"{self.trace.seed}/boot/{self.now}/{self._boots_now}")
        self._later(chance.uniform(*self.trace.boot_seconds), instance, "ready")

    def _happen(self, instance: Instance, invocation: int, what: str) -> None:
        if instance.invocation != invocation:
            return
        if what == "ready" and instance.state == "activating":
            self._become(instance, "active")
            self._beat(instance)
            self._later(self._chance.randint(1, self.trace.beat_seconds), instance, "beat")
        elif what == "beat" and instance.state in {"active", "deactivating"}:
            self._beat(instance)
            self._later(self.trace.beat_seconds, instance, "beat")
        elif what == "restart":
            self._boot(instance)
        elif what == "exit" and instance.state == "deactivating":
            self._exit(instance)

    def _beat(self, instance: Instance) -> None:
        if "redis" in self.down:
            return
        group = self.group_of[instance.number]
        fetching = max(1, len(group.fetching))
        fluid = {name: mean / fetching for name, mean in group.fluid_busy.items()}
        instance.beat(self.now, fluid, "postgres" in self.down, self._chance)
        flushed = group.served / fetching
        group.served -= flushed
        self.processed += flushed

    def _exit(self, instance: Instance) -> None:
        """An ordinary stop is over: what is unfinished goes back."""
        for name, _ in instance.singles.values():
            if "redis" in self.down:
                self.lost_jobs += 1
                self.lost_by_stops_jobs += 1
            else:
                self.queues[name].push_back(self.now, 1)
        instance.singles, instance.held, instance.opened = {}, 0, 0
        instance.beat_at = -1
        self._become(instance, "inactive")
        self._alive -= 1

    def start(self, number: int) -> str:
        instance = self.instances[number]
        if instance.state in {"active", "activating"}:
            return "skipped"
        if instance.state == "deactivating":
            return "failed"
        self._boot(instance)
        return "done"

    def quiet(self, number: int) -> str:
        instance = self.instances[number]
        if instance.state != "active":
            return "refused"
        instance.quiet = True
        self.group_of[number].look_again()
        return "done"

    def stop(self, number: int) -> str:
        instance = self.instances[number]
        if instance.state == "activating":
            self._become(instance, "deactivating")
            self._later(EXIT_SECONDS, instance, "exit")
        elif instance.state == "active":
            instance.quiet = True
            self._become(instance, "deactivating")
            self._later(SHUTDOWN_SECONDS if instance.held else EXIT_SECONDS, instance, "exit")
        return "done"

    def _apply_faults(self) -> None:
        now = self.now
        while self._faults and self._faults[0].at_seconds <= now:
            fault = self._faults.pop(0)
            if fault.kill_instances:
                self._kill(fault.kill_instances)
        self.down = {
            f.source for f in self.trace.faults if f.source and f.at_seconds <= now < f.until_seconds
        }

    def _kill(self, count: int) -> None:
        """The OOM killer: jobs in flight are lost, systemd boots them again."""
        serving = [i for i in self.instances.values() if i.state == "active"]
        for instance in self._chance.sample(serving, min(count, len(serving))):
            group = self.group_of[instance.number]
            fetching = max(1, len(group.fetching))
            fluid = group.busy_threads / fetching if instance.fetches else 0.0
            self.lost_jobs += len(instance.singles) + round(fluid)
            instance.singles, instance.held = {}, 0
            instance.invocation += 1
            self._become(instance, "activating")
            instance.beat_at = -1
            self._later(RESTART_SECONDS, instance, "restart")

    # -- what limits

    def others(self) -> int:
        return round(value_at(self.trace.others, float(self.now)))

    def claims(self) -> int:
        return sum([group.claims_connections for group in self.groups])

    def resident_bytes(self, instance: Instance) -> int:
        """A process grows towards its size of a day, half the way in four hours."""
        first, last = self.trace.instance_memory_bytes
        age = self.now - instance.began_at
        return int(first + (last - first) * (1.0 - 0.5 ** (age / 14_400.0)))

    def memory_available_bytes(self) -> int:
        used = sum(self.resident_bytes(i) for group in self.groups for i in group.present)
        return max(0, int(self.trace.memory_bytes * 0.95) - used)
