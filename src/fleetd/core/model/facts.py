"""What was read: readings of Sidekiq, the database, systemd and the host, as plain values.

Law 3 is kept here: a reading is ``Known`` with its age, or ``Unknown`` with the reason. Absent is never zero and old is
unknown, so nothing below has a default that could pass for a measurement.

All times are seconds. ``*_age_seconds`` count back from the moment of the snapshot; ``now_seconds`` is the host's
CLOCK_BOOTTIME, so it goes on during a suspend and never jumps with the wall clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from fleetd.core.model.identity import SCHEDULER, TEMPLATE_UNIT, InstanceKey, unit_of

T = TypeVar("T")


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all plain values: immutable, named fields, JSON by msgspec.

    Not tracked by the garbage collector: an immutable value is never part of a reference cycle.
    """


class Known(Value, Generic[T], frozen=True, kw_only=True, tag="known"):
    """A reading that arrived."""

    value: T
    age_seconds: float = 0.0


class Unknown(Value, frozen=True, kw_only=True, tag="unknown"):
    """No reading: why, as a sentence for the operator (no secrets)."""

    why: str


#: A job is young in a heartbeat if it began less than this before it. This is the time between two of Sidekiq's beats,
#: so each job that runs that long is young in one heartbeat.
YOUNG_SECONDS = 10.0


class QueueFacts(Value, frozen=True, kw_only=True):
    """One Sidekiq queue: the list ``queue:<name>``. Each field is unknown for itself.

    A source gives length and age. The threads are counted from the processes that live (core/evidence).
    """

    name: str
    length_jobs: int
    #: How long the oldest job has waited, by Redis's clock; 0.0: the queue is empty; None: unknown. As a source gives
    #: it, it is below 0 where the clock of the host that enqueued the job runs ahead.
    latency_seconds: float | None
    busy_threads: int | None = None  # at work on a job of this queue, over all processes, at their last beat
    #: How many of those have a job that began less than YOUNG_SECONDS before that beat; None: unknown.
    young_threads: int | None = None


class RunningJob(Value, frozen=True, kw_only=True):
    """One job that a process works on, as of its last beat."""

    jid: str  # Sidekiq's id of the job, kept when it is pushed back; "": could not be read
    run_age_seconds: float  # by the process's clock until core/evidence has set it right
    job_class: str = ""  # the name of the job's class; "": could not be read


class ProcessFacts(Value, frozen=True, kw_only=True):
    """One Sidekiq process, from its heartbeat. Ages are by its own clock, until core/evidence has set them right."""

    identity: str  # hostname:pid:nonce
    hostname: str
    pid: int
    tag: str  # Sidekiq's -g; ours: see identity.py
    version: str  # "" before Sidekiq 7
    threads: int  # concurrency, over all capsules
    busy_threads: int
    quiet: bool
    queues: frozenset[str]  # over all capsules
    beat_age_seconds: float
    started_age_seconds: float
    resident_bytes: int | None  # None: this version does not say
    jobs: tuple[RunningJob, ...] = ()  # those that could be read, oldest first
    #: Threads at work on each queue at the last beat; None: not all of its running jobs were read.
    busy_by_queue: dict[str, int] | None = None
    young_by_queue: dict[str, int] = {}  # see QueueFacts.young_threads
    without_jobs: bool = False  # its running jobs were not asked for, so what they are is unknown
    own_key: InstanceKey | None = None  # a heartbeat without a tag that is of this unit all the same (core/evidence)
    clock_ahead_seconds: float = 0.0  # by which core/evidence has set its ages right
    stalled: bool = False  # it lives but finishes nothing, so it is no capacity (core/evidence)

    @property
    def oldest_run_age_seconds(self) -> float | None:
        """Of its running jobs; None: it is idle, or none could be read."""
        return self.jobs[0].run_age_seconds if self.jobs else None


class KeyFault(Value, frozen=True, kw_only=True):
    """A Redis key that could not be understood, so what it says is unknown."""

    key: str
    why: str


class FailingClass(Value, frozen=True, kw_only=True):
    """A class of jobs of which some failed in one minute."""

    name: str  # "": could not be read, or of several such classes together
    failed_jobs: int
    processed_jobs: int | None  # all that ended, failed ones included; None: unknown


