"""What fleetd reports: one Status per tick, from which `fleetctl status`, the metrics and the log are made.

All three are made from this value, so they always say the same (law 8).
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.decision import Verb
from fleetd.core.model.facts import EndCause, Ending, FailingClass, HostPressure, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Mode
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import LimitSet
from fleetd.core.model.reasons.units import ReplaceCause

#: drain: quiet, wait until it is idle, stop. replace: one at a time.
WouldVerb = Literal["start", "drain", "stop", "replace"]


class SourceStatus(Value, frozen=True, kw_only=True):
    """One source of readings."""

    name: Literal["redis", "postgres", "pgbouncer", "replica", "systemd", "host"]
    ok: bool
    age_seconds: float | None  # of the last good reading; None: none yet
    why: str = ""  # when not ok
    errors_total: int = 0


class QueueStatus(Value, frozen=True, kw_only=True):
    name: str
    latency_seconds: float | None  # None: unknown
    target_seconds: float | None  # None: it may wait for ever
    length_jobs: int | None
    busy_threads: int | None
    need_threads: float | None  # as estimated; None: unknown


class DeathsStatus(Value, frozen=True, kw_only=True):
    """Ends of an instance's processes in the last hour that nobody ordered, without those that lose no job."""

    deaths: int
    at_least: bool  # there were more, which are not remembered one by one
    last_age_seconds: float
    last: Ending


class DeathCount(Value, frozen=True, kw_only=True):
    """How many processes ended so since the host's boot. `profile`: "scheduler" for the scheduler's."""

    profile: str
    cause: EndCause
    deaths: int


class JobsStatus(Value, frozen=True, kw_only=True):
    """Jobs of the whole fleet, over all queues, as Sidekiq counts them; None: unknown. Nothing is decided by it."""

    processed_per_second: float | None = None  # over the last minute; all that ended, failed ones included
    failed_per_second: float | None = None
    processed_jobs_total: int | None = None
    failed_jobs_total: int | None = None
    retry_jobs: int | None = None  # that wait for another try
    dead_jobs: int | None = None  # that were given up
    scheduled_jobs: int | None = None  # that wait for their time
    failing_classes: tuple[FailingClass, ...] | None = None  # of the last whole minute; None: as before Sidekiq 7


class InstanceStatus(Value, frozen=True, kw_only=True):
    number: int
    profile: str
    state: str  # an InstanceState
    busy_threads: int | None
    threads: int
    resident_bytes: int | None
    state_age_seconds: float | None
    note: str = ""  # "pinned by hand until …", "draining: 2 jobs left"
    died: DeathsStatus | None = None  # None: not in the last hour
    configured: bool = True  # False: fleetd.toml names it no more, so it is drained; its profile may have gone as well


class ClampStatus(Value, frozen=True, kw_only=True):
    """One change of a count: from what, to what, and a sentence that says why."""

    code: ClampCode
    sentence: str
    profile: str = ""  # "": not about one profile
    before_instances: int | None = None
    after_instances: int | None = None


class StepStatus(Value, frozen=True, kw_only=True):
    """One thing that was done to a unit of this host, and how that went."""

    verb: Verb
    unit: str
    result: Literal["done", "failed", "refused", "timeout", "skipped"]
    why: str
    sentence: str = ""  # what systemd said, where it was not done


class WouldStatus(Value, frozen=True, kw_only=True):
    """What fleetd would do to these units, for one reason, if it did not only observe."""

    verb: WouldVerb
    keys: tuple[InstanceKey, ...]  # at least one
    why: str
    profile: str = ""  # "": the scheduler's, or several profiles'


class ProfileStatus(Value, frozen=True, kw_only=True):
    name: str
    order: str
    queues: tuple[str, ...]
    running_instances: int | None  # serving or starting; None: systemd can't be read
    serving_instances: int | None
    admitted_instances: int | None  # after clamps; None: no decision yet
    needed_instances: int | None
    min_instances: int
    max_instances: int
    clamps: tuple[ClampStatus, ...]
    clamps_before_admission: int | None = None  # this many led to admitted_instances; the rest keep running below it


class ConsumerStatus(Value, frozen=True, kw_only=True):
    """Somebody else's connections on one source: as seen, or as the configuration declares."""

    name: str
    observed_connections: int | None  # None: a declaration that can't be matched to what is seen
    declared_connections: int | None  # None: not declared


class ClaimStatus(Value, frozen=True, kw_only=True):
    """What instances of one profile on one host may open.

    `profile`: "scheduler"; "not configured" for a number of this host that was never fleetd's; "": unknown.
    `configured` False: fleetd rendered them, and the configuration names their numbers no more.
    """

    host: str
    profile: str
    instances: int
    connections: int
    configured: bool = True


class ConnectionSourceStatus(Value, frozen=True, kw_only=True):
    """One thing that limits connections, with its arithmetic: limit − reserve − others − claims = headroom."""

    name: Literal["postgres", "pgbouncer", "replica"]
    limit_connections: int
    reserve_connections: int
    others_connections: int  # as counted: the greatest of seen plus its rise, peak and declared
    others_seen_connections: int
    others_peak_connections: int  # the fading peak
    others_declared_connections: int  # plus what Sidekiq processes that fleetd did not render may open
    others_bound_connections: int  # growth is checked against it, where ours can't be told from others'
    claims_connections: int
    headroom_connections: int
    open_connections: int  # all clients, now
    consumers: tuple[ConsumerStatus, ...] = ()
    binds: bool = False  # whether this is the tightest source
    refused: bool = False
    exact: bool = True  # False: the count of others is an upper bound
    pool_connections: int | None = None  # PgBouncer's pool for Mastodon: its size …
    active_servers: int | None = None  # … how many of it are at work …
    waiting_clients: int | None = None  # … and who waits for one
    longest_wait_seconds: float | None = None
    limit_set: LimitSet = LimitSet()  # where the limit comes from


