"""A history in memory, for tests of what is written to history. It passes the same contract as the real one."""

from __future__ import annotations

from fleetd.core.model.history import Batch, Recording, TimeSpan
from fleetd.errors import SourceUnavailableError


class FakeHistory:
    """Both ports in one: what is appended can be read."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.full = False
        self.closed = False

    @property
    def problem(self) -> str:
        return "the history is not kept: the disk is full" if self.full else ""

    def append(self, batch: Batch) -> None:
        if not self.full and not self.closed and not batch.empty:
            self.batches.append(batch)

    def close(self) -> None:
        self.closed = True

    def read(self, since_seconds: float, *, samples: bool) -> Recording:
        if not self.batches:
            raise SourceUnavailableError("There is no history: nothing was written yet")
        found = [s for b in self.batches for s in b.samples if s.at_seconds >= since_seconds]
        changes = [c for b in self.batches for c in b.policies]
        before = [c for c in changes if c.at_seconds <= since_seconds][-1:]
        watched_spans: list[TimeSpan] = []
        for sample in found:
            if watched_spans and sample.at_seconds - watched_spans[-1].to_seconds <= 90.0:
                watched_spans[-1] = TimeSpan(from_seconds=watched_spans[-1].from_seconds, to_seconds=sample.at_seconds)
            else:
                watched_spans.append(TimeSpan(from_seconds=sample.at_seconds, to_seconds=sample.at_seconds))
        return Recording(
            samples=tuple(found) if samples else (),
            entries=tuple(e for b in self.batches for e in b.entries if e.at_seconds >= since_seconds),
            policies=(*before, *(c for c in changes if c.at_seconds > since_seconds)),
            watched_spans=tuple(watched_spans),
            newest_seconds=max(
                [s.at_seconds for b in self.batches for s in b.samples]
                + [e.at_seconds for b in self.batches for e in b.entries],
                default=None,
            ),
        )
