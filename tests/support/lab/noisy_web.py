"""A noisy web beside the fleet, on the same role and port, and what Postgres, the web and fleetd report meanwhile.

The web opens and closes connections, at most one a second, and holds between 10 and 40 of 60: first all the way up and
down, then at random. Nobody has declared it. Jobs come in surges that are more than the fleet could ever carry.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import psycopg

from fleetd.core.model.status import Status
from lab.jobs import load
from lab.jobs.lengths import Lengths
from lab.jobs.load import Load, Phase
from lab.setup import services
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet

MAX_CONNECTIONS = 60
LOW, HIGH = 10, 40
THREADS = 10
CLAIM = THREADS + 2
CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.only]
queues = ["default", "push"]
threads = {THREADS}
instances = "1-6"
min = 1
[memory]
instance = "100 MiB"
"""
#: Short jobs that spend a third of their time in a query.
JOBS = Lengths(0.3, 0.8, longest_seconds=3.0)


def surges(seconds: float) -> Load:
    """A minute of twice what usually fits, then half a minute of little, over and over."""
    phases: list[Phase] = []
    while sum(phase.seconds for phase in phases) < seconds:
        phases += [Phase(60.0, {"default": 75.0}), Phase(30.0, {"default": 2.0})]
    return Load(phases=tuple(phases), lengths=JOBS, query_share=0.3)


class NoisyWeb(threading.Thread):
    """Holds between LOW and HIGH connections. `refused`: what Postgres said when it gave none."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._chance = random.Random(seed)
        self._held: list[psycopg.Connection[Any]] = []
        self._over = threading.Event()
        self.refused: list[str] = []
        self.counts: list[tuple[float, int]] = []

    def take(self) -> None:
        try:
            with self._fleet.hosts.lab.network():
                self._held.append(
                    psycopg.connect(
                        host=self._fleet.main.address,
                        dbname=services.DATABASE,
                        user="mastodon",
                        password=services.DB_PASSWORD,
                        connect_timeout=int(PATIENCE_SECONDS),
                    )
                )
        except psycopg.OperationalError as error:
            self.refused.append(str(error))

    def run(self) -> None:
        goal = HIGH
        begun = time.monotonic()
        for step in range(100_000):
            if len(self._held) < goal:
                self.take()
            elif len(self._held) > goal:
                self._held.pop().close()
            else:
                goal = LOW if step < 100 and goal == HIGH else self._chance.randint(LOW, HIGH)
            self.counts.append((time.time(), len(self._held)))
            if self._over.wait(max(0.0, begun + step + 1.0 - time.monotonic())):
                break
        self.leave()

    def leave(self) -> None:
        while self._held:
            self._held.pop().close()

    def stop(self) -> None:
        """End it, started or not."""
        self._over.set()
        if self.is_alive():
            self.join()
        self.leave()


@dataclass
class Seen:
    """What was seen during a noisy time, sampled every half second."""

    statuses: list[tuple[float, Status]] = field(default_factory=list)
    clients_most: int = 0

    def instances(self) -> list[tuple[float, int]]:
        return [(at, s.profiles[0].running_instances or 0) for at, s in self.statuses]

    def longest_smaller_than_affordable_seconds(self) -> float:
        """The longest time in which fewer ran than were wanted, though limit − reserve − others had room for more."""
        longest, since = 0.0, None
        for at, status in self.statuses:
            c, own = status.connections, status.profiles[0]
            if c.limit_connections is None or c.reserve_connections is None or c.others_connections is None:
                since = None  # unknown: nothing may grow
                continue
            budget = c.limit_connections - c.reserve_connections - c.others_connections
            affordable = min(own.max_instances, max(own.min_instances, budget // CLAIM))
            short = (own.running_instances or 0) < min(affordable, own.needed_instances or 0)
            since = (since or at) if short else None
            longest = max(longest, at - since if since is not None else 0.0)
        return longest

    def means(self) -> str:
        others = [s.connections.others_connections for _, s in self.statuses]
        known = [n for n in others if n is not None]
        sizes = [n for _, n in self.instances()]
        return f"{fmean(sizes):.1f} instances on average ({min(sizes)} to {max(sizes)}), others {fmean(known):.0f}"


def too_many_clients(fleet: Fleet) -> int:
    """The refusals in Postgres's own log, whoever was refused."""
    log = fleet.main.read(f"/var/log/postgresql/postgresql-{services.postgres_version()}-main.log")
    return log.count("remaining connection slots are reserved") + log.count("too many clients")


def noisy_time(fleet: Fleet, seconds: float, seed: int = 1) -> tuple[Seen, NoisyWeb]:
    """Surges beside a noisy web, for this long."""
    web, seen = NoisyWeb(fleet, seed), Seen()
    for _ in range(LOW):
        web.take()
    fleet.wait("fleetd counts the web", lambda s: (s.connections.others_connections or 0) >= LOW)
    loader = load.start(fleet.main, surges(seconds))
    try:
        fleet.wait(
            "it has grown to what fits",
            lambda s: (s.profiles[0].serving_instances or 0) >= (MAX_CONNECTIONS - 3 - 10 - LOW) // CLAIM,
        )
        web.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seen.statuses.append((time.time(), fleet.status()))
            seen.clients_most = max(seen.clients_most, seen.statuses[-1][1].connections.open_connections or 0)
            time.sleep(0.5)
    finally:
        web.stop()
        loader.stop()
    return seen, web
