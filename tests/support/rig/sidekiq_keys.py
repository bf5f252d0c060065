"""Writes Sidekiq's keys into a real Redis, in its exact formats."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import redis

from tests.support.project import PROJECT

FIXTURES = PROJECT / "tests/support/fixtures" / "sidekiq"


def fixture(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / name).read_text())
    return content


def compact(value: object) -> str:
    """JSON as Ruby writes it."""
    return json.dumps(value, separators=(",", ":"))


class SidekiqKeys:
    """Writes what a Sidekiq would write. Times are relative to Redis's own clock."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self.client = client
        self.prefix = prefix

    def now(self) -> float:
        seconds, microseconds = self.client.time()
        return float(seconds) + float(microseconds) / 1e6

    def enqueue(self, queue: str, jobs: int = 1, *, age_seconds: float = 0.0, payload_bytes: int = 0) -> None:
        enqueued = self.now() - age_seconds
        job = {
            "class": "PushWorker",
            "args": ["x" * payload_bytes],
            "created_at": enqueued,
            "enqueued_at": enqueued,
        }
        self.client.sadd(f"{self.prefix}queues", queue)
        self.client.lpush(f"{self.prefix}queue:{queue}", *[compact(job)] * jobs)

    def beat(self, identity: str = "worker1:4711:5f0c", *, version: str = "6.4.1", **changed: Any) -> None:
        """Write a heartbeat like the fixture of this version, as of now. `changed` replaces fields of the hash."""
        sample = fixture(f"process-{version}.json")
        info = sample["info"] | {"identity": identity, "started_at": self.now() - 3600}
        fields = sample["hash"] | {"info": compact(info), "beat": repr(self.now() - 4.5)} | changed
        self.client.sadd(f"{self.prefix}processes", identity)
        self.client.hset(f"{self.prefix}{identity}", mapping=fields)

    def put_aside(self, **jobs: int) -> None:
        """Jobs in the sorted sets `retry`, `dead` and `schedule`."""
        for name, number in jobs.items():
            self.client.zadd(f"{self.prefix}{name}", {compact({"jid": f"{name}{n}"}): n for n in range(number)})

    def count_classes(self, fields: dict[Any, Any], *, version: str) -> None:
        """Counts of job classes, the same in each minute around now, since minutes end while tests run."""
        form = "j|%Y%m%d|%-H:%-M" if version < "8" else "j|%y%m%d|%-H:%M"
        for minute in range(-3, 15):
            at = datetime.fromtimestamp(self.now() + 60 * minute, UTC)
            self.client.hset(self.prefix + at.strftime(form), mapping=fields)

    def running(self, identity: str, *entries: str | bytes) -> None:
        """Write running jobs into the work hash, given as JSON."""
        fields: dict[Any, Any] = {f"tid{n}": entry for n, entry in enumerate(entries)}
        self.client.hset(f"{self.prefix}{identity}:work", mapping=fields)

    def work(
        self, identity: str, *queues: str, key: str = "work", age_seconds: float = 30.0, payload: str = "{}"
    ) -> None:
        """Write one running job on each of `queues`."""
        entries: dict[Any, Any] = {
            f"tid{n}": compact({"queue": queue, "payload": payload, "run_at": int(self.now() - age_seconds)})
            for n, queue in enumerate(queues)
        }
        self.client.hset(f"{self.prefix}{identity}:{key}", mapping=entries)
