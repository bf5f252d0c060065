"""The simulated world: queues, instances, the database and the host, in steps of a second.

It does not flatter a policy: service is not preemptive, heartbeats are staggered and as old as Sidekiq's, counters move
only with them, boots take time, and a quiet instance keeps its threads until its jobs are done.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Literal

from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.trace import Trace, value_at
from fleetd.simulate.world.fleet import DiscreteJob, Group, Instance, UnitState, serve_together
from fleetd.simulate.world.queues import SimQueue

HOST = "simulated"
#: The instances that serve at the start have done so for this long.
RUN_BEFORE_SECONDS = 3600
RESTART_SECONDS = 5  # RestartSec
#: From the stop of an idle process until it is gone.
EXIT_SECONDS = 1
SHUTDOWN_SECONDS = 25  # Sidekiq's -t

StepOutcome = Literal["done", "skipped", "failed"]


class World:
    """Everything outside a policy. `now` counts whole seconds from the start of the trace."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self.trace = trace
        self.policy = policy
        self.now = 0
        self.queues = {
            name: SimQueue(name, queue.service_seconds, arrivals(trace, name), trace.seed)
            for name, queue in trace.queues.items()
        }
        self.groups = [Group(profile, self.queues) for profile in policy.profiles]
        self.instances = {i.key: i for group in self.groups for i in group.instances}
        self.down: set[str] = set()  # sources that can't be reached
        self.orders: list[tuple[int, Step]] = []  # the policy's, each with its second
        self.processed_jobs = 0.0  # as the flushed counters say
        self.lost_jobs = 0
        self.lost_by_stops_jobs = 0  # of these: pushed back while Redis was down
        self.instance_seconds = 0
        self.busy_threads = 0.0  # in the last second, whatever heartbeats say
        self.end = math.ceil(trace.duration_seconds)
        self._chance = random.Random(f"{trace.seed}/world")
        self._events: list[tuple[float, int, Instance, int, Callable[[Instance], None]]] = []
        self._events_total = 0
        self._discrete_jobs: list[DiscreteJob] = []  # running; a heap by their ends
        self._database_seconds = 0.0  # time as jobs spend it: it runs slower beyond the database's knee
        self._faults = sorted(trace.faults, key=lambda fault: fault.at)
        self._booted_at, self._boots_now = -1, 0
        for group in self.groups:
            for instance in group.instances[: trace.initial_instances]:
                self._boot(instance)
                instance.state, instance.state_since = UnitState.ACTIVE, -RUN_BEFORE_SECONDS
                instance.started_at = -RUN_BEFORE_SECONDS
                group.refresh()
                self._begin_beating(instance)

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
            _, _, instance, invocation, act = heapq.heappop(self._events)
            if instance.invocation == invocation:
                act(instance)
        knee = self.trace.database.knee_busy_threads
        slowdown = max(1.0, self.busy_threads / knee) if knee else 1.0
        redis_up, postgres_up = "redis" not in self.down, "postgres" not in self.down
        if postgres_up:
            self._database_seconds += 1.0 / slowdown
            self._finish()
        if redis_up:
            self._arrive(now)
            if postgres_up:
                self._serve(now, slowdown)
            else:
                self._hang(now)
        elif postgres_up:  # running jobs end, and nobody fetches
            for group in self.groups:
                group.idle()
        for queue in self.queues.values():
            if queue.fresh:
                queue.end_second(now)
        self.busy_threads = sum([group.busy_threads for group in self.groups]) + len(self._discrete_jobs)
        self.instance_seconds += sum([len(group.present) for group in self.groups])

    def _arrive(self, now: int) -> None:
        if now < self.end:
            for queue in self.queues.values():
                queue.fresh = queue.arrivals[now]

    def _serve(self, now: int, slowdown: float) -> None:
        fetching = []
        for group in self.groups:
            if group.fetching:
                group.begin_second(slowdown, self._database_seconds)
                fetching.append(group)
            else:
                group.idle()
        if len(fetching) > 1:
            serve_together(fetching, self.queues, self._chance, now)
        for queue in self.queues.values():
            queue.offered = queue.waiting + queue.fresh
        for group in fetching:
            group.serve(now)
            self._end_second(group)

    def _hang(self, now: int) -> None:
        for queue in self.queues.values():
            queue.offered = queue.waiting + queue.fresh
        for group in self.groups:
            group.hang(now)
            self._end_second(group)

    def _end_second(self, group: Group) -> None:
        for job in group.started:
            heapq.heappush(self._discrete_jobs, job)
        group.open_connections()

    def _finish(self) -> None:
        """End the discrete jobs whose time has come."""
        jobs = self._discrete_jobs
        for group in self.groups:
            group.freed.clear()
        while jobs and jobs[0].ends_at <= self._database_seconds:
            job = heapq.heappop(jobs)
            instance = job.instance
            if job not in instance.jobs:
                continue  # lost, or pushed back
            del instance.jobs[job]
            instance.group.unflushed_jobs += 1
            instance.group.freed.append((job.ends_at, instance))
            if instance.state is UnitState.DEACTIVATING and not instance.jobs:
                self._schedule(EXIT_SECONDS, instance, self._exit)

    # -- processes

    def _schedule(self, seconds: float, instance: Instance, act: Callable[[Instance], None]) -> None:
        """Let something happen to this process later, unless it is gone by then."""
        self._events_total += 1
        heapq.heappush(self._events, (self.now + seconds, self._events_total, instance, instance.invocation, act))

    def _boot(self, instance: Instance) -> None:
        instance.invocation += 1
        instance.pid = 1000 + instance.key * 1000 + instance.invocation
        instance.started_at = self.now
        instance.quieted_at, instance.beat_quiet = None, False
        instance.open_connections, instance.beat_at = 0, None
        instance.jobs, instance.beat_busy, instance.beat_young = {}, Counter(), Counter()
        instance.become(UnitState.ACTIVATING, self.now)
        # The first boot of a second takes as long under every policy, and so does the next: no policy is lucky.
        self._boots_now = self._boots_now + 1 if self._booted_at == self.now else 0
        self._booted_at = self.now
        chance = random.Random(f"{self.trace.seed}/boot/{self.now}/{self._boots_now}")
        self._schedule(chance.uniform(*self.trace.boot_seconds), instance, self._ready)

    def _ready(self, instance: Instance) -> None:
        if instance.state is UnitState.ACTIVATING:
            instance.become(UnitState.ACTIVE, self.now)
            self._begin_beating(instance)

    def _begin_beating(self, instance: Instance) -> None:
        self._beat(instance)
        self._schedule(self._chance.randint(1, self.trace.beat_seconds), instance, self._beat_regularly)

    def _beat_regularly(self, instance: Instance) -> None:
        if instance.state in {UnitState.ACTIVE, UnitState.DEACTIVATING}:
            self._beat(instance)
            self._schedule(self.trace.beat_seconds, instance, self._beat_regularly)

    def _beat(self, instance: Instance) -> None:
        if "redis" in self.down:
            return
        group = instance.group
        fetching = max(1, len(group.fetching))
        fluid = {name: mean / fetching for name, mean in group.fluid_busy.items()}
        instance.beat(self.now, fluid, "postgres" in self.down, self._chance)
        flushed = group.unflushed_jobs / fetching
        group.unflushed_jobs -= flushed
        self.processed_jobs += flushed

    def _exit(self, instance: Instance) -> None:
        """The end of an ordinary stop: unfinished jobs go back to their queues."""
        if instance.state is not UnitState.DEACTIVATING:
            return
        for job in instance.jobs:
            if "redis" in self.down:
                self.lost_jobs += 1
                self.lost_by_stops_jobs += 1
            else:
                job.queue.push_back(self.now, 1)
        instance.jobs, instance.open_connections, instance.beat_at = {}, 0, None
        instance.become(UnitState.INACTIVE, self.now)

    # -- orders to systemd

    def carry_out(self, step: Step) -> StepOutcome:
        """Do what a policy orders, and keep the order for the score."""
        self.orders.append((self.now, step))
        if step.key == SCHEDULER:
            return "skipped"  # in a trace it runs elsewhere
        return {"start": self.start, "quiet": self.quiet, "stop": self.stop}[step.verb](step.key)

    def start(self, key: InstanceKey) -> StepOutcome:
        instance = self.instances[key]
        if instance.state in {UnitState.ACTIVE, UnitState.ACTIVATING}:
            return "skipped"
        if instance.state is UnitState.DEACTIVATING:
            return "failed"
        self._boot(instance)
        return "done"

    def quiet(self, key: InstanceKey) -> StepOutcome:
        instance = self.instances[key]
        if instance.state is not UnitState.ACTIVE:
            return "failed"
        instance.quiet(self.now)
        return "done"

    def stop(self, key: InstanceKey) -> StepOutcome:
        instance = self.instances[key]
        if instance.state in {UnitState.ACTIVE, UnitState.ACTIVATING}:
            if instance.state is UnitState.ACTIVE:
                instance.quiet(self.now)
            instance.become(UnitState.DEACTIVATING, self.now)
            self._schedule(SHUTDOWN_SECONDS if instance.jobs else EXIT_SECONDS, instance, self._exit)
        return "done"

    # -- faults

    def _apply_faults(self) -> None:
        now = self.now
        while self._faults and self._faults[0].at <= now:
            fault = self._faults.pop(0)
            if fault.kill_instances:
                self._kill(fault.kill_instances)
        self.down = {f.source for f in self.trace.faults if f.source and f.at <= now < f.until}

    def _kill(self, count: int) -> None:
        """The OOM killer: running jobs are lost, and systemd boots the instances again."""
        serving = [i for i in self.instances.values() if i.state is UnitState.ACTIVE]
        for instance in self._chance.sample(serving, min(count, len(serving))):
            group = instance.group
            fluid = group.busy_threads / max(1, len(group.fetching)) if instance.fetches else 0.0
            self.lost_jobs += len(instance.jobs) + round(fluid)
            instance.jobs = {}
            instance.invocation += 1
            instance.become(UnitState.ACTIVATING, self.now)
            instance.beat_at = None
            self._schedule(RESTART_SECONDS, instance, self._boot)

    # -- connections and memory

    def other_connections(self) -> int:
        """Everyone else's connections."""
        return round(value_at(self.trace.database.others, float(self.now)))

    def budget_connections(self) -> int:
        """What instances may claim now. Every policy is held to it."""
        return self.trace.database.max_connections - self.policy.connections.reserve - self.other_connections()

    def claims_connections(self) -> int:
        """The connections that all present instances may open."""
        return sum([group.claims_connections for group in self.groups])

    def resident_bytes(self, instance: Instance) -> int:
        """A process grows towards its size after a day, and is half-way there after four hours."""
        first, last = self.trace.host.instance_memory_bytes
        age = self.now - instance.started_at
        return int(first + (last - first) * (1.0 - 0.5 ** (age / 14_400.0)))

    def memory_available_bytes(self) -> int:
        used = sum(self.resident_bytes(i) for group in self.groups for i in group.present)
        return max(0, int(self.trace.host.memory_bytes * 0.95) - used)
