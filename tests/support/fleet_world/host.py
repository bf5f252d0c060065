"""One host of a simulated fleet: its units, its clock, and what it can reach."""

from __future__ import annotations

from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import Policy
from tests.support.fleet_world.shared import LINGER_SECONDS, SharedWorld
from tests.support.world.parts import Process
from tests.support.world.world import World

#: CLOCK_BOOTTIME when fleetd's first tick can come after a boot.
BOOTED_SECONDS = 12.0
#: After about so long a silence the ledger may drop what is left of a host, if nothing is seen of it; and so long after
#: it lost what it knew, nobody waits for a host any more.
SILENT_SECONDS_MIN = 280.0


class HostWorld(World):
    """A host. `rate`: how fast its clock runs; `uptime`: what it shows at the beginning.

    A frozen host's processes and fleetd stand still, and its clock goes on. One without power has nothing left.
    """

    def __init__(self, policy: Policy, shared: SharedWorld, *, rate: float = 1.0, uptime: float = 50_000.0) -> None:
        super().__init__(policy, seed=len(shared.hosts), now=shared.now)
        self.shared = shared
        self.rate = rate
        self.booted_at, self.booted_with = shared.now, uptime
        self.boots = 1
        self.boot_id = f"{policy.host}-boot-1"
        self.queues = shared.queues
        self.ghosts = shared.ghosts
        self._pid = 1000 * (1 + len(shared.hosts))
        self.frozen_until: float | None = None
        self.powered = True
        self.cut_from_redis = self.cut_from_postgres = False
        #: Since when nobody hears of what runs here, though others may hear of each other.
        self.away_since: float | None = None
        self.by_fleetd: set[int] = set()  # units that fleetd started last, not a person or a boot
        #: The units that ran then are in the ledger; None: nothing of this host is, or it may have lost it.
        self.told_as_of: float | None = None
        self.told_missing = 0
        self.silent_seconds = 0.0
        self.untold_seconds: float | None = None  # since the ledger may have lost what it told
        self.last_away: tuple[float, float] = (0.0, 0.0)  # when it last came back from that, and after how long
        shared.hosts.append(self)
        self.link()

    @property
    def name(self) -> str:
        return self.policy.host

    @property
    def frozen(self) -> bool:
        return self.frozen_until is not None

    def boottime_seconds(self) -> float:
        """CLOCK_BOOTTIME."""
        return self.booted_with + self.rate * (self.now - self.booted_at)

    def link(self) -> None:
        """What this host reaches now."""
        shared = self.shared
        self.now = shared.now
        self.redis_up = shared.redis_up and not self.cut_from_redis
        self.redis_writable = shared.redis_writable
        self.postgres_up = shared.postgres_up and not self.cut_from_postgres
        self.postgres_refuses = shared.postgres_refuses
        alone = self.frozen or self.cut_from_redis
        if alone and self.away_since is None:
            self.away_since = self.now
        elif not alone and self.away_since is not None:
            self.last_away = self.now, self.now - self.away_since
            self.away_since = None
        if alone or not (self.redis_up and self.redis_writable):
            # An outage that begins within the 25 s of a proper stop can't be foreseen.
            for process in self.processes():
                if process.stop_at is not None and process.jobs:
                    process.stopped_by = "an outage"

    def step(self) -> None:
        """A second on this host."""
        self.link()
        if self.shared.redis_up and self.shared.redis_writable:
            self.silent_seconds += 1.0
            if self.untold_seconds is not None:
                self.untold_seconds += 1.0
                if self.untold_seconds > SILENT_SECONDS_MIN:
                    self.told_as_of = self.untold_seconds = None
        if self.frozen or not self.powered:
            return
        for unit in self.units.values():
            self._step_unit(unit)
        for process in self.processes():
            self._step_process(process)

    def _beat(self, process: Process) -> None:
        super()._beat(process)
        self.shared.beaten(process)

    def freeze(self, seconds: float) -> None:
        self.frozen_until = max(self.frozen_until or 0.0, self.now + seconds)
        self.link()

    def thaw(self) -> None:
        self.frozen_until = None
        self.link()

    @property
    def scheduler(self) -> Process | None:
        """Its scheduler, if that lives and is not told to end."""
        process = self.units[SCHEDULER].process
        ends = process is None or process.quiet or process.stop_at is not None
        return None if ends else process

    def told(self, seen: tuple[float, int] | None) -> None:
        """The ledger took a beat that tells what ran then, and what was missing to `min`."""
        self.told_as_of, self.told_missing = (None, 0) if seen is None else seen
        self.silent_seconds, self.untold_seconds = 0.0, None

    @property
    def silent(self) -> bool:
        """Whether the ledger may drop what is not seen of this host."""
        return self.silent_seconds > SILENT_SECONDS_MIN

    @property
    def missing_connections(self) -> int:
        """What may still be opened on the way up to `min`."""
        if not self.powered:
            return 0
        return sum(
            max(0, profile.min_instances - sum(self._serves(n) for n in profile.numbers)) * profile.claim_connections
            for profile in self.policy.profiles
        )

    def _serves(self, number: int) -> bool:
        unit = self.units[number]
        return unit.state in {"activating", "active"} and (unit.process is None or not unit.process.quiet)

    def start_by_hand(self, number: int) -> None:
        """A person starts a unit."""
        if self.start(number) == "done":
            self.by_fleetd.discard(number)

    def lose_power(self) -> None:
        """It stops for good, or for long. Postgres notices late."""
        for process in self.processes():
            self.lost_otherwise += len(process.jobs)
            process.jobs, process.alive = [], False
            self.shared.lingering[process.identity] = process, self.now + LINGER_SECONDS
        for unit in self.units.values():
            unit.process, unit.restart_at, unit.state = None, None, "inactive"
        self.powered = False
        self.thaw()

    def boot(self, *, scheduler: bool) -> None:
        """A crash and a boot, or power again. systemd starts each profile's `min`, and perhaps the scheduler."""
        at_boot = [n for p in self.policy.profiles for n in p.numbers[: p.min_instances]]
        self.thaw()
        self.reboot(tuple([*at_boot, SCHEDULER] if scheduler else at_boot))
        self.powered = True
        self.by_fleetd.clear()
        self.boots += 1
        self.boot_id = f"{self.name}-boot-{self.boots}"
        self.booted_at, self.booted_with = self.now, BOOTED_SECONDS
        own = {k for k, (p, _) in self.shared.lingering.items() if p.hostname == self.name}
        self.shared.ghosts.extend(p for k, (p, _) in self.shared.lingering.items() if k in own and p.listed)
        self.shared.lingering = {k: v for k, v in self.shared.lingering.items() if k not in own}
