"""Looks every half second which processes say in Redis that they serve the queue `scheduler` and are not quiet."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from lab import Host
from lab.jobs import load
from lab.jobs.resp import Connection, RedisError, strings

_EVERY_SECONDS = 0.5


class Watch:
    """What was seen. A process is live while it is in `processes` and has a heartbeat."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, list[str]]] = []
        """(Unix time, host names of live schedulers, sorted)"""
        self.end = threading.Event()

    @property
    def live(self) -> list[str]:
        """The hosts of the live schedulers at the latest look."""
        return self.samples[-1][1] if self.samples else []

    @property
    def most(self) -> int:
        """The most schedulers seen at once."""
        return max((len(hosts) for _, hosts in self.samples), default=0)

    @property
    def last_live(self) -> float:
        """The Unix time at which a scheduler was last seen."""
        return max(at for at, hosts in self.samples if hosts)

    def none_seconds(self, since: float) -> float:
        """For how long there was none since a Unix time: the sum of times between two looks that both found none."""
        return sum(
            later - at
            for (at, hosts), (later, then) in pairwise(self.samples)
            if at >= since and not hosts and not then
        )

    def run(self, main: Host) -> None:
        redis: Connection | None = None
        while not self.end.wait(_EVERY_SECONDS):
            try:
                redis = redis or load.connect(main)
                self.samples.append((time.time(), _schedulers(redis)))
            except (OSError, RedisError):  # an outage that the test makes
                if redis is not None:
                    redis.close()
                redis = None
        if redis is not None:
            redis.close()


def _schedulers(redis: Connection) -> list[str]:
    members = strings(redis.command("SMEMBERS", "processes"))
    told = redis.pipeline([("HMGET", member, "info", "quiet") for member in members]) if members else []
    beats = [(fields[0], fields[1]) for fields in told if isinstance(fields, list) and isinstance(fields[0], str)]
    found = [json.loads(info) for info, quiet in beats if quiet != "true"]  # a quiet one schedules nothing any more
    return sorted(info["hostname"] for info in found if "scheduler" in info["queues"])


@contextmanager
def watching(main: Host) -> Iterator[Watch]:
    """Watch for the duration of the block."""
    watch = Watch()
    thread = threading.Thread(target=watch.run, args=[main], daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end.set()
        thread.join()