class SidekiqFacts(Value, frozen=True, kw_only=True):
    """One reading of everything Sidekiq keeps in Redis.

    ``queues`` lacks a queue whose length could not be read (then ``faults`` names it): unknown, not empty.
    """

    now_seconds: float = 0.0  # Redis's clock, Unix time
    queues: dict[str, QueueFacts]
    processes: tuple[ProcessFacts, ...]
    processed_jobs_total: int | None
    failed_jobs_total: int | None
    processes_complete: bool = True  # False: some heartbeat was unreadable, so "nobody serves X" can't be said
    faults: tuple[KeyFault, ...] = ()
    redis_run_id: str = ""  # changes on restart and failover
    writable: bool | None = None  # whether Redis takes writes; None: this user may not write. See law 4
    #: Of the last job that sidekiq-scheduler enqueued; None: it keeps no record, or that could not be read.
    scheduled_age_seconds: float | None = None
    endpoint: str = ""  # where this was read, for people
    workers_endpoint: str = ""  # where Mastodon's settings say that workers connect to, if that is another place
    # What follows is shown only; nothing is decided by it.
    retry_jobs: int | None = None  # that wait for another try
    dead_jobs: int | None = None  # that were given up
    scheduled_jobs: int | None = None  # that wait for their time
    #: Those of the last whole minute, by most failures; None: unknown, as always before Sidekiq 7.
    failing_classes: tuple[FailingClass, ...] | None = None


class Consumer(Value, frozen=True, kw_only=True):
    """Clients that are shown as one: with the same role, address and application name, or in the same pool."""

    name: str  # "mastodon from 10.0.0.1 (puma)"
    connections: int


class DatabaseFacts(Value, frozen=True, kw_only=True):
    """Connections of one Postgres cluster: the primary, or a replica that Mastodon reads from.

    ``others_connections``: client backends that are neither our workers (by application_name) nor fleetd's own.
    Source of the headroom formula: PostgreSQL documentation, "Connections and Authentication".
    """

    max_connections: int
    reserved_connections: int  # superuser_reserved_connections + reserved_connections (PostgreSQL 16+)
    role_limit_connections: int | None  # rolconnlimit; None: unlimited
    database_limit_connections: int | None  # datconnlimit; None: unlimited
    client_connections: int  # all client backends of the cluster
    role_connections: int
    database_connections: int
    worker_connections: dict[str, int]  # application_name of ours (mastodon-sidekiq@N[.host]) to open connections
    own_connections: int  # fleetd's
    refused: bool = False  # SQLSTATE 53300: headroom is zero, not unknown; the numbers above are then the last good
    consumers: tuple[Consumer, ...] = ()  # of others' connections, most first, bounded
    exact: bool = True  # False: this role may not see the kind of every backend, so clients are an upper bound
    active_backends: int | None = None  # of Mastodon's role, within a query; None: hidden
    stalled_backends: int | None = None  # those of them that wait for a lock, I/O or a buffer; None: hidden
    pooled: bool = False  # a pooler answered, not Postgres itself: names of workers don't come through
    identity: str = ""  # the same for every host that reads this server, whatever it calls it; "": unknown

    @property
    def others_connections(self) -> int:
        """Client connections that are not ours by name."""
        return max(0, self.client_connections - sum(self.worker_connections.values()) - self.own_connections)


class PoolFacts(Value, frozen=True, kw_only=True):
    """One pool of PgBouncer: a database and a user (SHOW POOLS, SHOW DATABASES)."""

    database: str
    user: str
    client_connections: int  # cl_active + cl_waiting
    waiting_clients: int  # cl_waiting: they wait for a server connection
    longest_wait_seconds: float  # maxwait + maxwait_us
    active_servers: int  # sv_active: lent to a client now
    server_connections: int  # all that PgBouncer holds to Postgres for this pool
    size_connections: int  # the most it may hold, reserve_pool included


