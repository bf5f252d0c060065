"""The story of three hosts as lines, for pipes, logs and CI."""

from __future__ import annotations

from collections.abc import Sequence

from fleetd.words.formatting import UNKNOWN, count
from lab.demo.hosts.scene import FleetScene
from lab.demo.hosts.story import HOSTS
from lab.demo.plain import head_of, slowest
from lab.demo.samples import Sample


def fleet_line(scene: FleetScene) -> str:
    """The latest sample in one line."""
    if not scene.samples:
        return f"{head_of(scene)} nothing seen yet"
    sample = scene.samples[-1]
    limit = None if scene.status is None else scene.status.connections.limit_connections
    parts = [
        f"{count(sample.waiting_total)} jobs wait{slowest(sample)}",
        f"instances {_instances(sample)}",
        f"scheduler {_scheduler(sample)}",
        f"connections {count(sample.connections)} of {count(limit)}",
    ]
    return f"{head_of(scene)} {', '.join(parts)}{'. ' + scene.silence if scene.silence else ''}"


def _instances(sample: Sample) -> str:
    seen = sample.instances_by_host
    if seen is None:
        return UNKNOWN
    return " ".join(f"{host} {seen.get(host, 'off')}" for host in HOSTS)


def _scheduler(sample: Sample) -> str:
    if sample.scheduler_hosts is None:
        return UNKNOWN
    return f"on {' and '.join(sample.scheduler_hosts)}" if sample.scheduler_hosts else "on no host"


class FleetNews:
    """What is new in a scene since the one before."""

    def __init__(self) -> None:
        self._next = 0

    def of(self, scene: FleetScene) -> Sequence[str]:
        """The sentences."""
        fresh = [told for told in scene.told if told.number >= self._next]
        self._next += len(fresh)
        return [told.sentence for told in fresh]
