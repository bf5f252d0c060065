"""What the hosts of a simulated fleet share: one Redis and one Postgres.

Time is the world's: every host has its own clock (host.py), and so has the server of Redis, which may jump. Heartbeats
expire by that clock, as in Redis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import structs

from fleetd.core.fleet.calls import Server
from fleetd.core.model.policy_tables import Policy
from tests.support.world.parts import Process
from tests.support.world.world import BEAT_SECONDS, GHOST_SECONDS, World

#: How long Postgres keeps the connections of a host that lost its power.
LINGER_SECONDS = 400.0


class SharedWorld(World):
    """Redis, Postgres, and processes on hosts without fleetd (`elsewhere`). `hosts`: the hosts' own worlds."""

    def __init__(self, rules: Policy, *, now: float, seed: int = 0) -> None:
        super().__init__(structs.replace(rules, profiles=()), seed=seed, now=now)
        self.units = {}
        self.queues = {queue: deque() for profile in rules.profiles for queue, _ in profile.queues}
        self.queues["scheduler"] = deque()
        self.hosts: list[World] = []
        self.wall_ahead_seconds = 0.0  # of the server's clock, beside the workers'
        self.expiries: dict[str, float] = {}  # of heartbeats, by the server's clock
        self.lingering: dict[str, tuple[Process, float]] = {}  # of hosts without power: by identity, and until when
        self.late: list[tuple[float, Callable[[], object]]] = []  # commands that are still on their way
        self.runs = 1

    @property
    def wall_seconds(self) -> float:
        """The server's clock."""
        return self.now + self.wall_ahead_seconds

    @property
    def server(self) -> Server:
        return Server(time_ms=round(1000 * self.wall_seconds), run_id=self.run_id)

    def processes(self) -> list[Process]:
        lingering = [process for process, _ in self.lingering.values()]
        return [*self.elsewhere, *lingering, *(p for host in self.hosts for p in host.processes())]

    def step(self) -> None:
        """A second of everything that no host's freeze stops."""
        self.now += 1.0
        for queue, rate in self.rates.items():
            self._owed[queue] = self._owed.get(queue, 0.0) + rate
            whole = int(self._owed[queue])
            self._owed[queue] -= whole
            self.enqueue(queue, whole)
        for process in self.elsewhere:
            self._step_process(process)
        due = [effect for at, effect in self.late if at <= self.now]
        self.late = [(at, effect) for at, effect in self.late if at > self.now]
        for effect in due:
            effect()
        self.lingering = {k: entry for k, entry in self.lingering.items() if entry[1] > self.now}
        self.expire()

    def expire(self) -> None:
        """Forget the heartbeats whose time is over by the server's clock."""
        over = {identity for identity, at in self.expiries.items() if at <= self.wall_seconds}
        if not over:
            return
        for process in (*self.processes(), *self.ghosts):
            if process.identity in over:
                process.listed = False
        self.expiries = {k: at for k, at in self.expiries.items() if k not in over}
        self.ghosts[:] = [ghost for ghost in self.ghosts if ghost.listed]

    def beaten(self, process: Process) -> None:
        """A process has written its heartbeat."""
        self.expiries[process.identity] = self.wall_seconds + GHOST_SECONDS

    def _beat(self, process: Process) -> None:
        super()._beat(process)
        self.beaten(process)

    def jump(self, seconds: float) -> None:
        """The clock of Redis's server is set."""
        self.wall_ahead_seconds += seconds
        self.clock_ahead_seconds = -self.wall_ahead_seconds  # so do the workers' clocks look beside it
        self.expire()

    def another_server(self) -> None:
        """Redis was restarted, or a replica promoted."""
        self.runs += 1
        self.run_id = f"run-{self.runs}"

    def loses_everything(self) -> None:
        """FLUSHALL, or a restart without a dump: queues and heartbeats are gone. Those that live beat again."""
        for queue in self.queues.values():
            self.lost_otherwise += len(queue)
            queue.clear()
        for process in (*self.processes(), *self.ghosts):
            process.listed = False
        self.expiries.clear()
        self.ghosts.clear()

    def loses_beats(self, seconds: float) -> None:
        """A failover: heartbeats of the last seconds did not reach the replica."""
        for process in self.processes():
            beat = process.beat_at
            if beat is not None and self.now - beat <= seconds and beat - process.ready_at < BEAT_SECONDS:
                process.listed = False  # its first one

    @property
    def all_accounted(self) -> bool:
        """Whether every job is accounted for."""
        worlds = [self, *self.hosts]
        ended = sum(world.done + world.lost + world.lost_otherwise for world in worlds)
        return self.enqueued == ended + self.waiting() + self.in_flight()
