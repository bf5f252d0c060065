"""Tells the story of three hosts: the load, the watcher, the phases, and what befalls the host with the scheduler."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from fleetd.cli.terminal.lines import Lines
from fleetd.core.model.hosts import FleetHosts
from lab.demo.hosts.plain import FleetNews, fleet_line
from lab.demo.hosts.scene import FleetScene, FleetSeen
from lab.demo.hosts.screen import fleet_lines
from lab.demo.hosts.story import CALM, COUNT, FIRST_SCHEDULER, JOB_SCALE, POWER_CUT, RETURN, load_of, phases
from lab.demo.hosts.watch import watcher
from lab.demo.play import play, stage
from lab.demo.samples import Sample
from lab.demo.story import Phase
from lab.demo.terms import Terms
from lab.errors import LabError
from lab.faults import redis
from lab.hosts.host import Host
from lab.jobs import load
from lab.jobs.records import Window
from lab.observers.observer import Observer
from lab.topologies import ManyHosts


@dataclass(frozen=True)
class PowerCut:
    """When a host lost its power: between these Unix times, and between these monotonic ones."""

    host: str
    at: Window
    moment: Window
    instances: Mapping[str, int]
    """Live instances on each host, in the last look before."""


@dataclass(frozen=True)
class FleetWatched:
    """What was seen only while the story ran."""

    samples: Sequence[Sample]
    fleet: FleetHosts | None
    """What `fleetctl hosts` showed in the end."""
    cut: PowerCut
    unit_said: str
    """Why the scheduler's unit did not start on the host that was back, in its journal. "": it does not say so."""
    overdue_phases: Sequence[str]


class _Director:
    """Does what each phase begins with."""

    def __init__(self, hosts: ManyHosts, seen: FleetSeen, loader: load.Loader, pool: ThreadPoolExecutor) -> None:
        self._hosts = hosts
        self._seen = seen
        self._loader = loader
        self._pool = pool
        self._began = time.monotonic()
        self._booting: Future[None] | None = None
        self.cut: PowerCut | None = None
        self.unit_said = ""

    def begin(self, phase: Phase) -> None:
        """Called as a phase begins. LabError: a host has died that should not have."""
        for host in self._hosts.lab.hosts.values():
            if not host.running and not (self.cut and self.cut.host == host.name):
                raise LabError(f"{host.name} died.")
        if phase.name == POWER_CUT:
            self.cut = self._cut_power(self._victim())
        elif phase.name == RETURN and self.cut is not None:
            self._note(f"{self.cut.host} gets its power back")
            self._booting = self._pool.submit(self._hosts.lab.hosts[self.cut.host].boot)
        elif phase.name == COUNT:
            self._loader.stop()
            self._hear_unit()

    def _hear_unit(self) -> None:
        """What the scheduler's unit said at the boot of the host that was back."""
        if self._booting is None or self.cut is None:
            return
        self._booting.result()
        host = self._hosts.lab.hosts[self.cut.host]
        said = host.journalctl("-b", "-o", "cat", "-u", "mastodon-sidekiq-scheduler").splitlines()
        self.unit_said = next((line for line in said if line.startswith("Not started: ")), "")
        if self.unit_said:
            self._seen.note(time.monotonic() - self._began, f"The scheduler's unit on {host.name}: {self.unit_said}")

    def _victim(self) -> Host:
        """The host with the scheduler."""
        sample = self._seen.latest
        found = (sample.scheduler_hosts or ()) if sample else ()
        return self._hosts.lab.hosts[found[0] if found else FIRST_SCHEDULER]

    def _cut_power(self, victim: Host) -> PowerCut:
        sample = self._seen.latest
        instances = dict(sample.instances_by_host or {}) if sample else {}
        at, moment = time.time(), time.monotonic()
        victim.power_off()
        self._note(f"{victim.name} has lost its power, with the scheduler on it")
        return PowerCut(victim.name, (at, time.time()), (moment, time.monotonic()), instances)

    def _note(self, sentence: str) -> None:
        self._seen.note(time.monotonic() - self._began, f"The demo: {sentence}.")


def tell(hosts: ManyHosts, observer: Observer, terms: Terms) -> FleetWatched:
    """Run the whole story, and return what was seen. Raises LabError if a host fails."""
    seen = FleetSeen(keep=terms.keep)
    watching = watcher(hosts, observer, seen.take)
    loader = load.start(redis.primary(hosts), load_of(terms.seconds_scale))

    def screen(scene: FleetScene) -> Lines:
        console = terms.console
        return fleet_lines(scene, width=console.width, height=console.height, symbols=terms.symbols)

    with ThreadPoolExecutor(max_workers=1) as pool:
        director = _Director(hosts, seen, loader, pool)
        watching.start()
        try:
            with stage(terms.console, plain=terms.plain, screen=screen, line=fleet_line, news=FleetNews().of) as draw:
                overdue, last = play(phases(terms.seconds_scale), seen, draw, director.begin)
        finally:
            watching.stop()
            if loader.running:
                loader.stop()
    if director.cut is None:
        raise LabError("The story ended without its power cut.")
    return FleetWatched(last.samples, seen.fleet, director.cut, director.unit_said, overdue)


def go_on(hosts: ManyHosts) -> None:
    """A calm load for another hour, for people who look around."""
    calm = load.Load(phases=(load.Phase(3600, CALM),), job_scale=JOB_SCALE, seed=2)
    load.start(redis.primary(hosts), calm)