class PgBouncerFacts(Value, frozen=True, kw_only=True):
    """PgBouncer's client slots and the pools behind them (its admin console)."""

    client_limit_connections: int  # max_client_conn, or what Mastodon's database and user may have, if that is less
    client_connections: int  # used_clients, fleetd's own among them
    own_connections: int
    pools: tuple[PoolFacts, ...]  # without the console's own
    mastodon: tuple[str, str]  # database and user of Mastodon's pool, which is in `pools` once it was used
    #: A client's next query may go to a server connection that has not seen its prepared statements.
    forgets_statements: bool = False
    identity: str = ""  # the same for every host that reads this PgBouncer; "": unknown
    refused: bool = False  # no more clients: headroom is zero; the numbers above are then the last good

    @property
    def mastodon_pool(self) -> PoolFacts | None:
        """The pool that the workers use; None: nobody has used it yet."""
        return next((p for p in self.pools if (p.database, p.user) == self.mastodon), None)


class EndCause(StrEnum):
    """What ended a main process: the labels of fleetd_instance_deaths."""

    EXIT = "exit"  # nothing from outside: it exited
    SIGNAL = "signal"
    CORE_DUMP = "core_dump"  # it crashed
    OOM = "oom"
    TIMEOUT = "timeout"  # systemd: it took too long to get ready, or ran for too long
    WATCHDOG = "watchdog"  # systemd: it sent no sign of life
    UNKNOWN = "unknown"  # nobody looked when it ended, or it could not be started at all


class Ending(Value, frozen=True, kw_only=True):
    """How a main process ended, as systemd tells it."""

    cause: EndCause
    signal: int = 0  # that ended it; 0: none did
    exit_status: int | None = None  # None: it did not exit
    clean: bool = False  # it exited with 0 after READY, as Sidekiq does on SIGTERM once it has pushed its jobs back


#: systemd's Result of a unit whose start was skipped by its ExecCondition=. It is neither failed nor was it stopped.
SKIPPED: Final = "exec-condition"


class UnitFacts(Value, frozen=True, kw_only=True):
    """One systemd unit of ours (Manager.ListUnitsByPatterns and the unit's properties)."""

    name: str
    load_state: str
    active_state: str  # active reloading inactive failed activating deactivating
    sub_state: str
    result: str = "success"
    main_pid: int = 0
    restarts: int = 0
    state_age_seconds: float = 0.0  # since the last state change
    invocation_id: str = ""  # of the last start; each restart by systemd has a new one
    control_group: str = ""
    ending: Ending | None = None  # of its last main process, also after systemd has started the next; None: unknown
    need_daemon_reload: bool = False  # its unit file on disk is not the one that systemd has loaded
    #: The job that systemd has queued or runs for it: start, stop, restart, ...; "": none. A restart's is "restart"
    #: while it stops, then "start". While systemd itself stops a unit (RuntimeMaxSec=, OOMPolicy=) there is none.
    job: str = ""

    @property
    def skipped_age_seconds(self) -> float | None:
        """Since its own condition last refused a start; None: that is not what it ended with."""
        return self.state_age_seconds if self.active_state == "inactive" and self.result == SKIPPED else None


class TargetFacts(Value, frozen=True, kw_only=True):
    """mastodon-sidekiq.target, whose stop stops every worker of this host."""

    active_state: str
    job: str = ""  # as UnitFacts.job
    stopped_age_seconds: float | None = None  # since it was last stopped in this boot; None: it never was, or unknown


class SystemdFacts(Value, frozen=True, kw_only=True):
    """Our units as systemd shows them. A unit that is not listed is not loaded, and so is inactive.

    One whose start was skipped is listed until its next start, although systemd has unloaded it.
    """

    units: dict[InstanceKey, UnitFacts]
    polkit_runs: bool = True  # systemd asks it whether fleetd may
    target: TargetFacts | None = None  # None: not loaded


class RenderedSettings(Value, frozen=True, kw_only=True):
    """What fleetd-render wrote for one unit; its next start will use it."""

    profile: str  # SCHEDULER_PROFILE for the scheduler
    digest: str
    threads: int = 0  # 0: unknown
    db_pool: int = 0  # likewise


class HostPressure(Value, frozen=True, kw_only=True):
    """Shares of the last minute, 0 to 1 (kernel documentation, "PSI": /proc/pressure, avg60)."""

    memory_stalled_share: float  # memory "full": every task waited for memory
    cpu_waiting_share: float  # cpu "some": a task that could run waited for a core


class CodeStamp(Value, frozen=True, kw_only=True):
    """Mastodon's code on disk, as root's fleetd-stamp read it."""

    digest: str
    version: str = ""  # "4.5.3"; "": unknown


