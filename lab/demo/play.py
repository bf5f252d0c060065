"""Plays a story: its phases one after another, and meanwhile the screen, or lines for a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console, Group
from rich.live import Live

from fleetd.cli.terminal.lines import Lines
from lab.demo.screen import Scene
from lab.demo.story import Phase, Progress
from lab.errors import LabError

_FRAME_SECONDS = 0.5
_LINE_SECONDS = 5.0
_SILENT_SECONDS = 60.0

S = TypeVar("S", bound=Scene)
S_co = TypeVar("S_co", bound=Scene, covariant=True)


class Seen(Protocol[S_co]):
    """What a watcher saw, as values."""

    def scene(self, progress: Progress) -> S_co:
        """Everything seen so far."""

    @property
    def silent_seconds(self) -> float:
        """Seconds since any fleetd last answered."""


def play(
    story: Sequence[Phase], seen: Seen[S], draw: Callable[[S], None], begin: Callable[[Phase], None]
) -> tuple[list[str], S]:
    """Play all phases. Returns the names of those that did not end as they should, and the last scene.

    `begin` is called as each of them begins. Raises LabError if no fleetd has answered for a minute.
    """
    began = time.monotonic()
    overdue = []
    for number, phase in enumerate(story, start=1):
        begin(phase)
        since = time.monotonic()

        def progress(phase: Phase = phase, number: int = number, since: float = since) -> Progress:
            now = time.monotonic()
            return Progress(phase, number, len(story), now - since, now - began)

        if not _play(phase, progress, seen, draw):
            overdue.append(phase.name)
    return overdue, seen.scene(progress())


def _play(phase: Phase, progress: Callable[[], Progress], seen: Seen[S], draw: Callable[[S], None]) -> bool:
    """Play one phase. Returns whether it ended as it should."""
    began_at = max((sample.at_seconds for sample in seen.scene(progress()).samples), default=-1.0)
    while True:
        scene = seen.scene(progress())
        draw(scene)
        if phase.over([sample for sample in scene.samples if sample.at_seconds > began_at]):
            return True
        left = phase.seconds_max - scene.progress.phase_seconds
        if left <= 0:
            return phase.timed
        if seen.silent_seconds > _SILENT_SECONDS:
            raise LabError(f"fleetd has not answered for {_SILENT_SECONDS:g} s. {scene.silence}")
        time.sleep(min(left, _FRAME_SECONDS))


@contextmanager
def stage(
    console: Console,
    *,
    plain: bool,
    screen: Callable[[S], Lines],
    line: Callable[[S], str],
    news: Callable[[S], Sequence[str]],
) -> Iterator[Callable[[S], None]]:
    """Yields what draws a scene: as a live screen, or with `plain` by its `news` at once and a `line` now and then."""
    if plain:
        yield _line_by_line(line, news)
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda scene: live.update(Group(*screen(scene)), refresh=True)


def _line_by_line(line: Callable[[S], str], news: Callable[[S], Sequence[str]]) -> Callable[[S], None]:
    told_at = float("-inf")
    phase = ""

    def draw(scene: S) -> None:
        nonlocal told_at, phase
        if scene.progress.phase.name != phase:
            phase, told_at = scene.progress.phase.name, float("-inf")
            print(f"\n{phase.upper()}: {scene.progress.phase.watch}", flush=True)
        for sentence in news(scene):
            print(f"       {sentence}", flush=True)
        if scene.progress.story_seconds - told_at >= _LINE_SECONDS and scene.samples:
            told_at = scene.progress.story_seconds
            print(line(scene), flush=True)

    return draw