class ConnectionStatus(Value, frozen=True, kw_only=True):
    """The tightest source in the first fields; all of them in `sources`."""

    limit_connections: int | None  # None, here and below: unknown now
    reserve_connections: int | None
    others_connections: int | None
    claims_connections: int | None
    headroom_connections: int | None  # limit − reserve − others − claims, not below 0
    open_connections: int | None  # all clients, as Postgres counts them now
    sources: tuple[ConnectionSourceStatus, ...] = ()
    claims: tuple[ClaimStatus, ...] = ()
    more_instances: dict[str, int] = {}  # by profile: how many more the headroom allows if it gets all of it
    claim_per_instance: dict[str, int] = {}  # by profile
    unattributable: str = ""  # why ours can't be told from others', and the line to declare
    saturation: str = ""  # why more workers would not help; "": they would


class SchedulerStatus(Value, frozen=True, kw_only=True):
    processes: int | None  # live processes on the queue; None: unknown
    where: tuple[str, ...]  # host names as their heartbeats say
    sentence: str
    unit_state: str = ""  # of the unit on this host
    died: DeathsStatus | None = None  # of the one on this host; None: not in the last hour


HoldKind = Literal["pause", "maintenance", "upgrade", "quieted", "units", "stopped"]


class HoldStatus(Value, frozen=True, kw_only=True):
    """Why nothing moves of its own accord."""

    kind: HoldKind
    sentence: str  # what, why, and how it ends
    seconds_left: float | None = None  # None: until somebody acts


#: Follows the profile in `what` of a count that all hosts have together.
ON_ALL = " on all hosts"


class OverrideStatus(Value, frozen=True, kw_only=True):
    """A person's order in force; each one expires (law 7)."""

    kind: Literal["pause", "maintenance", "set", "pin"]
    what: str  # "fleet", "all hosts", a profile's name, the same and ON_ALL, "@3" or "scheduler"
    sentence: str  # "stopped by hand", "4 instances", the reason of a pause
    seconds_left: float


class RolloutStatus(Value, frozen=True, kw_only=True):
    """A replacement of instances one by one: under way, or ended within the last hour."""

    cause: ReplaceCause
    total_instances: int
    done_instances: int
    current: str  # "@3" while one is being replaced
    sentence: str  # what it does or waits for, or why it was given up
    ended: Literal["", "done", "given_up"] = ""


class FleetHostStatus(Value, frozen=True, kw_only=True):
    """One host of the fleet, as it told the leader. None: this host does not lead, so it is not told."""

    host: str
    silent_seconds: float | None = None  # since its last beat
    tick_seconds: float | None = None  # between its ticks; one that ticks slowly is silent for longer
    gone: bool = False  # nothing of it is left
    instances: int | None = None  # capacity, now or soon
    claims_connections: int | None = None  # of the source that it claims most of
    cores: int | None = None
    held: str = ""  # the code of what holds it; "": nothing
    fleetd: str = ""  # its version
    mastodon: str = ""  # of its code on disk


class FleetStatus(Value, frozen=True, kw_only=True):
    """What several hosts share."""

    leader: str  # "": none now
    leads: bool  # this host does
    hosts: tuple[FleetHostStatus, ...]
    generation: int  # how often every host was asked again what it runs
    gathering: tuple[str, ...] | None  # whose answer is waited for; None: nothing is gathered
    scheduler_host: str  # which holds the scheduler; "": none
    problem: str = ""  # why the ledger can't be used; "": it can
    differences: tuple[str, ...] = ()  # settings in which hosts differ from the leader's
    untold: tuple[str, ...] = ()  # hosts whose workers beat and of which the fleet is told nothing


class Event(Value, frozen=True, kw_only=True):
    """Something fleetd did or noticed."""

    age_seconds: float
    sentence: str


class Status(Value, frozen=True, kw_only=True):
    """Everything of one tick; JSON of this is `fleetctl status --json`."""

    version: str
    host: str
    uptime_seconds: float
    tick_age_seconds: float
    tick_duration_seconds: float
    ticks_total: int
    sources: tuple[SourceStatus, ...]
    queues: tuple[QueueStatus, ...]
    profiles: tuple[ProfileStatus, ...]
    instances: tuple[InstanceStatus, ...]
    connections: ConnectionStatus
    scheduler: SchedulerStatus
    memory_available_bytes: int | None
    memory_total_bytes: int | None
    clamps: tuple[ClampStatus, ...]  # all, including those without a profile
    step_results: tuple[StepStatus, ...]  # of this tick
    last_events: tuple[Event, ...]  # bounded, newest last
    next_sentence: str  # what it will do next, or what it waits for
    summary: str  # the STATUS line: one sentence
    warnings: tuple[str, ...] = ()  # what readings show to be wrong: dead heartbeats, wrong clocks, …
    ghost_heartbeats: int | None = None  # of processes that no longer live; None: Redis is unknown
    problems: tuple[str, ...] = ()  # things that need a person: a configuration refused at reload, …
    holds: tuple[HoldStatus, ...] = ()
    overrides: tuple[OverrideStatus, ...] = ()
    rollout: RolloutStatus | None = None
    mastodon_version: str = ""  # of the code on disk; "": unknown
    pressure: HostPressure | None = None
    jobs: JobsStatus = JobsStatus()
    mode: Mode = "act"
    would: tuple[WouldStatus, ...] = ()  # while it only observes
    tick_failures_total: int = 0  # ticks that a bug ended; they start and stop nothing
    deaths: tuple[DeathCount, ...] = ()  # of every profile and cause
    fleet: FleetStatus | None = None  # None: no ledger is shared
