"""How long jobs of each queue took, fitted to a whole recording at once, and how well that is known.

In each window the jobs done should be the sum over the queues of busy thread-seconds / service time. Heartbeats show
busy threads only every 10 s, so the thread-seconds are themselves uncertain, and least squares that took them for exact
would pull all queues towards one service time. So each window has two sets of looks whose errors are independent, and
one is the instrument of the other (Fuller, Measurement Error Models, 1987, 2.4). The equations are weighted by how much
they scatter (Hansen, Econometrica 50(4), 1982), anew at each step of the fit.

A job that lasts is seen again at the next beat, however few of them end. Of the threads that are busy at a heartbeat,
those whose job began less than 10 s before it are E[min(S, 10 s)] / E[S] of all (renewal theory: Cox, Renewal Theory,
1962, 5.2). Of jobs of a minute that is 10 s / E[S], whatever their distribution; of jobs of a few seconds it depends on
it as well, and a lognormal one with sigma 1 is taken; of shorter ones it says nothing but that they are short.

A lognormal prior holds what neither tells: where two queues were always busy alike only their sum is known, and the
sigmas say so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS, SERVICE_SECONDS_RANGE
from fleetd.core.model.facts import YOUNG_SECONDS, Value

BEAT_SECONDS = 10.0
#: Of the logarithm of service times that are not known otherwise.
SIGMA = 1.0
#: What a sigma of 0.5 or 1.5 in place of 1 makes of the share is about this, and no share says how short a job is.
SHAPE_FACTOR, SHAPE_POWER, SHORT_SHARE = 2.5, 4, 0.02
#: Sigma of the logarithm of the prior.
PRIOR_SIGMA = 0.5
#: No queue's jobs are known better than this: windows are not all alike.
MODEL_SIGMA = 0.05
ROUNDS, STEP_MAX, STEP_MIN = 25, 0.5, 1e-5
#: Windows are weighted by the counter, not by the looks: else the looks' errors would come in twice.
WEIGHT_JOBS = 20.0
#: Of a queue that was busy for less than this in all, no sigma is told: it had next to no jobs.
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
    names = sorted({name for window in windows for name in (*window.first, *window.second)})
    low, high = SERVICE_SECONDS_RANGE
    prior = [
        math.log(min(high, max(low, PRIOR_SECONDS.get(name, learnt.get(name, PRIOR_OTHER_SECONDS)))))
        for name in names
    ]
    rows = [
        (
            window.done_jobs,
            [window.first.get(name, 0.0) for name in names],
            [window.second.get(name, 0.0) for name in names],
        )
        for window in windows
    ]
    logs, covariance = _fit(rows, prior, [young.get(name) for name in names])
    seconds = [math.exp(log) for log in logs]
    spent = [sum((first[i] + second[i]) / 2.0 for _, first, second in rows) for i in range(len(names))]
    sigmas = _jobs_sigmas([s / each for s, each in zip(spent, seconds, strict=True)], covariance)
    return Fit(
        seconds=dict(zip(names, seconds, strict=True)),
        jobs_sigma={
            name: sigma
            for name, sigma, thread_seconds in zip(names, sigmas, spent, strict=True)
            if thread_seconds >= THREAD_SECONDS_MIN
        },
    )


def _fit(rows: list[Row], prior: list[float], young: list[YoungShare | None]) -> tuple[list[float], Matrix]:
    """The logarithms of the service times, by Gauss-Newton, and their covariance. `prior`: logarithms, too."""
    low, high = (math.log(bound) for bound in SERVICE_SECONDS_RANGE)
    logs = prior
    hessian: Matrix = []
    for _ in range(ROUNDS):
        sums, slopes, scatter = _moments(rows, [math.exp(-log) for log in logs])
        weighted = product(slopes, inverse(scatter))
        hessian, gradient = product(weighted, slopes), times(weighted, sums)
        _add_beliefs(hessian, gradient, logs, prior, young)
        step = solved(hessian, gradient)
        longest = max(map(abs, step), default=0.0)
        if longest < STEP_MIN:
            break
        part = min(1.0, STEP_MAX / longest)
        logs = [min(high, max(low, log + part * d)) for log, d in zip(logs, step, strict=True)]
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


def _moments(rows: list[Row], rates: list[float]) -> tuple[list[float], Matrix, Matrix]:
    """Sums that are 0 where the rates are right, their slopes by the logarithms of the times, and how they scatter.

    `rates`: jobs a thread does a second. The scatter is the covariance of jobs that end and are looked at by chance,
    and what is seen on top: few windows do not tell it well, and chance alone is too little where looks are worse.
    """
    count = len(rates)
    sums, slopes, scatter = [0.0] * count, _zeros(count), _zeros(count)
    for done, first, second in rows:
        ones = [spent * rate for spent, rate in zip(first, rates, strict=True)]
        others = [spent * rate for spent, rate in zip(second, rates, strict=True)]
        jobs = [(a + b) / 2.0 for a, b in zip(ones, others, strict=True)]
        weight = 1.0 / (max(0.0, done) + WEIGHT_JOBS)
        chance = weight**2 * sum(n * (1.0 + BEAT_SECONDS * rate) for n, rate in zip(jobs, rates, strict=True))
        # What one set of looks leaves unexplained of the jobs done, by what the other saw.
        left_ones, left_others, half = done - sum(ones), done - sum(others), 0.5 * weight
        moment = [-half * (a * left_others + b * left_ones) for a, b in zip(ones, others, strict=True)]
        for i, (a, b) in enumerate(zip(ones, others, strict=True)):
            if a or b:
                sums[i] += moment[i]
                for j in range(count):
                    slopes[i][j] += half * (a * others[j] + b * ones[j])
                    scatter[i][j] += chance * jobs[i] * jobs[j] + moment[i] * moment[j]
    for i, row in enumerate(scatter):
        row[i] += 1e-6 * abs(row[i]) + 1e-9  # so that it has an inverse
    return sums, slopes, scatter


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
