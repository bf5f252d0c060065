"""Tells the story: the load, the watcher, the phases one after another, and the screen or the lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from fleetd.cli.terminal.lines import Lines
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import Status
from lab.demo.count import Watched
from lab.demo.plain import news, plain_line
from lab.demo.play import play, stage
from lab.demo.samples import Sample, Samples
from lab.demo.screen import Scene, screen_lines
from lab.demo.story import CALM, JOB_SCALE, SURGE, Phase, Progress, phases
from lab.demo.terms import Terms
from lab.demo.watch import watcher
from lab.errors import LabError
from lab.jobs import load
from lab.topologies import TwoHosts

_CALM_SECONDS_MAX = 900.0


class Seen:
    """What the watcher's thread saw, read by the main thread."""

    def __init__(self, *, keep: bool) -> None:
        self._lock = threading.Lock()
        self._keep = keep
        self._samples = Samples()
        self._status: Status | None = None
        self._silence = ""
        self._heard_at = time.monotonic()
        self.stopped_by_budget = ""

    def take(self, sample: Sample, status: Status | None, silence: str) -> None:
        """Called by the watcher for each sample."""
        with self._lock:
            self._samples.add(sample)
            self._silence = silence
            if status is None:
                return
            self._status, self._heard_at = status, time.monotonic()
            for clamp in status.clamps:
                if clamp.code == ClampCode.CONNECTIONS:
                    self.stopped_by_budget = clamp.sentence

    def scene(self, progress: Progress) -> Scene:
        """Everything seen so far, as a value."""
        with self._lock:
            samples = tuple(self._samples.taken)
            return Scene(progress, samples, self._status, silence=self._silence, keep=self._keep)

    @property
    def silent_seconds(self) -> float:
        """Seconds since fleetd last answered."""
        return time.monotonic() - self._heard_at


class News:
    """What is new in a scene since the one before."""

    def __init__(self) -> None:
        self._heard: Status | None = None

    def of(self, scene: Scene) -> Sequence[str]:
        """The sentences."""
        if scene.status is None or scene.status is self._heard:
            return ()
        told = news(self._heard, scene.status)
        self._heard = scene.status
        return told


def tell(hosts: TwoHosts, terms: Terms) -> Watched:
    """Run the whole story, and return what was seen. Raises LabError if a host fails."""
    story = phases(terms.seconds_scale)
    seen = Seen(keep=terms.keep)
    watching = watcher(hosts, seen.take)
    loader = load.start(hosts.main, _load(story))

    def begin(phase: Phase) -> None:
        _still_there(hosts)
        if phase.name == "count":
            loader.stop()

    def screen(scene: Scene) -> Lines:
        return screen_lines(scene, width=terms.console.width, height=terms.console.height, symbols=terms.symbols)

    watching.start()
    try:
        with stage(terms.console, plain=terms.plain, screen=screen, line=plain_line, news=News().of) as draw:
            overdue, last = play(story, seen, draw, begin)
    finally:
        watching.stop()
        if loader.running:
            loader.stop()
    return Watched(last.samples, seen.stopped_by_budget, overdue)


def go_on(hosts: TwoHosts) -> None:
    """A calm load for another hour, for people who look around."""
    load.start(hosts.main, load.Load(phases=(load.Phase(3600, CALM),), job_scale=JOB_SCALE, seed=2))


def _load(story: tuple[Phase, ...]) -> load.Load:
    calm, surge = (next(phase for phase in story if phase.name == name) for name in ("calm", "surge"))
    parts = (
        load.Phase(calm.seconds_max, CALM),
        load.Phase(surge.seconds_max, SURGE),
        load.Phase(_CALM_SECONDS_MAX, CALM),
    )
    return load.Load(phases=parts, job_scale=JOB_SCALE, query_share=0.1)


def _still_there(hosts: TwoHosts) -> None:
    for host in (hosts.main, hosts.worker):
        if not host.running:
            raise LabError(f"{host.name} died.")
