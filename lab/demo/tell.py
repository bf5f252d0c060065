"""Runs the story: the load, the watcher, the phases one after another, and the screen or the lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live

from fleetd.cli.terminal.symbols import Symbols
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import Status
from lab.demo.count import Watched
from lab.demo.plain import news, plain_line
from lab.demo.samples import Sample, Samples
from lab.demo.screen import Scene, screen_lines
from lab.demo.story import CALM, JOB_SCALE, SURGE, Phase, Progress, phases
from lab.demo.watch import Watcher
from lab.errors import LabError
from lab.jobs import load
from lab.topologies import TwoHosts

_FRAME_SECONDS = 0.5
_LINE_SECONDS = 5.0
_CALM_SECONDS_MAX = 900.0
_SILENT_SECONDS = 60.0

Draw = Callable[[Scene], None]


class Seen:
    """What the watcher's thread saw, read by the main thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
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

    def scene(self, progress: Progress, *, keep: bool) -> Scene:
        """Everything seen so far, as a value."""
        with self._lock:
            samples = tuple(self._samples.taken)
            return Scene(progress, samples, self._status, silence=self._silence, keep=keep)

    @property
    def silent_seconds(self) -> float:
        """Seconds since fleetd last answered."""
        return time.monotonic() - self._heard_at


def tell(
    hosts: TwoHosts, console: Console, symbols: Symbols, *, seconds_scale: float, keep: bool, plain: bool
) -> Watched:
    """Run the whole story, and return what was seen. Raises LabError if a host fails."""
    story = phases(seconds_scale)
    seen = Seen()
    watcher = Watcher(hosts, seen.take)
    loader = load.start(hosts.main, _load(story))
    overdue: list[str] = []
    watcher.start()
    began = time.monotonic()
    try:
        with _stage(console, symbols, plain=plain) as draw:
            for number, phase in enumerate(story, start=1):
                if phase.name == "count":
                    loader.stop()

                def progress(since: float, phase: Phase = phase, number: int = number) -> Progress:
                    now = time.monotonic()
                    return Progress(phase, number, len(story), now - since, now - began)

                if not _play(phase, progress, seen, draw, keep=keep):
                    overdue.append(phase.name)
                _still_there(hosts, seen)
    finally:
        watcher.stop()
        if loader.running:
            loader.stop()
    return Watched(seen.scene(progress(began), keep=keep).samples, seen.stopped_by_budget, overdue)


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


def _play(phase: Phase, progress: Callable[[float], Progress], seen: Seen, draw: Draw, *, keep: bool) -> bool:
    """Play one phase. Returns whether it ended as it should."""
    began = time.monotonic()
    before = len(seen.scene(progress(began), keep=keep).samples)
    while True:
        scene = seen.scene(progress(began), keep=keep)
        draw(scene)
        if phase.over(scene.samples[before:]):
            return True
        left = phase.seconds_max - scene.progress.phase_seconds
        if left <= 0:
            return phase.timed
        if seen.silent_seconds > _SILENT_SECONDS:
            raise LabError(f"fleetd has not answered for {_SILENT_SECONDS:g} s. {scene.silence}")
        time.sleep(min(left, _FRAME_SECONDS))


def _still_there(hosts: TwoHosts, seen: Seen) -> None:
    for host in (hosts.main, hosts.worker):
        if not host.running:
            raise LabError(f"{host.name} died.")


@contextmanager
def _stage(console: Console, symbols: Symbols, *, plain: bool) -> Iterator[Draw]:
    if plain:
        yield _line_by_line()
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(scene: Scene) -> None:
            lines = screen_lines(scene, width=console.width, height=console.height, symbols=symbols)
            live.update(Group(*lines), refresh=True)

        yield draw


def _line_by_line() -> Draw:
    told_at = float("-inf")
    phase = ""
    heard: Status | None = None

    def draw(scene: Scene) -> None:
        nonlocal told_at, phase, heard
        if scene.progress.phase.name != phase:
            phase, told_at = scene.progress.phase.name, float("-inf")
            print(f"\n{phase.upper()}: {scene.progress.phase.watch}", flush=True)
        if scene.status is not None and scene.status is not heard:
            for sentence in news(heard, scene.status):
                print(f"       {sentence}", flush=True)
            heard = scene.status
        if scene.progress.story_seconds - told_at >= _LINE_SECONDS and scene.samples:
            told_at = scene.progress.story_seconds
            print(plain_line(scene), flush=True)

    return draw
