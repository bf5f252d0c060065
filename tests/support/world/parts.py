"""Jobs, Sidekiq processes and systemd units of the simulated world."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import CLAIM_MARGIN_CONNECTIONS


@dataclass
class Job:
    queue: str
    enqueued_at: float
    finish_at: float = 0.0
    begun_at: float = 0.0
    jid: str = ""
    pushed_back: int = 0  # by a stop of fleetd's


@dataclass
class Process:
    """One Sidekiq process; `tag` "" is a stock one that fleetd did not render."""

    identity: str
    hostname: str
    pid: int
    tag: str
    threads: int
    db_pool: int
    queues: tuple[tuple[str, int], ...]
    weighted: bool
    started_at: float
    ready_at: float
    name: str = ""  # application_name of its connections
    quiet: bool = False
    stop_at: float | None = None  # TERM taken: when it pushes back what is unfinished
    quiet_since: float | None = None
    stopped_by: str = ""
    untold: frozenset[str] = frozenset()  # its jobs that no heartbeat had named before it hung: nobody could know
    jobs: list[Job] = field(default_factory=list)
    opened: int = 0  # database connections, lazily
    beat_at: float | None = None
    beat_quiet: bool = False
    beat_work: Counter[str] = field(default_factory=Counter)
    listed: bool = False  # whether Redis has its heartbeat
    beat_jobs: tuple[tuple[str, float], ...] = ()  # jid and begin, as of the last beat
    alive: bool = True
    hung: bool = False  # SIGSTOP, or stuck in C: no beat, no work, deaf to signals
    stuck: bool = False  # the latter: systemd's stop (which sends SIGCONT, too) does not wake it
    mute: bool = False  # works, but beats with another tag, or not at all
    code: str = ""  # of Mastodon, as it was on disk when it was started
    digest: str = ""
    resident_bytes: int | None = None  # None: as the world's others

    @property
    def claim(self) -> int:
        wanted = self.threads + CLAIM_MARGIN_CONNECTIONS
        return min(self.db_pool, wanted) if self.tag else wanted

    def is_ready(self, now: float) -> bool:
        return self.alive and now >= self.ready_at

    def schedules(self, now: float) -> bool:
        """Whether it pushes cron jobs: a TSTP or TERM ends that at once."""
        on_queue = any(queue == "scheduler" for queue, _ in self.queues)
        return on_queue and self.is_ready(now) and not self.quiet and self.stop_at is None


@dataclass
class Unit:
    """One unit as systemd has it."""

    name: str
    key: InstanceKey
    state: str = "inactive"  # inactive activating active deactivating failed
    since: float = 0.0
    process: Process | None = None
    restart_at: float | None = None
    restarts: int = 0  # by systemd, since it was last started (NRestarts)
    begun: list[float] = field(default_factory=list)  # starts within the interval of the start limit
    invocation: int = 0
    result: str = "success"
    killed_by_signal: int = 0

    def become(self, state: str, now: float) -> None:
        """A change of state or of sub-state: from one boot to the next it is `activating` all along, and young."""
        self.state, self.since = state, now
