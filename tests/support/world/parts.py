"""Jobs, Sidekiq processes and systemd units of the simulated world."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleetd.core.model.facts import Ending
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import CLAIM_MARGIN_CONNECTIONS


@dataclass
class Job:
    queue: str
    enqueued_at: float
    finish_at: float = 0.0
    begun_at: float = 0.0
    jid: str = ""
    pushed_back: int = 0  # how often a stop by fleetd pushed it back


@dataclass
class Process:
    """One Sidekiq process. `tag` "": a stock unit's, which fleetd did not render."""

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
    stop_at: float | None = None  # after a TERM: when it pushes back unfinished jobs
    quiet_since: float | None = None
    stopped_by: str = ""
    untold: frozenset[str] = (
        frozenset()
    )  # its jobs that no heartbeat had named before it hung, so that nobody could know of them
    jobs: list[Job] = field(default_factory=list)
    opened: int = 0  # database connections, lazily
    beat_at: float | None = None
    beat_quiet: bool = False
    beat_work: Counter[str] = field(default_factory=Counter)
    listed: bool = False  # whether Redis has its heartbeat
    beat_jobs: tuple[tuple[str, float], ...] = ()  # jid and begin of each job, as of the last beat
    alive: bool = True
    hung: bool = False  # SIGSTOP, or stuck in C: no beat, no work, deaf to signals
    stuck: bool = False  # stuck in C: systemd's stop (which also sends SIGCONT) does not wake it
    kill_at: float | None = None  # it has lost the TERM of a stop: when systemd's SIGKILL comes
    mute: bool = False  # works, but beats with another tag, or not at all
    code: str = ""  # Mastodon's code on disk when it was started
    digest: str = ""
    resident_bytes: int | None = None  # None: the world's default

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
    """One unit, as systemd knows it."""

    name: str
    key: InstanceKey
    state: str = "inactive"  # inactive activating active deactivating failed
    since: float = 0.0
    process: Process | None = None
    restart_at: float | None = None
    restarts: int = 0  # by systemd, since it was last started (NRestarts)
    begun: list[float] = field(default_factory=list)  # times of starts within the start limit's interval
    invocation: int = 0
    result: str = "success"
    ending: Ending | None = None  # of its last process
    job: str = ""  # of the job that systemd has for it

    def become(self, state: str, now: float) -> None:
        """Change the state or sub-state. A unit that boots again stays `activating`, but `since` begins anew."""
        self.state, self.since = state, now
