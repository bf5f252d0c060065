"""How long jobs of each queue took, fitted to a whole recording at once, and how well that is known.

In each window the jobs done should be the sum over the queues of busy thread-seconds / service time. Heartbeats show
busy threads only every 10 s, so the thread-seconds are themselves uncertain, and least squares that took them for exact
would pull all queues towards one service time. So each window has two sets of readings whose errors are independent,
and one is the instrument of the other (Fuller, Measurement Error Models, 1987, 2.4). The equations are weighted by
their scatter (Hansen, Econometrica 50(4), 1982), anew at each step of the fit.

Few long jobs end, but their ages tell how long they are. Of the threads that are busy at a heartbeat, a share of
E[min(S, 10 s)] / E[S] has a job that started less than 10 s before it (Cox, Renewal Theory, 1962, 5.2). For jobs of a
minute that is 10 s / E[S], whatever their distribution. For jobs of a few seconds it depends on the distribution, and
a lognormal one with sigma 1 is assumed. For shorter ones it only says that they are short.

A lognormal prior holds what neither tells: of two queues that were always equally busy only the sum is known, and the
sigmas say so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS, SERVICE_SECONDS_RANGE
from fleetd.core.model.facts import YOUNG_SECONDS, Value

BEAT_SECONDS = 10.0
#: Of the logarithm of service times, as assumed.
SIGMA = 1.0
#: How far off the share is, about, if sigma is 0.5 or 1.5 in place of 1; and no share says how short a job is.
SHAPE_FACTOR, SHAPE_POWER, SHORT_SHARE = 2.5, 4, 0.02
#: Sigma of the logarithm of the prior.
PRIOR_SIGMA = 0.5
#: No queue's jobs are known better than this, because service times change over a day.
MODEL_SIGMA = 0.05
ROUNDS, STEP_MAX, STEP_MIN = 25, 0.5, 1e-5
#: Windows are weighted by the counter and not by the readings, whose errors would count twice.
WEIGHT_JOBS = 20.0
#: No sigma is given for a queue that was busy for less than this in all: it had next to no jobs.
THREAD_SECONDS_MIN = 20.0

Matrix = list[list[float]]
Row = tuple[float, list[float], list[float]]  # of a window: jobs done, thread-seconds of each queue by both sets


class YoungShare(NamedTuple):
    """Of one queue: busy thread-seconds, and those of them with a job younger than YOUNG_SECONDS."""

    busy_thread_seconds: float
    young_thread_seconds: float

    @property
    def share(self) -> float:
        return min(1.0, self.young_thread_seconds / self.busy_thread_seconds)

    @property
    def variance(self) -> float:
        """Of the share: by chance, as each job counts once, and because the distribution is not known."""
        jobs = max(1.0, self.busy_thread_seconds / YOUNG_SECONDS)
        share = self.share
        shape = SHAPE_FACTOR * share**SHAPE_POWER * (1.0 - share + SHORT_SHARE)
        return (share * (1.0 - share) + 1.0 / jobs) / jobs + shape * shape


class Window(Value, frozen=True, kw_only=True):
    """Jobs done, and busy thread-seconds of each queue by two sets of readings of different heartbeats."""

    done_jobs: float
    first: dict[str, float]
    second: dict[str, float]


class Fit(Value, frozen=True, kw_only=True):
    """For each queue that was ever busy. Sigmas are of the logarithm: 0.2 is about 20 %."""

    seconds: dict[str, float]  # that a job takes on average
    jobs_sigma: dict[str, float]  # of the number of jobs


def share_and_slope(mean_seconds: float) -> tuple[float, float]:
    """The share of young jobs for a mean service time, and its derivative by the logarithm of the mean."""
    cut = YOUNG_SECONDS / mean_seconds
    above = (math.log(cut) + SIGMA * SIGMA / 2.0) / SIGMA
    longer = _normal(-above)
    return _normal(above - SIGMA) + cut * longer, -cut * longer


def _normal(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def fitted(windows: list[Window], young: dict[str, YoungShare], learnt: dict[str, float]) -> Fit:
    """Service times and how well they are known. `learnt`: the prior of queues that are not Mastodon's own."""
    names = sorted({name for window in windows for name in (*window.first, *window.second)})
    low, high = SERVICE_SECONDS_RANGE
    prior = [
        math.log(min(high, max(low, PRIOR_SECONDS.get(name, learnt.get(name, PRIOR_OTHER_SECONDS))))) for name in names
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
    """The logarithms of the service times, by Gauss-Newton, and their covariance. `prior` has logarithms, too."""
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
    hessian: Matrix, gradient: list[float], logs: list[float], prior: list[float], young: list[YoungShare | None]
) -> None:
    """Add the prior, and what the ages of jobs tell."""
    for i, (log, believed, ages) in enumerate(zip(logs, prior, young, strict=True)):
        hessian[i][i] += 1.0 / PRIOR_SIGMA**2
        gradient[i] += (believed - log) / PRIOR_SIGMA**2
        if ages is not None:
            share, slope = share_and_slope(math.exp(log))
            hessian[i][i] += slope * slope / ages.variance
            gradient[i] += slope * (ages.share - share) / ages.variance


def _moments(rows: list[Row], rates: list[float]) -> tuple[list[float], Matrix, Matrix]:
    """Sums that are 0 where the rates are right, their slopes by the logarithms of the times, and how they scatter.

    `rates`: jobs that a thread does in a second. The scatter is the covariance that chance causes plus the one that is
    seen: few windows do not show it well, and chance alone is too little if readings are worse than that.
    """
    count = len(rates)
    sums, slopes, scatter = [0.0] * count, _zeros(count), _zeros(count)
    for done, first, second in rows:
        ones = [spent * rate for spent, rate in zip(first, rates, strict=True)]
        others = [spent * rate for spent, rate in zip(second, rates, strict=True)]
        jobs = [(a + b) / 2.0 for a, b in zip(ones, others, strict=True)]
        weight = 1.0 / (max(0.0, done) + WEIGHT_JOBS)
        chance = weight**2 * sum(n * (1.0 + BEAT_SECONDS * rate) for n, rate in zip(jobs, rates, strict=True))
        # The jobs done that one set of readings leaves unexplained, times what the other set says.
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
    """How uncertain each queue's number of jobs is; the sum over all queues is known, because it is counted."""
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
    """x of matrix · x = right, by Gaussian elimination with pivoting; zeros if there is no single solution."""
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
    """The inverse of a symmetric matrix, so its columns are its rows."""
    count = len(matrix)
    return [solved(matrix, [1.0 if i == j else 0.0 for j in range(count)]) for i in range(count)]


def product(left: Matrix, right: Matrix) -> Matrix:
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def times(matrix: Matrix, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]
