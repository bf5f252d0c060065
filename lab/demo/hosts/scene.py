"""What is seen of three hosts, and what each fleetd says: taken by the watcher's thread, drawn by the main thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.status import Status
from lab.demo.hosts.news import fleet_news, scheduler_news
from lab.demo.plain import new_clamps, new_events
from lab.demo.samples import Sample, Samples
from lab.demo.screen import Scene
from lab.demo.story import Progress

_NEWS_MAX = 400


@dataclass(frozen=True)
class Told:
    """One piece of news, with the story's second in which it was heard. `number` counts them, from 0."""

    number: int
    at_seconds: float
    sentence: str


@dataclass(frozen=True)
class FleetScene(Scene):
    """A scene with several hosts. `status`: of the host that leads, or else of the first that answers."""

    fleet: FleetHosts | None = None
    """What `fleetctl hosts` shows there. None: there is no answer yet."""
    told: Sequence[Told] = ()
    """What was new, oldest first."""


@dataclass(frozen=True)
class Look:
    """One look at everything. `statuses`: of the hosts whose fleetd answers."""

    sample: Sample
    statuses: Mapping[str, Status]
    fleet: FleetHosts | None
    silence: str = ""
    """Why no fleetd answers."""


class FleetSeen:
    """All that was seen so far."""

    def __init__(self, *, keep: bool) -> None:
        self._lock = threading.Lock()
        self._keep = keep
        self._samples = Samples()
        self._statuses: dict[str, Status] = {}
        self._look: Look | None = None
        self._fleet: FleetHosts | None = None
        self._told: list[Told] = []
        self._heard_at = time.monotonic()
        self._number = 0

    def take(self, look: Look) -> None:
        """Called by the watcher for each look."""
        with self._lock:
            self._samples.add(look.sample)
            self._look = look
            for host, status in look.statuses.items():
                before = self._statuses.get(host)
                if before is not None:  # else it is what a fleetd says as it starts
                    self._tell(look, new_events(before, status, host))
                    if host == narrator(look.statuses):  # the others say the same of the whole fleet
                        self._tell(look, [*new_clamps(before, status, host), *scheduler_news(before, status)])
                self._statuses[host], self._heard_at = status, time.monotonic()
            if look.fleet is not None:
                self._tell(look, fleet_news(self._fleet, look.fleet))
                self._fleet = look.fleet

    def note(self, at_seconds: float, sentence: str) -> None:
        """Something that the demo itself did."""
        with self._lock:
            self._add(at_seconds, sentence)

    def _tell(self, look: Look, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._add(look.sample.at_seconds, sentence)

    def _add(self, at_seconds: float, sentence: str) -> None:
        self._told.append(Told(self._number, at_seconds, sentence))
        self._number += 1
        del self._told[:-_NEWS_MAX]

    def scene(self, progress: Progress) -> FleetScene:
        """Everything seen so far, as a value."""
        with self._lock:
            look = self._look
            statuses = {} if look is None else look.statuses
            return FleetScene(
                progress,
                tuple(self._samples.taken),
                statuses.get(narrator(statuses)),
                silence="" if look is None else look.silence,
                keep=self._keep,
                fleet=self._fleet,
                told=tuple(self._told),
            )

    @property
    def silent_seconds(self) -> float:
        """Seconds since any fleetd last answered."""
        return time.monotonic() - self._heard_at

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self._samples.last

    @property
    def fleet(self) -> FleetHosts | None:
        """What `fleetctl hosts` showed last."""
        return self._fleet


def narrator(statuses: Mapping[str, Status]) -> str:
    """Whose view is shown: the host that leads, or else the first that answers. "": none answers."""
    leading = [host for host, status in statuses.items() if status.fleet is not None and status.fleet.leads]
    return next(iter([*leading, *statuses]), "")
