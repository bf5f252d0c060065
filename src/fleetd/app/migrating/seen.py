"""What a look at this host shows: the units that run Sidekiq now, fleetd, and what Redis says of both."""

from __future__ import annotations

from fleetd.core.model.facts import Value


class WorkerUnit(Value, frozen=True, kw_only=True):
    """One unit that runs Sidekiq for this Mastodon, with the heartbeat of its process."""

    name: str
    active: bool = False
    enabled: bool = False
    stop_seconds: float  # TimeoutStopSec=; infinity: none
    pid: int = 0  # of the process that beats; 0: none of its processes does
    loud_pids: tuple[int, ...] = ()  # those that take jobs, if systemd can't signal them as the unit's main process
    busy_threads: int = 0
    quiet: bool = False
    scheduler: bool = False  # it serves the queue `scheduler`

    @property
    def beats(self) -> bool:
        return self.pid > 0


class Seen(Value, frozen=True, kw_only=True):
    """Everything that the next step depends on. `problems`: what can't be read, so nothing is done."""

    old: tuple[WorkerUnit, ...]  # not fleetd's, in the order in which they go
    ours: tuple[WorkerUnit, ...]  # fleetd's instances and its scheduler that are active
    missing: tuple[str, ...] = ()  # of the units of before, those that systemd doesn't know any more
    entangled: tuple[str, ...] = ()  # what disabling or stopping an old unit would take with it, in words
    unstartable: tuple[str, ...] = ()  # units of fleetd's that it would not or could not start
    named: tuple[WorkerUnit, ...] = ()  # what has their names while fleetd's unit files are hidden
    aside: tuple[str, ...] = ()  # names of the files in KEPT
    hiding: tuple[str, ...] = ()  # files of somebody else's that hide fleetd's units
    rendered: bool = False
    fleetd_active: bool = False
    fleetd_enabled: bool = False
    target_enabled: bool = False
    target_stopped: bool = False  # in this boot, so fleetd starts nothing until it is started
    answers: bool = False  # fleetd answers on the bus, and reads all its sources
    why_not: str = ""
    observes: str = ""  # the file that says mode = "observe"; "": it says act
    daemon_observes: bool = False  # the fleetd that runs, by the configuration that it read last
    wanted_instances: int = 0  # min of all profiles
    serving_instances: int = 0
    held: str = ""  # why else fleetd starts nothing now
    pins: tuple[str, ...] = ()  # what a person's order keeps as it is: "scheduler" or a number
    scheduler_here: bool = True  # this host may start one
    scheduler_serves: bool = False  # fleetd's here does
    scheduler_says: str = ""  # fleetd's sentence about it
    schedulers_elsewhere: int = 0  # live on other hosts
    takeover_seconds: float = 20.0  # after which fleetd starts it here
    short_connections: int | None = 0  # that min would need besides what the old units have; 0: it fits; None: unknown
    problems: tuple[str, ...] = ()


class Record(Value, frozen=True, kw_only=True):
    """What a migration found when it began, for the way back. Kept where root alone writes."""

    enabled: tuple[str, ...] = ()  # old units that a boot started
    active: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()  # files that are in KEPT now, by where they were
