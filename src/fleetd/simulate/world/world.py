"""The simulated world: queues, the database and the hosts with their instances, in steps of a second.

It does not flatter a policy: service is not preemptive, heartbeats are staggered and as old as Sidekiq's, counters move
only with them, boots take time, and a quiet instance keeps its threads until its jobs are done.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.hosts import policies_of
from fleetd.simulate.trace.trace import Trace, value_at
from fleetd.simulate.world.fleet import DiscreteJob, Group, Instance, UnitState, serve_together
from fleetd.simulate.world.host_outages import HostOutages
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.queues import SimQueue

HOST = "simulated"
#: The instances that serve at the start have done so for this long.
RUN_BEFORE_SECONDS = 3600
RESTART_SECONDS = 5  # RestartSec
#: From the stop of an idle process until it is gone.
EXIT_SECONDS = 1
SHUTDOWN_SECONDS = 25  # Sidekiq's -t

StepOutcome = Literal["done", "skipped", "failed"]
Event = tuple[float, int, Instance, int, Callable[[Instance], None]]  # second, number, of whom, invocation, what


class Held(NamedTuple):
    """What would have happened on a host that stands still, and since when it does."""

    at: int
    at_database: float  # in database seconds: see World
    events: list[Event]
    jobs: list[DiscreteJob]


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
        self.machines = self._machines(trace, policy)
        self.groups = [group for machine in self.machines for group in machine.groups]
        self.down: set[str] = set()  # sources that can't be reached
        self.processed_jobs = 0.0  # as the flushed counters say
        self.busy_threads = 0.0  # in the last second, whatever heartbeats say
        self.end = math.ceil(trace.duration_seconds)
        self._chance = random.Random(f"{trace.seed}/world")
        self._events: list[Event] = []
        self._events_total = 0
        self._discrete_jobs: list[DiscreteJob] = []  # running; a heap by their ends
        self._database_seconds = 0.0  # time as jobs spend it: it runs slower beyond the database's knee
        self._faults = sorted(trace.faults, key=lambda fault: fault.at)
        self._booted_at, self._boots_now = -1, 0
        self.host_outages = HostOutages(self)
        for machine in self.machines:
            initial = trace.hosts[machine.index].initial_instances if trace.hosts else None
            for group in machine.groups:
                for instance in group.instances[: trace.initial_instances if initial is None else initial]:
                    self._runs_already(instance)
        self._place_scheduler()

    def _machines(self, trace: Trace, policy: Policy) -> list[Machine]:
        if not trace.hosts:
            return [Machine(policy, self.queues, memory_bytes=trace.host.memory_bytes)]
        return [
            Machine(
                own,
                self.queues,
                memory_bytes=trace.host.memory_bytes if host.memory_bytes is None else host.memory_bytes,
                cores=host.cores,
                index=index,
                scheduler=True,
            )
            for index, (host, own) in enumerate(zip(trace.hosts, policies_of(trace.hosts, policy), strict=True))
        ]

    def _place_scheduler(self) -> None:
        """It runs on the host that it belongs to, else on the first that may have it."""
        places = {machine.policy.scheduler.place: machine for machine in reversed(self.machines)}
        machine = places.get("here", places.get("auto"))
        if machine is not None and machine.scheduler_group is not None:
            self._runs_already(machine.scheduler_group.instances[0])

    def _runs_already(self, instance: Instance) -> None:
        """It has served since before the trace."""
        self._boot(instance)
        instance.state, instance.state_since = UnitState.ACTIVE, -RUN_BEFORE_SECONDS
        instance.started_at = -RUN_BEFORE_SECONDS
        instance.group.refresh()
        self._begin_beating(instance)

    @property
    def machine(self) -> Machine:
        """The host, where there is only one: rivals know no other."""
        return self.machines[0]

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
        self.host_outages.apply(now)
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
        for machine in self.machines:
            machine.instance_seconds += sum([len(group.present) for group in machine.groups])

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
        if not self.reaches(instance.group.machine, "redis"):
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
        machine = instance.group.machine
        # A host that is cut off within the 25 s of a proper stop can't be foreseen.
        foreseen = machine.cut_off_at is None or machine.cut_off_at <= instance.state_since
        for job in instance.jobs:
            if not self.reaches(machine, "redis"):
                machine.lost_jobs += 1
                machine.lost_by_stops_jobs += foreseen
            else:
                job.queue.push_back(self.now, 1)
        instance.jobs, instance.open_connections, instance.beat_at = {}, 0, None
        instance.become(UnitState.INACTIVE, self.now)

    def hold(self, machine: Machine) -> Held:
        """Take out all that would happen on a host, which stands still from now on."""
        held = Held(
            at=self.now,
            at_database=self._database_seconds,
            events=[event for event in self._events if event[2].group.machine is machine],
            jobs=[job for job in self._discrete_jobs if job.instance.group.machine is machine],
        )
        self._events = [event for event in self._events if event[2].group.machine is not machine]
        self._discrete_jobs = [job for job in self._discrete_jobs if job.instance.group.machine is not machine]
        heapq.heapify(self._events)
        heapq.heapify(self._discrete_jobs)
        return held

    def resume(self, held: Held) -> None:
        """Let it happen after all, as much later as the host stood still."""
        for at, number, instance, invocation, act in held.events:
            heapq.heappush(self._events, (at + self.now - held.at, number, instance, invocation, act))
        for job in held.jobs:
            job.ends_at += self._database_seconds - held.at_database
            heapq.heappush(self._discrete_jobs, job)

    # -- orders to systemd

    def carry_out(self, step: Step, machine: Machine | None = None) -> StepOutcome:
        """Do what a policy orders on a host (None: the only one), and keep the order for the score."""
        machine = machine or self.machine
        machine.orders.append((self.now, step))
        if step.key == SCHEDULER and machine.scheduler_group is None:
            return "skipped"  # in a trace without hosts it runs elsewhere
        return {"start": self.start, "quiet": self.quiet, "stop": self.stop}[step.verb](step.key, machine)

    def start(self, key: InstanceKey, machine: Machine | None = None) -> StepOutcome:
        instance = (machine or self.machine).instances[key]
        if instance.state in {UnitState.ACTIVE, UnitState.ACTIVATING}:
            return "skipped"
        if instance.state is UnitState.DEACTIVATING:
            return "failed"
        self._boot(instance)
        return "done"

    def quiet(self, key: InstanceKey, machine: Machine | None = None) -> StepOutcome:
        instance = (machine or self.machine).instances[key]
        if instance.state is not UnitState.ACTIVE:
            return "failed"
        instance.quiet(self.now)
        return "done"

    def stop(self, key: InstanceKey, machine: Machine | None = None) -> StepOutcome:
        instance = (machine or self.machine).instances[key]
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
        moving = [group for group in self.groups if group.machine.frozen_at is None]
        serving = [i for group in moving for i in group.instances if i.state is UnitState.ACTIVE]
        for instance in self._chance.sample(serving, min(count, len(serving))):
            instance.group.machine.lost_jobs += instance.group.in_flight(instance)
            instance.jobs = {}
            instance.invocation += 1
            instance.become(UnitState.ACTIVATING, self.now)
            instance.beat_at = None
            self._schedule(RESTART_SECONDS, instance, self._boot)

    # -- what there is

    def reaches(self, machine: Machine, source: str) -> bool:
        """Whether this host can read a source now."""
        return source not in self.down and not (source == "redis" and machine.cut_off_at is not None)

    @property
    def lost_jobs(self) -> int:
        return sum(machine.lost_jobs for machine in self.machines)

    def other_connections(self) -> int:
        """Everyone else's connections."""
        return round(value_at(self.trace.database.others, float(self.now)))

    def budget_connections(self) -> int:
        """What instances may claim now. Every policy is held to it."""
        return self.trace.database.max_connections - self.policy.connections.reserve - self.other_connections()

    def claims_connections(self) -> int:
        """The connections that all present processes may open, and those still open of lost hosts."""
        claims = sum([group.claims_connections for group in self.groups])
        for machine in self.machines:
            if machine.scheduler_group is not None:
                claims += machine.scheduler_group.claims_connections
        return claims + self.host_outages.open_connections()

    def resident_bytes(self, instance: Instance) -> int:
        """A process grows towards its size after a day, and is half-way there after four hours."""
        first, last = self.trace.host.instance_memory_bytes
        age = self.now - instance.started_at
        return int(first + (last - first) * (1.0 - 0.5 ** (age / 14_400.0)))

    def memory_available_bytes(self, machine: Machine) -> int:
        used = sum(map(self.resident_bytes, machine.present))
        return max(0, int(machine.memory_bytes * 0.95) - used)
