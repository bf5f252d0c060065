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
    is_main_pid: bool = True  # False: a wrapper is the main process, and gets the signals instead
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
    named: tuple[WorkerUnit, ...] = ()  # what has their names while fleetd's unit files are hidden
    aside: bool = False  # files that hid them are put aside
    hiding: tuple[str, ...] = ()  # files of somebody else's that hide fleetd's units
    rendered: bool = False
    fleetd_active: bool = False
    fleetd_enabled: bool = False
    target_enabled: bool = False
    answers: bool = False  # fleetd answers on the bus, and reads all its sources
    why_not: str = ""
    wanted_instances: int = 0  # min of all profiles
    serving_instances: int = 0
    scheduler_here: bool = True  # this host is to start one
    takeover_seconds: float = 20.0  # after which fleetd starts it here
    schedulers: int | None = None  # live in the whole fleet; None: unknown
    short_connections: int = 0  # that min would need besides what the old units have; 0: it fits
    problems: tuple[str, ...] = ()


class Record(Value, frozen=True, kw_only=True):
    """What a migration found when it began, for the way back. Kept where root alone writes."""

    enabled: tuple[str, ...] = ()  # old units that a boot started
    active: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()  # files that are in KEPT now, by where they were
