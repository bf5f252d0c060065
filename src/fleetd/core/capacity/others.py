"""Everyone else's connections on one source: what is seen, a peak that fades, and a rise that goes on.

Others are the greater of two numbers:

- The highest number seen. Its distance to what is seen now halves every `others_peak_half_life_seconds` (300 s), so a
  short dip is not taken for headroom, and a nightly dump is forgotten within the hour.
- If they rose in each of the last two steps between readings: what they will be in 15 s, at the slower of the two
  paces. A drain takes about 15 s, so waiting until the connections are gone would give way too late. A single jump is
  no rise: it is seen at once and counts in full.
"""

from __future__ import annotations

import math

from fleetd.core.model.facts import Value

#: How far ahead a rise is assumed to go on: about as long as a drain takes.
RISE_AHEAD_SECONDS = 15.0
#: The least and the most time between two readings that show a rise.
RISE_STEP_SECONDS, RISE_STEP_SECONDS_MAX = 4.0, 30.0


class OthersMemory(Value, frozen=True, kw_only=True):
    """What is remembered of others on one source."""

    at_seconds: float
    seen_connections: int
    peak_connections: float
    #: (time, connections seen) of the last three readings that are a step apart, oldest first.
    recent: tuple[tuple[float, int], ...]

    @property
    def fading_peak_connections(self) -> int:
        return math.ceil(self.peak_connections - 1e-9)

    @property
    def rise_connections(self) -> int:
        """How many more than are seen to expect, if the rise of the last two steps goes on; 0: no rise."""
        if len(self.recent) < 3 or self.recent[-1][1] <= self.recent[-2][1]:
            return 0
        paces = []
        for (at, seen), (later, more) in zip(self.recent, self.recent[1:], strict=False):
            steady = later - at <= RISE_STEP_SECONDS_MAX
            paces.append((more - seen) / (later - at) if steady else 0.0)
        return max(0, math.ceil(min(paces) * RISE_AHEAD_SECONDS - 1e-9))

    @property
    def expected_connections(self) -> int:
        return max(self.fading_peak_connections, self.seen_connections + self.rise_connections)


def remember_others(
    memory: OthersMemory | None, seen_connections: int, now_seconds: float, half_life_seconds: float
) -> OthersMemory:
    """Fold in one reading."""
    if memory is None or now_seconds < memory.at_seconds:
        return OthersMemory(
            at_seconds=now_seconds,
            seen_connections=seen_connections,
            peak_connections=float(seen_connections),
            recent=((now_seconds, seen_connections),),
        )
    halvings = (now_seconds - memory.at_seconds) / half_life_seconds
    recent = memory.recent
    if now_seconds - recent[-1][0] >= RISE_STEP_SECONDS:
        recent = (*recent, (now_seconds, seen_connections))[-3:]
    return OthersMemory(
        at_seconds=now_seconds,
        seen_connections=seen_connections,
        peak_connections=seen_connections + max(0.0, memory.peak_connections - seen_connections) * 0.5**halvings,
        recent=recent,
    )
