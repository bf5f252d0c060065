"""Three workers with a fleetd each, for tests of what they do as one fleet.

    @pytest.fixture(scope="module")
    def many() -> Iterator[Many]:
        with started() as many:
            yield many

Tests read what observers saw (`many.observer`), what each fleetd reports (`many.on("w1").status()`) and what became of
the jobs (`tally`). Laws are judged by what was seen, never by what fleetd says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fleetd.core.model.status import Status
from lab import Host, Lab, LabError
from lab.faults import redis
from lab.jobs import load, records
from lab.jobs.load import Load
from lab.observers.observer import Observer, observing
from lab.observers.timeline import Timeline
from lab.setup import services
from lab.topologies import ManyHosts, TwoHosts, many_hosts
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.support.lab.fleet import Fleet

TAKEOVER_SECONDS = 60.0
#: Redis hands jobs to a client that has vanished for as long as its BRPOP lasts, which is 2 s.
HANDED_SECONDS = 3.0
TICK_SECONDS = 1.0
THREADS = 5
MIN = 1
UTILISATION = 0.8
CONFIG = """
[scheduler]
place = "{place}"
takeover_seconds = {takeover:g}
threads = 2
[profiles.local]
queues = ["default"]
threads = {threads}
instances = "1-4"
min = {minimum}
[memory]
instance = "100 MiB"
[pace]
tick_seconds = {tick:g}
hold_down_seconds = 10
tolerance = 0
utilisation = {utilisation:g}
[postgres]
host = "main"
user = "fleetd"
password = "{password}"
dbname = "{database}"
"""


def config(place: str) -> str:
    """fleetd.toml of a worker."""
    return CONFIG.format(
        place=place,
        takeover=TAKEOVER_SECONDS,
        threads=THREADS,
        minimum=MIN,
        tick=TICK_SECONDS,
        utilisation=UTILISATION,
        password=services.MONITOR_PASSWORD,
        database=services.DATABASE,
    )


@dataclass(frozen=True)
class Many:
    """The hosts, a fleetd on each worker, and observers of them all."""

    hosts: ManyHosts
    observer: Observer
    #: Of every fault so far: a count is of all jobs since the hosts' first boot.
    excused: list[records.Window] = field(default_factory=list)
    #: Workers with a fleetd of before there were fleets.
    before: frozenset[str] = frozenset()
    #: The jobs that ran on a host as it lost power.
    died: set[str] = field(default_factory=set)

    @property
    def workers(self) -> tuple[Host, ...]:
        return self.hosts.workers

    def on(self, name: str) -> Fleet:
        """One worker with its fleetd, as tests of a single one use it."""
        return Fleet(TwoHosts(self.hosts.lab, self.hosts.main, self.hosts.lab.hosts[name]))

    def statuses(self) -> dict[str, Status]:
        """Host to status, of every fleetd that answers."""
        found = {}
        for host in self.workers:
            try:
                found[host.name] = self.on(host.name).status()
            except LabError:  # off, frozen or starting
                continue
        return found

    def wait(
        self, what: str, check: Callable[[Mapping[str, Status]], bool], timeout: float = PATIENCE_SECONDS
    ) -> dict[str, Status]:
        """Wait for statuses that pass `check`, and return them."""
        found: list[dict[str, Status]] = []

        def passed() -> bool:
            found[:] = [self.statuses()]
            return check(found[0])

        self._wait(what, passed, timeout)
        return found[0]

    def see(self, what: str, check: Callable[[Timeline], bool], timeout: float = PATIENCE_SECONDS) -> Timeline:
        """Wait until the observers have seen what passes `check`, and return all that they saw."""
        try:
            return self.observer.wait(what, check, timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.story()}") from None

    def pass_ticks(self, count: int) -> None:
        """Wait until every fleetd that answers now has had this many ticks more, however slow the machine is."""
        due = {name: status.ticks_total + count for name, status in self.statuses().items()}
        self.wait(
            f"{count} ticks of {', '.join(due)}",
            lambda told: all(name in told and told[name].ticks_total >= ticks for name, ticks in due.items()),
            timeout=PATIENCE_SECONDS + count * TICK_SECONDS,
        )

    def settled(self, excused: Sequence[records.Window] = (), timeout: float = PATIENCE_SECONDS) -> records.Tally:
        """What became of all jobs, once none waits or runs. `excused`: times that are, from now on."""
        self.excused.extend(excused)
        found: list[records.Tally] = []

        def passed() -> bool:
            found[:] = [records.tally(redis.primary(self.hosts), excused=self.excused, died=self.died)]
            return found[0].settled

        self._wait("no job waits or runs", passed, timeout)
        return found[0]

    def power_off(self, host: Host) -> float:
        """Pull a host's plug, and return the Unix time. What it ran is lost with it, and nothing else may be."""
        at = time.time()
        host.power_off()
        self.died.update(records.died_with(host))
        self.excused.append((at - 1.0, at + HANDED_SECONDS))
        return at

    def enqueue(self, queue: str, seconds: Sequence[float]) -> list[str]:
        """Enqueue jobs of these lengths at the primary now."""
        return load.enqueue(redis.primary(self.hosts), queue, seconds)

    def flow(self, seconds: float, rates: Mapping[str, float], **more: Any) -> load.Loader:
        """Jobs at constant rates, which follow the primary. Only what a replica has counts as enqueued for sure."""
        sentinels = tuple(host.address for host in self.hosts.sentinels)
        flow = Load([load.Phase(seconds, rates)], sentinels=sentinels, replicas=1, **more)
        return load.start(self.hosts.main, flow)

    def story(self) -> str:
        """For the message of a failed test: where workers live, and the end of each fleetd's journal."""
        seen = self.observer.timeline()
        lines = [f"instances: {seen.alive()}; schedulers: {seen.scheduler_hosts()}"]
        for host in self.workers:
            frozen = host.running and "frozen 1" in (host.group / "cgroup.events").read_text()
            lines.append(f"-- {host.name}")
            lines.append(host.journal("fleetd", lines=30) if host.running and not frozen else "off or frozen")
        return "\n".join(lines)

    def _wait(self, what: str, check: Callable[[], bool], timeout: float) -> None:
        try:
            wait_until(what, check, timeout, every=0.2)
        except LabError as error:
            raise LabError(f"{error}\n{self.story()}") from None


