"""Samples of history for tests."""

from __future__ import annotations

from fleetd.core.model.history import Batch, Entry, EntryKind, InstanceSample, QueueSample, Sample


def entry(at: float, sentence: str, kind: EntryKind = "step", *, warning: bool = False) -> Entry:
    return Entry(at_seconds=at, kind=kind, sentence=sentence, warning=warning)


def sample(at: float, *, boot: str = "boot-1", now: float | None = None, jobs: int = 3) -> Sample:
    """Seven queues and eight instances, as on a busy VM."""
    names = ("default", "push", "ingress", "mailers", "pull", "fasp", "scheduler")
    return Sample(
        at_seconds=at,
        now_seconds=at if now is None else now,
        boot=boot,
        queues={
            name: QueueSample(
                length_jobs=(jobs * i * 37 + int(at)) % 900,
                latency_milliseconds=i * int(at * 7 % 911),
                busy_threads=i * 3 + int(at) % 5,
            )
            for i, name in enumerate(names)
        },
        processed_jobs_total=1_000_000 + int(at) * 41 % 100_000,
        failed_jobs_total=1000,
        service_milliseconds={name: 200 + i * 31 for i, name in enumerate(names)},
        instances=tuple(
            InstanceSample(
                number=n,
                profile="default-first" if n < 6 else "weighted",
                state="serving",
                counts=True,
                busy_threads=(n * 7 + int(at)) % 25,
                resident_mebibytes=600 + n + int(at) % 50,
            )
            for n in range(1, 9)
        ),
        foreign_threads=0,
        limit_connections=697,
        others_connections=203 + int(at) % 7,
        memory_available_mebibytes=12_000 + int(at) % 100,
        memory_total_mebibytes=32_000,
        boot_milliseconds={"default-first": 21_000, "weighted": 22_000},
    )


def minute(at: float, *sentences: str) -> Batch:
    """A minute of samples, beginning at `at`."""
    return Batch(
        samples=tuple(sample(at + 5 * i) for i in range(12)),
        entries=tuple(entry(at + i, sentence) for i, sentence in enumerate(sentences)),
    )