class UnitRule(StrEnum):
    """What a worker's unit has to be like (unit_rules/), by what is wrong with one that is not."""

    UNREADABLE = "unreadable"
    SETTINGS = "settings"
    SETTINGS_OPTIONAL = "settings_optional"
    SETTINGS_LATER = "settings_later"
    COMMANDS = "commands"
    ARGUMENTS = "arguments"
    OPTIONS = "options"
    PRIVILEGES = "privileges"
    SHELL = "shell"
    BETWEEN = "between"
    TYPE = "type"
    CONDITION = "condition"
    KILL_MODE = "kill_mode"
    SIGNAL = "signal"
    LEFT_OVER = "left_over"
    STOP_TIMEOUT = "stop_timeout"
    STOP_COMMAND = "stop_command"
    RESTART = "restart"
    OOM = "oom"
    WATCHDOG = "watchdog"
    RUNTIME = "runtime"
    CPU_TIME = "cpu_time"
    SYSTEM_CALL = "system_call"
    DEPENDENCY = "dependency"
    NOT_STEERED = "not_steered"
    USER = "user"
    DIRECTORY = "directory"


class UnitFault(Value, frozen=True, kw_only=True):
    """One thing in which a unit is not as fleetd needs it."""

    rule: UnitRule
    file: str  # the unit file or drop-in to mend
    write: str  # the line that mends it
    says: str = ""  # the line that is wrong; "": it is missing


class UnfitUnit(Value, frozen=True, kw_only=True):
    """A unit that fleetd does not run. `unit`: mastodon-sidekiq@.service stands for every instance without its own."""

    unit: str
    file: str  # the unit file that systemd uses
    foreign: bool  # that file is somebody else's; False: it is like ours, but changed
    faults: tuple[UnitFault, ...]


class HostFacts(Value, frozen=True, kw_only=True):
    """Memory of this host and of our units on it, and what is rendered there."""

    memory_available_bytes: int  # MemAvailable
    memory_total_bytes: int
    resident_bytes: dict[InstanceKey, int]  # of our units; absent: unknown, or it does not run
    rendered: dict[InstanceKey, RenderedSettings]
    pressure: HostPressure | None = None  # None: this kernel has no PSI
    load_per_core: float | None = None  # load average of the last minute; None: unknown
    cores: int | None = None  # that this host or container may use; None: unknown
    oom_kills_total: int | None = None  # processes the kernel killed for memory since boot; None: unknown
    code: CodeStamp | None = None  # None: not stamped
    #: By unit file (mastodon-sidekiq@.service): the digest of it and its drop-ins.
    unit_digests: dict[str, str] = {}
    #: Of the unit files alone, without drop-ins, wherever they are.
    file_digests: dict[str, str] = {}
    #: Of the unit files alone, where a package or an installation put them (below /usr), without drop-ins.
    shipped_digests: dict[str, str] = {}
    #: By pid: the unit of each process in a unit with `sidekiq` in its name, whoever it is of.
    sidekiq_units: dict[int, str] = {}
    #: By unit: those that are not as fleetd needs them, or are somebody else's.
    unfit_units: dict[str, UnfitUnit] = {}
    masked_units: tuple[str, ...] = ()  # systemd starts none of them; the template stands for every instance

    def masks(self, key: InstanceKey) -> str | None:
        """The unit whose mask keeps this one from starting; None: none does."""
        units = (unit_of(key),) if key == SCHEDULER else (unit_of(key), TEMPLATE_UNIT)
        return next((unit for unit in units if unit in self.masked_units), None)


Reading: TypeAlias = Known[T] | Unknown


class Snapshot(Value, frozen=True, kw_only=True):
    """All readings of one tick on one host."""

    host: str
    now_seconds: float  # CLOCK_BOOTTIME
    boot_id: str
    sidekiq: Known[SidekiqFacts] | Unknown
    database: Known[DatabaseFacts] | Unknown | None  # Postgres; None: not watched (PgBouncer alone)
    systemd: Known[SystemdFacts] | Unknown
    machine: Known[HostFacts] | Unknown
    pgbouncer: Known[PgBouncerFacts] | Unknown | None = None  # None: workers reach Postgres directly
    replica: Known[DatabaseFacts] | Unknown | None = None  # None: Mastodon reads from the primary only
