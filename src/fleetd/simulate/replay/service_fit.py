"""How long jobs of each queue took, fitted to a whole recording at once, and how well that is known.

In each window the jobs done should be the sum over the queues of busy thread-seconds / service time. Heartbeats show
busy threads only every 10 s, so the thread-seconds are themselves uncertain, and least squares that took them for exact
would pull all queues towards one service time. So each window has two sets of looks whose errors are independent, and
one is the instrument of the other (Fuller, Measurement Error Models, 1987, 2.4). The equations are weighted by how much
they truly scatter (Hansen, Econometrica 50(4), 1982).

A job that lasts is seen again at the next beat, however few of them end. Of the threads that are busy at a heartbeat,
those whose job began less than 10 s before it are E[min(S, 10 s)] / E[S] of all (renewal theory: Cox, Renewal Theory,
1962, 5.2). Of jobs of a minute that is 10 s / E[S], whatever their distribution; of jobs of a few seconds it depends on
it as well, and a lognormal one with sigma 1 is taken; of shorter ones it says nothing but that they are short.

A lognormal prior holds what neither tells: where two queues were always busy alike only their sum is known, and the
sigmas say so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS, SERVICE_SECONDS_RANGE
from fleetd.core.model.facts import YOUNG_SECONDS, Value

BEAT_SECONDS = 10.0
#: Of the logarithm of service times that are not known otherwise.
SIGMA = 1.0
#: A share of young threads below this is enough to begin the fit with.
TELLING_SHARE = 0.97
#: What a sigma of 0.5 or 1.5 in place of 1 makes of the share is about this, and no share says how short a job is.
SHAPE_FACTOR, SHAPE_POWER, SHORT_SHARE = 2.5, 4, 0.02
#: Sigma of the logarithm of the prior.
PRIOR_SIGMA = 0.5
#: No queue's jobs are known better than this: windows are not all alike.
MODEL_SIGMA = 0.05
ROUNDS, STEP_MAX, STEP_MIN = 25, 0.5, 1e-5
#: Windows are weighted by the counter, not by the looks: else the looks' errors would come in twice.
WEIGHT_JOBS = 20.0
#: A queue that was busy for less than this in all keeps its prior.
THREAD_SECONDS_MIN = 20.0

Matrix = list[list[float]]
Row = tuple[
    float, list[float], list[float]
]  # of a window: jobs done, thread-seconds of each queue by both sets


class YoungShare(NamedTuple):
    """Of one queue: thread-seconds that were busy, and those with a job that had just begun."""

    busy_thread_seconds: float
    young_thread_seconds: float

    @property
    def share(self) -> float:
        return min(1.0, self.young_thread_seconds / self.busy_thread_seconds)

    @property
    def variance(self) -> float:
        """By chance, each job counted once, and because the distribution isn't known."""
        looks = max(1.0, self.busy_thread_seconds / YOUNG_SECONDS)
        share = self.share
        shape = SHAPE_FACTOR * share**SHAPE_POWER * (1.0 - share + SHORT_SHARE)
        return (share * (1.0 - share) + 1.0 / looks) / looks + shape * shape

    @property
    def mean_seconds(self) -> float:
        """The mean service time that has this share, by bisection."""
        low, high = SERVICE_SECONDS_RANGE
        for _ in range(40):
            middle = math.sqrt(low * high)
            if share_and_slope(middle)[0] > self.share:
                low = middle
            else:
                high = middle
        return math.sqrt(low * high)


class Window(Value, frozen=True, kw_only=True):
    """Jobs done, and busy thread-seconds of each queue by two sets of looks at other heartbeats."""

    done_jobs: float
    first: dict[str, float]
    second: dict[str, float]


class Fit(Value, frozen=True, kw_only=True):
    """Of each queue that was ever busy. Sigmas are of the logarithm: 0.2 is about 20 %."""

    seconds: dict[str, float]  # a job takes, on average
    jobs_sigma: dict[str, float]  # of how many jobs it did


def share_and_slope(mean_seconds: float) -> tuple[float, float]:
    """The share that is young, and its derivative by the logarithm of the mean."""
    cut = YOUNG_SECONDS / mean_seconds
    above = (math.log(cut) + SIGMA * SIGMA / 2.0) / SIGMA
    longer = _normal(-above)
    return _normal(above - SIGMA) + cut * longer, -cut * longer


def _normal(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def fitted(windows: list[Window], young: dict[str, YoungShare], learnt: dict[str, float]) -> Fit:
    """`learnt`: the prior of queues that are not Mastodon's own."""
    spent: dict[str, float] = defaultdict(float)
    for window in windows:
        for looks in (window.first, window.second):
            for name, thread_seconds in looks.items():
                spent[name] += thread_seconds / 2.0
    low, high = SERVICE_SECONDS_RANGE
    prior = {
        name: min(high, max(low, PRIOR_SECONDS.get(name, learnt.get(name, PRIOR_OTHER_SECONDS))))
        for name in spent
    }
    names = sorted(name for name in spent if spent[name] >= THREAD_SECONDS_MIN)
    rows = []
    for window in windows:
        first, second = window.first, window.second
        others = sum(
            (first.get(name, 0.0) + second.get(name, 0.0)) / 2.0 / prior[name]
            for name in spent
            if name not in names
        )
        rows.append(
            (
                window.done_jobs - others,
                [first.get(name, 0.0) for name in names],
                [second.get(name, 0.0) for name in names],
            )
        )
    logs, covariance = _fit(
        rows, [math.log(prior[name]) for name in names], [young.get(name) for name in names]
    )
    seconds = prior | {name: math.exp(log) for name, log in zip(names, logs, strict=True)}
    sigmas = _jobs_sigmas([spent[name] / seconds[name] for name in names], covariance)
    return Fit(seconds=seconds, jobs_sigma=dict(zip(names, sigmas, strict=True)))


def _fit(rows: list[Row], prior: list[float], young: list[YoungShare | None]) -> tuple[list[float], Matrix]:
    """The logarithms of the service times, by Gauss-Newton, and their covariance. `prior`: logarithms, too."""
    low, high = (math.log(bound) for bound in SERVICE_SECONDS_RANGE)
    moments = _Moments(rows)
    logs = [
        math.log(ages.mean_seconds) if ages is not None and ages.share < TELLING_SHARE else log
        for log, ages in zip(prior, young, strict=True)
    ]
    hessian: Matrix = []
    for covariance in (
        _by_chance,
        _as_seen,
    ):  # how they truly scatter is only seen where the times are about right
        weights = inverse(covariance(rows, _rates(logs)))
        for _ in range(ROUNDS):
            sums, slopes = moments.at(_rates(logs))
            weighted = product(slopes, weights)
            hessian, gradient = product(weighted, slopes), times(weighted, sums)
            _add_beliefs(hessian, gradient, logs, prior, young)
            step = solved(hessian, gradient)
            longest = max(map(abs, step), default=0.0)
            if longest < STEP_MIN:
                break
            part = min(1.0, STEP_MAX / longest)
            logs = [min(high, max(low, log + part * d)) for log, d in zip(logs, step, strict=True)]
    for i, (log, believed) in enumerate(zip(logs, prior, strict=True)):
        # Where two share what was done, one that came out slow says little of itself: in rates it may be anything.
        hessian[i][i] -= (1.0 - min(1.0, math.exp(believed - log)) ** 2) / PRIOR_SIGMA**2
    return logs, inverse(hessian)


def _add_beliefs(
    hessian: Matrix,
    gradient: list[float],
    logs: list[float],
    prior: list[float],
    young: list[YoungShare | None],
) -> None:
    """Add the prior, and what the ages of jobs say."""
    for i, (log, believed, ages) in enumerate(zip(logs, prior, young, strict=True)):
        hessian[i][i] += 1.0 / PRIOR_SIGMA**2
        gradient[i] += (believed - log) / PRIOR_SIGMA**2
        if ages is not None:
            share, slope = share_and_slope(math.exp(log))
            hessian[i][i] += slope * slope / ages.variance
            gradient[i] += slope * (ages.share - share) / ages.variance


class _Moments:
    """Sums over all windows from which the moments follow for any rates."""

    def __init__(self, rows: list[Row]) -> None:
        count = len(rows[0][1]) if rows else 0
        self._done = [0.0] * count
        self._both = _zeros(count)
        for done, first, second in rows:
            weight = 0.5 * _weight(done)
            for i, (a, b) in enumerate(zip(first, second, strict=True)):
                if a or b:
                    self._done[i] += weight * (a + b) * done
                    row = self._both[i]
                    for j in range(count):
                        row[j] += weight * (a * second[j] + b * first[j])

    def at(self, rates: list[float]) -> tuple[list[float], Matrix]:
        """Sums that are 0 where the rates are right, and their slopes by the logarithms of the times."""
        slopes = [
            [both * one * other for both, other in zip(row, rates, strict=True)]
            for row, one in zip(self._both, rates, strict=True)
        ]
        sums = [sum(row) - done * rate for row, done, rate in zip(slopes, self._done, rates, strict=True)]
        return sums, slopes


def _weight(done_jobs: float) -> float:
    return 1.0 / (max(0.0, done_jobs) + WEIGHT_JOBS)


def _by_chance(rows: list[Row], rates: list[float]) -> Matrix:
    """The covariance of the moments if jobs end and are looked at by chance alone."""
    found = _zeros(len(rates))
    for done, first, second in rows:
        jobs = [(a + b) / 2.0 for a, b in zip(_jobs(first, rates), _jobs(second, rates), strict=True)]
        chance = sum(n * (1.0 + BEAT_SECONDS * rate) for n, rate in zip(jobs, rates, strict=True))
        _add_square(found, jobs, chance * _weight(done) ** 2)
    return _regular(found)


def _as_seen(rows: list[Row], rates: list[float]) -> Matrix:
    """The covariance of the moments as it is; few windows do not tell it well, so chance stands beside it."""
    few = len(rates) / max(1, len(rows))
    found = [[few * value for value in row] for row in _by_chance(rows, rates)]
    sums = [0.0] * len(rates)
    for done, first, second in rows:
        # What one set of looks leaves unexplained of the jobs done, by what the other saw.
        ones, others = _jobs(first, rates), _jobs(second, rates)
        off_first, off_second = sum(ones) - done, sum(others) - done
        weight = 0.5 * _weight(done)
        moment = [weight * (a * off_second + b * off_first) for a, b in zip(ones, others, strict=True)]
        sums = [so_far + value for so_far, value in zip(sums, moment, strict=True)]
        _add_square(found, moment, 1.0)
    _add_square(found, sums, -1.0 / max(1, len(rows)))
    return _regular(found)


def _rates(logs: list[float]) -> list[float]:
    """Jobs a thread does a second."""
    return [math.exp(-log) for log in logs]


def _jobs(thread_seconds: list[float], rates: list[float]) -> list[float]:
    return [spent * rate for spent, rate in zip(thread_seconds, rates, strict=True)]


def _jobs_sigmas(jobs: list[float], covariance: Matrix) -> list[float]:
    """All jobs together are counted; how uncertain is each queue's part of them."""
    whole = sum(jobs) or 1.0
    shares = [part / whole for part in jobs]
    found = []
    for i in range(len(jobs)):
        by = [(1.0 if i == j else 0.0) - share for j, share in enumerate(shares)]
        variance = sum(a * b for a, b in zip(by, times(covariance, by), strict=True))
        found.append(math.sqrt(max(0.0, variance) + MODEL_SIGMA**2))
    return found


def _zeros(count: int) -> Matrix:
    return [[0.0] * count for _ in range(count)]


def _add_square(matrix: Matrix, vector: list[float], weight: float) -> None:
    """Add weight × vector × vectorᵀ."""
    for row, a in zip(matrix, vector, strict=True):
        for j, b in enumerate(vector):
            row[j] += weight * a * b


def _regular(matrix: Matrix) -> Matrix:
    """A little more on its diagonal, so that it has an inverse."""
    for i, row in enumerate(matrix):
        row[i] += 1e-6 * abs(row[i]) + 1e-9
    return matrix


def solved(matrix: Matrix, right: list[float]) -> list[float]:
    """x of matrix · x = right, by Gauss with pivots; zeros where there is no one solution."""
    count = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(count):
        best = max(range(i, count), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        if abs(rows[i][i]) < 1e-12:
            return [0.0] * count
        for r in range(i + 1, count):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [value - factor * above for value, above in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * count
    for i in reversed(range(count)):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, count))
        found[i] = (rows[i][count] - rest) / rows[i][i]
    return found


def inverse(matrix: Matrix) -> Matrix:
    """Of a symmetric matrix, so columns are rows."""
    count = len(matrix)
    return [solved(matrix, [1.0 if i == j else 0.0 for j in range(count)]) for i in range(count)]


def product(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def times(matrix: Matrix, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]
