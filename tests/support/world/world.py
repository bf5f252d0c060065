"""A small simulated worker host with all that surrounds it: Sidekiq, Redis, Postgres, systemd, people.

Deterministic: the same calls give the same world. Time moves in whole seconds, by `World.advance`. The world behaves as
Sidekiq and systemd do wherever that could mislead fleetd: heartbeats are up to 10 s old, a killed process's heartbeat
stays for 60 s, a TSTP during boot is lost, a stop with busy jobs pushes them back only if Redis takes writes,
connections are opened lazily, and systemd restarts what dies.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable

from fleetd.core.model.facts import EndCause, Ending, FailingClass, HostPressure, KeyFault, UnfitUnit
from fleetd.core.model.identity import SCHEDULER, InstanceKey, WorkerTag, application_name, unit_of
from fleetd.core.model.policy_tables import Policy, Profile
from fleetd.core.model.worker_settings import instance_digest, scheduler_digest
from tests.support.world.parts import Job, Process, Unit

BEAT_SECONDS = 10.0
GHOST_SECONDS = 60.0
SHUTDOWN_SECONDS = 25.0  # Sidekiq's -t
RESTART_SECONDS = 5.0  # RestartSec
START_LIMIT, START_LIMIT_SECONDS = 6, 60.0  # after this many starts within this time systemd gives up
STOP_SLACK_SECONDS = 35.0  # TimeoutStopSec beyond -t
MIB = 1024 * 1024


class World:
    """Everything outside fleetd. Tests change its public attributes."""

    def __init__(self, policy: Policy, *, seed: int = 0, now: float = 10_000.0, first_pid: int = 1000) -> None:
        self.policy = policy
        self.now = now
        self.boot_id = "boot-1"
        self.random = random.Random(seed)
        numbers = [n for profile in policy.profiles for n in profile.numbers]
        self.units: dict[int, Unit] = {k: Unit(unit_of(k), k) for k in (*numbers, SCHEDULER)}
        self.elsewhere: list[Process] = []  # processes that this host's systemd does not know
        self.ghosts: list[Process] = []
        self.queues: dict[str, deque[Job]] = {q: deque() for p in policy.profiles for q, _ in p.queues}
        self.rates: dict[str, float] = {}  # jobs per second
        self.job_seconds: tuple[float, float] = (1.0, 3.0)
        self.boot_seconds = 20.0
        self.start_job_seconds = 0.0  # how long a start job waits in a starved systemd, where nothing shows it
        self.broken: set[int] = set()  # these die during boot
        self.rendered: set[int] = {*numbers, SCHEDULER}
        self.rendered_policy = policy  # the one that fleetd-render last wrote
        self.left_over: dict[int, Profile] = {}  # numbers that it no longer has; their settings stay while they run
        self.target: str | None = None  # ActiveState of mastodon-sidekiq.target; None: it is not loaded
        self.target_job = ""
        self.target_stopped_at: float | None = None
        self.unit_file = "unit-1"
        self.installed_unit = "unit-1"  # the part of it that an installation writes
        self.masked_units: tuple[str, ...] = ()
        self.polkit_runs = True
        self.unfit_units: dict[str, UnfitUnit] = {}
        self.code, self.code_broken = "code-1", False  # Mastodon's code; broken: processes that boot on it die
        self.deaf: set[int] = set()  # their wrapper passes on no signals
        self.mute: set[int] = set()  # these boot and work, but their heartbeat never appears
        self.loses_term: set[int] = set()  # if these boot, they lose the next TERM, as Ruby does just after its start
        self.slow_boots: dict[int, float] = {}
        self.pressure: HostPressure | None = None
        self.load_per_core: float | None = None
        self.oom_kills_total = 0
        self.redis_up = self.redis_writable = self.postgres_up = self.systemd_up = True
        self.postgres_refuses = False
        self.systemd_hangs = False
        self.run_id = "run-1"
        self.unreadable: set[str] = set()
        self.faults: tuple[KeyFault, ...] = ()
        self.max_connections, self.other_clients = 200, 20
        self.nameless: set[int] = set()  # workers whose connections don't bear their name: all of them if 0 is in it
        self.pool_size: int | None = None  # PgBouncer's; None: workers don't go through PgBouncer
        self.web_servers = 0  # server connections of that pool that work for web
        self.active_backends: int | None = None  # backends of Mastodon's role that are in a query
        self.stalled_backends: int | None = None
        self.clock_ahead_seconds = 0.0  # of the workers' clock, by which they write beats and starts
        self.garbled = False  # the heartbeats of processes elsewhere can't be parsed
        self.memory_available_bytes, self.resident_bytes = 64 * 1024 * MIB, 400 * MIB
        self.retry_jobs = self.dead_jobs = self.scheduled_jobs = self.failed = 0
        self.failing_classes: tuple[FailingClass, ...] | None = None  # as with Sidekiq 6
        self.enqueued = self.done = 0
        self.lost = 0  # jobs lost through a stop by fleetd
        self.lost_otherwise = 0  # jobs lost through a person's stop, a SIGKILL of a worker, or with Redis's data
        self.pushed_back = 0
        self._owed: dict[str, float] = {}
        self._pid = first_pid
        self._jid = 0

    # -- time ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of a second."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + 1.0)
            self._step()

    def _step(self) -> None:
        for queue, rate in self.rates.items():
            owed = self._owed.get(queue, 0.0) + rate
            whole = int(owed)
            self._owed[queue] = owed - whole
            self.enqueue(queue, whole)
        for unit in self.units.values():
            self._step_unit(unit)
        for process in self.processes():
            self._step_process(process)
        self.ghosts = [g for g in self.ghosts if g.beat_at is not None and self.now - g.beat_at < GHOST_SECONDS]

    def _step_unit(self, unit: Unit) -> None:
        if unit.restart_at is not None and self.now >= unit.restart_at:
            self._restart(unit)
        process = unit.process
        if process is None or unit.state != "activating" or self.now < process.ready_at:
            return
        if unit.key in self.broken or (self.code_broken and process.code == self.code):
            self._died(unit, Ending(cause=EndCause.EXIT, exit_status=1))
        else:
            unit.become("active", self.now)

    def _step_process(self, process: Process) -> None:
        if process.kill_at is not None and process.stop_at is None and self.now >= process.kill_at:
            if process.stopped_by == "fleetd":
                self.lost += len(process.jobs)
                process.jobs = []
            self._killed_by_systemd(process)
        if process.hung and process.stop_at is not None and self.now >= process.stop_at + STOP_SLACK_SECONDS:
            self._killed_by_systemd(process)
        if not process.is_ready(self.now) or process.hung:
            return
        finished = [job for job in process.jobs if job.finish_at <= self.now]
        self.done += len(finished)
        process.jobs = [job for job in process.jobs if job.finish_at > self.now]
        while self.redis_up and not process.quiet and len(process.jobs) < process.threads:
            job = self._fetch(process)
            if job is None:
                break
            job.begun_at, job.finish_at = self.now, self.now + self.random.uniform(*self.job_seconds)
            process.jobs.append(job)
            process.opened = max(process.opened, len(process.jobs))
        due = process.beat_at is None or self.now - process.beat_at >= BEAT_SECONDS
        if self.redis_up and self.redis_writable and due and not process.mute:
            self._beat(process)
        if process.stop_at is not None and (not process.jobs or self.now >= process.stop_at):
            self._exit(process)

    def _fetch(self, process: Process) -> Job | None:
        names = [queue for queue, _ in process.queues if self.queues.get(queue)]
        if not names:
            return None
        if process.weighted:
            weights = [weight for queue, weight in process.queues if queue in names]
            return self.queues[self.random.choices(names, weights)[0]].popleft()
        return self.queues[names[0]].popleft()

    def _beat(self, process: Process) -> None:
        process.beat_at, process.beat_quiet, process.listed = self.now, process.quiet, True
        process.beat_work = Counter(job.queue for job in process.jobs)
        process.beat_jobs = tuple((job.jid, job.begun_at) for job in process.jobs)

    def _exit(self, process: Process) -> None:
        """The end of an ordinary stop: push unfinished jobs back, or lose them if Redis takes no writes."""
        if process.jobs and self.redis_up and self.redis_writable:
            for job in process.jobs:
                job.pushed_back += process.stopped_by == "fleetd" and job.jid not in process.untold
                self.queues[job.queue].appendleft(job)
            self.pushed_back += len(process.jobs)
        else:
            if process.stopped_by == "fleetd":
                self.lost += len(process.jobs)
            else:
                self.lost_otherwise += len(process.jobs)
        process.jobs = []
        if not self.redis_up:
            self.ghosts.append(process)
        process.alive = False
        for unit in self.units.values():
            if unit.process is process:
                unit.process = None
                unit.become("inactive", self.now)
                restarts, unit.job = unit.job == "restart", ""
                if restarts:
                    self.start(unit.key)
        self.elsewhere = [p for p in self.elsewhere if p.alive]

    def _killed_by_systemd(self, process: Process) -> None:
        """TimeoutStopSec is over: the jobs it ran are lost, as with any process that hangs."""
        self.lost_otherwise += len(process.jobs)
        process.jobs, process.alive = [], False
        self.ghosts.append(process)
        for unit in self.units.values():
            if unit.process is process:
                unit.process, unit.result, unit.job = None, "timeout", ""
                unit.become("failed", self.now)

    def _died(self, unit: Unit, ending: Ending) -> None:
        """A process died without a stop: systemd restarts it."""
        process = unit.process
        if process is not None:
            process.alive = False
            self.ghosts.append(process)
        unit.process, unit.ending = None, ending
        unit.become("activating", self.now)  # auto-restart
        unit.restart_at = self.now + RESTART_SECONDS

    def _restart(self, unit: Unit) -> None:
        """RestartSec is over, or a start job has waited long enough."""
        unit.restart_at = None
        unit.begun = [at for at in unit.begun if self.now - at < START_LIMIT_SECONDS]
        if len(unit.begun) >= START_LIMIT:
            unit.become("failed", self.now)
            return
        unit.restarts += unit.state == "activating"
        self._boot(unit)

    # -- processes and units ------------------------------------------------------------------------------------

    def processes(self) -> list[Process]:
        """All live processes, on this host and elsewhere."""
        own = [u.process for u in self.units.values() if u.process is not None]
        return [*own, *self.elsewhere]

    def schedulers(self) -> list[Process]:
        """The processes that push cron jobs now."""
        return [p for p in self.processes() if p.schedules(self.now)]

    def _boot(self, unit: Unit) -> None:
        if unit.key == SCHEDULER:
            scheduler = self.rendered_policy.scheduler
            digest = scheduler_digest(scheduler)
            queues: tuple[tuple[str, int], ...] = tuple((q, 1) for q in scheduler.queues)
            threads, pool, weighted = scheduler.threads, scheduler.db_pool, False
        else:
            profile = self.rendered_policy.profile_of(unit.key) or self.left_over.get(unit.key)
            assert profile is not None
            digest = instance_digest(profile)
            queues, threads, pool = profile.queues, profile.threads, profile.db_pool
            weighted = profile.order == "weighted"
        unit.process = self._process(self.policy.host, unit.key, threads, pool, queues, weighted, digest)
        unit.process.mute = unit.key in self.mute
        unit.process.ready_at += self.slow_boots.get(unit.key, 0.0)
        unit.invocation, unit.result = self._pid, "success"
        unit.begun.append(self.now)
        unit.become("activating", self.now)

    def _process(
        self,
        host: str,
        key: InstanceKey | None,
        threads: int,
        pool: int,
        queues: tuple[tuple[str, int], ...],
        weighted: bool,
        digest: str = "0" * 8,
    ) -> Process:
        self._pid += 1
        tag, name = "", ""
        if key is not None:
            tag = str(WorkerTag(host=host, key=key, db_pool=pool, digest=digest))
            name = application_name(key, host)
        return Process(
            identity=f"{host}:{self._pid}:{self._pid:x}",
            hostname=host,
            pid=self._pid,
            tag=tag,
            threads=threads,
            db_pool=pool,
            queues=queues,
            weighted=weighted,
            started_at=self.now,
            ready_at=self.now + self.boot_seconds,
            name=name,
            code=self.code,
        )

    def appear(self, host: str, queues: str, *, threads: int = 5, key: InstanceKey | None = None) -> Process:
        """Add a process elsewhere, ready at once: a stock unit's or, with `key`, one rendered by another fleetd."""
        pairs = tuple((q, 1) for q in queues.split())
        process = self._process(host, key, threads, threads + 2, pairs, weighted=False)
        process.ready_at = self.now
        self.elsewhere.append(process)
        if self.redis_up:
            self._beat(process)
        return process

    def vanish(self, process: Process, *, killed: bool = False) -> None:
        """End a process elsewhere, with the jobs it works on. `killed`: its heartbeat stays until it expires."""
        self.elsewhere.remove(process)
        self.lost_otherwise += len(process.jobs)
        process.jobs = []
        process.alive = False
        if killed or not self.redis_up:
            self.ghosts.append(process)

    # -- orders to systemd (the same for fleetd and for people) -----------------------------------------------------

    def start(self, number: int) -> str:
        unit = self.units[number]
        if unit.state in {"active", "activating"}:
            return "skipped"
        if unit.state == "deactivating":
            return "failed"  # TransactionIsDestructive
        unit.restarts, unit.begun = 0, []
        if self.start_job_seconds:
            unit.restart_at = self.now + self.start_job_seconds
        elif number not in self.rendered:
            unit.become("failed", self.now)
        else:
            self._boot(unit)
        return "done"

    def quiet(self, number: int) -> str:
        process = self.units[number].process
        if process is None:
            return "refused"
        deaf = number in self.deaf or process.hung
        if process.is_ready(self.now) and not process.quiet and not deaf:
            process.quiet, process.quiet_since = True, self.now
        return "done"  # a TSTP during boot is lost

    def stop(self, number: int, *, by: str = "person") -> str:
        unit = self.units[number]
        process = unit.process
        unit.restart_at = None
        if process is None or not process.is_ready(self.now):
            if process is not None and number in self.loses_term:
                self.loses_term.remove(number)
                process.kill_at, process.stopped_by = self.now + SHUTDOWN_SECONDS + STOP_SLACK_SECONDS, by
                unit.job = "stop"
                unit.become("deactivating", self.now)
                return "done"
            if process is not None:
                process.alive = False
            unit.process, unit.job = None, ""
            if unit.state not in {"failed", "inactive"}:
                unit.become("inactive", self.now)
            return "done"
        if process.hung and not process.stuck:
            told = {jid for jid, _ in process.beat_jobs}
            process.untold = frozenset(job.jid for job in process.jobs) - told
            process.hung = False
        process.quiet = process.quiet or not process.hung
        if process.stop_at is None:
            process.stop_at, process.stopped_by = self.now + SHUTDOWN_SECONDS, by
            unit.become("deactivating", self.now)
        unit.job = "stop"
        if not process.jobs and not process.hung:
            self._exit(process)
        return "done"

    def render(self, rules: Policy) -> None:
        """fleetd-render with another configuration."""
        before, self.rendered_policy = self.rendered_policy, rules
        named = {n for profile in rules.profiles for n in profile.numbers}
        for number in named:
            self.units.setdefault(number, Unit(unit_of(number), number))
            self.rendered.add(number)
        owners: dict[int, Profile] = {**self.left_over}
        owners.update((n, p) for p in before.profiles for n in p.numbers)
        runs = {n for n, unit in self.units.items() if unit.state not in {"inactive", "failed"}}
        self.left_over = {n: p for n, p in owners.items() if n in runs - named}
        self.rendered &= named | {SCHEDULER} | self.left_over.keys()

    def restart(self, number: int) -> None:
        """`systemctl restart`: stop, then start once it is down."""
        self.stop(number)
        while self.units[number].state == "deactivating":
            self.advance(1.0)
        self.start(number)

    def restart_together(self, numbers: Iterable[int]) -> None:
        """One `systemctl restart` of several, as needrestart does."""
        for number in numbers:
            self.stop(number)
            unit = self.units[number]
            if unit.state == "deactivating":
                unit.job = "restart"
            else:
                self.start(number)

    def start_target(self, at_boot: Iterable[int] = ()) -> None:
        """`systemctl start mastodon-sidekiq.target`: it starts `at_boot`, as mastodon-workers-boot.service does."""
        self.target = "active"
        for number in at_boot:
            self.start(number)

    def stop_target(self) -> None:
        """`systemctl stop mastodon-sidekiq.target`: every worker is told to stop."""
        if self.target == "active":
            self.target, self.target_stopped_at = "inactive", self.now
        for number in self.units:
            self.stop(number)

    def kill_worker(self, number: int) -> None:
        """SIGKILL or the OOM killer: the jobs it ran are lost, through no fault of fleetd's."""
        unit = self.units[number]
        if unit.process is not None:
            self.lost_otherwise += len(unit.process.jobs)
            unit.process.jobs = []
            self._died(unit, Ending(cause=EndCause.SIGNAL, signal=9))

    def oom_kill(self, number: int) -> None:
        """The kernel's OOM killer picks this instance."""
        unit = self.units[number]
        if unit.process is not None:
            self.oom_kills_total += 1
            self.kill_worker(number)

    def hang(self, number: int, *, stuck: bool = False) -> None:
        process = self.units[number].process
        if process is not None and process.is_ready(self.now):
            process.hung, process.stuck = True, stuck

    def reset_failed(self, number: int) -> None:
        if self.units[number].state == "failed":
            self.units[number].become("inactive", self.now)

    def reboot(self, at_boot: tuple[int, ...] = ()) -> None:
        """The host crashes and comes back. systemd starts `at_boot`."""
        for number, unit in self.units.items():
            self.kill_worker(number)
            unit.process, unit.restart_at = None, None
            unit.state, unit.since = "inactive", self.now
        self.boot_id = f"boot-{int(self.now)}"
        self.target_stopped_at = None
        self.target = None if self.target is None else "active" if at_boot else "inactive"
        for number in at_boot:
            self.start(number)

    # -- Redis ------------------------------------------------------------------------------------------------------

    def enqueue(self, queue: str, jobs: int) -> None:
        self.enqueued += jobs
        for _ in range(jobs):
            self._jid += 1
            self.queues[queue].append(Job(queue, self.now, jid=f"{self._jid:024x}"))

    def redis_restarts_empty(self) -> None:
        """Data loss: queues and heartbeats are gone. Heartbeats come back one by one."""
        self.run_id = f"run-{int(self.now)}"
        for queue in self.queues.values():
            self.lost_otherwise += len(queue)
            queue.clear()
        self.ghosts = []
        for process in self.processes():
            process.listed = False

    def in_flight(self) -> int:
        return sum(len(p.jobs) for p in self.processes())

    def waiting(self) -> int:
        return sum(len(queue) for queue in self.queues.values())

    def accounted(self) -> bool:
        """Whether every job is accounted for."""
        return self.enqueued == self.done + self.waiting() + self.in_flight() + self.lost + self.lost_otherwise
