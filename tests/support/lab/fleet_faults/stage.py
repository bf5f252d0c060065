"""Plays faults on hosts that many of them share: each begins calm, under load, at a random moment, and ends calm."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from fleetd.core.model.status import Status
from lab import Host
from lab.faults import redis
from lab.jobs.load import Loader
from lab.observers.timeline import Timeline
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import FLEETCTL
from tests.support.lab.fleet_faults import laws, played
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.many_hosts import MIN, TAKEOVER_SECONDS, TICK_SECONDS, Many, counts, jobs_for

#: All instances' claims and a few more: not all that the hosts have numbers for.
MAX_CONNECTIONS = 64
CRON_SECONDS = 2.0
SIZES: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, "cron_seconds": CRON_SECONDS}
#: Within this time of a call for work fleetd is somewhere between its first start and the last drain.
PHASE_SECONDS = 20.0
FLOW_JOBS_PER_SECOND = 8.0
LONG_SECONDS = 20.0
#: Sidekiq's heartbeats live a minute, and only then has nobody seen the scheduler of a lost host.
GHOST_SECONDS = 60.0
TAKEN_OVER_SECONDS = GHOST_SECONDS + TAKEOVER_SECONDS + 6 * TICK_SECONDS + laws.SLACK_SECONDS
CALM_SECONDS = 2 * PATIENCE_SECONDS


Budget = Callable[[Timeline, Many], None]


def all_claims_fit(seen: Timeline, many: Many) -> None:
    """Where workers reach Postgres directly, all that they may open counts."""
    laws.within_budget(seen, many, MAX_CONNECTIONS)


@dataclass
class Play:
    """One fault on its hosts. `begun`: the monotonic time at which they were calm."""

    many: Many
    chance: random.Random
    begun: float
    within: Budget
    loader: Loader | None = None

    def seen(self) -> Timeline:
        """What observers saw since it began."""
        return self.many.observer.timeline().since(self.begun)

    def work(self) -> None:
        """Jobs flow, some long ones want more instances than run, and a random time passes."""
        if self.loader is None:
            self.loader = self.many.flow(3600, {"default": FLOW_JOBS_PER_SECOND})
        self.more_work()
        time.sleep(self.chance.uniform(0.0, PHASE_SECONDS))

    def more_work(self) -> None:
        """Long jobs for more instances than run."""
        running = sum(counts(self.many.observer.timeline(), self.many))
        self.many.enqueue("default", jobs_for(running + self.chance.randint(1, 4), LONG_SECONDS))

    def grow(self) -> float:
        """Wait until all run their `min`, so that there is room, and then for one to start, in the returned seconds."""
        least = sum(host.running for host in self.many.workers) * MIN
        self.many.see("there is room", lambda seen: sum(counts(seen, self.many)) <= least, CALM_SECONDS)
        known, asked = len(self.seen().starts()), time.monotonic()
        self.many.enqueue("default", jobs_for(least + 3, LONG_SECONDS))
        self.many.see("an instance starts", lambda seen: len(seen.since(self.begun).starts()) > known)
        return time.monotonic() - asked

    def judge(self) -> None:
        """No job was lost, and all that could be open fitted at any time (laws 2 and 4)."""
        if self.loader is not None:
            self.loader.stop()
        laws.no_job_lost(self.many.settled(timeout=2 * PATIENCE_SECONDS))
        self.within(self.seen(), self.many)

    # Who is who

    def leader(self) -> Host:
        """The host that leads, by its own word."""
        found = self.many.wait("one leads", lambda told: sum(_leads(s) for s in told.values()) == 1)
        return self.many.hosts.lab.hosts[next(name for name, status in found.items() if _leads(status))]

    def holder(self) -> Host:
        """The host with the scheduler, as seen."""
        [name] = self.many.observer.timeline().scheduler_hosts()
        return self.many.hosts.lab.hosts[name]

    def others(self, host: Host) -> list[Host]:
        """The other workers."""
        return [one for one in self.many.workers if one is not host]

    def order(self, host: Host, *words: str) -> str:
        """What fleetctl on a host answers."""
        return host.run([FLEETCTL, *words]).stdout

    # How it is before and after

    def calm(self) -> None:
        """Wait until every host works as if nothing had been, with its `min` and one scheduler in all."""
        many, workers = self.many, len(self.many.workers)
        redis.wait_ready(many.hosts)
        many.wait(
            "every fleetd knows the leader and nothing is gathered",
            lambda told: len(told) == workers and all(_in_order(s) for n, s in told.items() if n not in many.before),
            timeout=CALM_SECONDS,
        )
        many.see(
            "each host has its min, and one scheduler lives",
            lambda seen: counts(seen, many) == [MIN] * workers and len(seen.scheduler_hosts()) == 1,
            timeout=TAKEN_OVER_SECONDS + CALM_SECONDS,
        )
        many.wait(
            "every fleetd sees the scheduler",
            lambda told: [s.scheduler.processes for s in told.values()] == [1] * workers,
        )

    def bring_home(self) -> Host:
        """Let the host that is configured for it have the scheduler, as an admin would, and return that host."""
        home, holder = self.many.workers[0], self.holder()
        if holder is not home:
            self.order(home, "maintenance", holder.name, "--for", "1h")
            self.many.see("the scheduler is home", lambda seen: seen.scheduler_hosts() == [home.name], CALM_SECONDS)
            self.order(home, "maintenance", holder.name, "--end")
            self.calm()
        return home


Fault = Callable[[Play], Figures]


class Stage:
    """Hosts that are booted once the first fault is played, and anew after one that failed; if `fresh`, after each."""

    def __init__(
        self,
        setting: str,
        boot: Callable[[], AbstractContextManager[Many]],
        *,
        within: Budget = all_claims_fit,
        fresh: bool = False,
    ) -> None:
        self._setting = setting
        self._boot = boot
        self._within = within
        self._fresh = fresh
        self._stack = ExitStack()
        self._many: Many | None = None

    def play(self, fault: Fault, number: int) -> None:
        """Play it once, by the seed of this number, unless it has passed before."""
        name = fault.__name__.replace("_", " ") + (f", {self._setting}" if self._setting else "")
        with played.kept(name, number) as (chance, figures):
            try:
                if self._many is None:
                    self._many = self._stack.enter_context(self._boot())
                play = Play(self._many, chance, time.monotonic(), self._within)
                play.calm()
                play.begun = time.monotonic()
                figures.update(fault(play))
                play.judge()
                if not self._fresh:
                    play.calm()
            except BaseException:
                self.close()
                raise
        if self._fresh:
            self.close()

    def close(self) -> None:
        """End the hosts."""
        self._many = None
        self._stack.close()


def _leads(status: Status) -> bool:
    return status.fleet is not None and status.fleet.leads


def _in_order(status: Status) -> bool:
    fleet = status.fleet
    return fleet is not None and fleet.leader != "" and fleet.problem == "" and fleet.gathering is None
