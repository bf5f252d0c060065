"""A monotonic clock that moves only when a test moves it."""

from __future__ import annotations


class ManualClock:
    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds
