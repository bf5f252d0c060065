"""The hold window: the highest want of the last minutes, so that a fleet goes down slower than up.

The same idea as the stabilisation window of the Kubernetes HPA (autoscaling/v2, `behavior.scaleDown`).
"""

from __future__ import annotations

from fleetd.core.facts import Value

#: Entries kept; a monotonic queue of falling wants, so it is rarely longer than a few.
WINDOW_ENTRIES_MAX = 64


class Window(Value, frozen=True, kw_only=True):
    """Falling wants with the time each was last seen, newest last, and since when the window watches."""

    since_seconds: float
    entries: tuple[tuple[float, int], ...]
    grew_seconds: float | None = None  # when it was last to grow

    @property
    def highest(self) -> int:
        return self.entries[0][1]

    def covers(self, now_seconds: float, window_seconds: float) -> bool:
        """Whether a whole window has been watched."""
        return now_seconds - self.since_seconds >= window_seconds

    def seconds_left(self, now_seconds: float, window_seconds: float, held: int) -> float:
        """Until the want may fall below `held`."""
        last = max((at for at, want in self.entries if want >= held), default=self.since_seconds)
        return max(0.0, max(last, self.since_seconds) + window_seconds - now_seconds)


def keep_highest(
    window: Window | None, want: int, now_seconds: float, window_seconds: float, gap_seconds_max: float
) -> Window:
    """Add one want; forget those older than the window or no higher than it.

    After a gap (a freeze of the host, an outage) or a step back of the clock the window begins anew: what was wanted
    meanwhile is unknown, and unknown is not low (law 3).
    """
    if window is None or not 0.0 <= now_seconds - window.entries[-1][0] <= gap_seconds_max:
        return Window(since_seconds=now_seconds, entries=((now_seconds, want),))
    kept = [e for e in window.entries if now_seconds - e[0] < window_seconds and e[1] > want]
    kept = kept[: WINDOW_ENTRIES_MAX - 1]  # the highest stay
    return Window(
        since_seconds=window.since_seconds,
        entries=(*kept, (now_seconds, want)),
        grew_seconds=window.grew_seconds,
    )