@contextmanager
def booted(places: Sequence[str] = ("here", "auto", "auto"), more_config: str = "", **hosts: Any) -> Iterator[Many]:
    """All hosts up, observers looking, and fleetd configured but not started. `hosts`: see `topologies.many_hosts`."""
    with Lab() as lab:
        many = many_hosts(lab, **hosts)
        with observing(lab, many.main) as observer:
            lab.boot()
            found = Many(many, observer, before=frozenset(hosts.get("releases", ())))
            for host, place in zip(many.workers, places, strict=True):
                found.on(host.name).configure(config(place) + more_config)
            yield found


@contextmanager
def started(places: Sequence[str] = ("here", "auto", "auto"), **more: Any) -> Iterator[Many]:
    """As `booted`, but every fleetd runs, each host has its `min`, and one scheduler lives."""
    with booted(places, **more) as many:
        start_all(many)
        many.see("each host has its min", lambda seen: all(counts(seen, many)))
        many.see("a scheduler lives", lambda seen: seen.scheduler_hosts() != [])
        yield many


def start_all(many: Many) -> float:
    """Start fleetd and whatever a boot would start, on every worker at once. Returns the monotonic time before."""
    begun = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(many.workers)) as pool:
        for done in [pool.submit(many.on(host.name).start) for host in many.workers]:
            done.result()
    return begun


def counts(seen: Timeline, many: Many) -> list[int]:
    """How many instances live on each worker."""
    alive = seen.alive()
    return [len(alive.get(host.name, ())) for host in many.workers]


def jobs_for(instances: int, seconds: float = 20.0) -> list[float]:
    """The lengths of jobs that keep this many instances busy, as planned, for this long."""
    return [seconds] * round(instances * THREADS * UTILISATION)
