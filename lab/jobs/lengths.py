"""How long jobs take: a lognormal distribution with both ends cut off, similar to the jobs of a real Mastodon."""

import math
import random
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Lengths:
    """A distribution of durations in seconds. A draw beyond an end gives that end."""

    median_seconds: float
    sigma: float
    shortest_seconds: float = 0.0
    longest_seconds: float = math.inf

    def draw(self, chance: random.Random) -> float:
        """Draw one duration."""
        seconds = self.median_seconds * chance.lognormvariate(0, self.sigma)
        return min(max(seconds, self.shortest_seconds), self.longest_seconds)

    @property
    def mean_seconds(self) -> float:
        """The mean, including the effect of the ends."""
        whole = self.median_seconds * math.exp(self.sigma**2 / 2)
        low, high = self._score(self.shortest_seconds), self._score(self.longest_seconds)
        mean = whole * (_NORMAL.cdf(high - self.sigma) - _NORMAL.cdf(low - self.sigma))
        if self.shortest_seconds > 0:
            mean += self.shortest_seconds * _NORMAL.cdf(low)
        if not math.isinf(self.longest_seconds):
            mean += self.longest_seconds * (1 - _NORMAL.cdf(high))
        return mean

    def _score(self, seconds: float) -> float:
        if seconds <= 0:
            return -math.inf
        return math.inf if math.isinf(seconds) else math.log(seconds / self.median_seconds) / self.sigma
