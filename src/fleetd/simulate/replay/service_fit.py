"""How long jobs of each queue took, fitted to a whole recording at once, and how well that is known.

In each window the jobs done should be the sum over the queues of busy thread-seconds / service time. What heartbeats
say of busy threads is a look every 10 s, so the thread-seconds are themselves uncertain, and least squares that took
them for exact would pull all queues towards one service time. So each window has two sets of looks whose errors have
nothing to do with each other, and one is the instrument of the other (Fuller, Measurement Error Models, 1987, 2.4).
The equations are weighted by how much they truly scatter (Hansen, Econometrica 50(4), 1982).

A job that lasts is seen again at the next beat, however few of them end. Of the threads that are busy at a heartbeat,
those whose job began less than 10 s before it are E[min(S, 10 s)] / E[S] of all (renewal theory: Cox, Renewal Theory,
1962, 5.2). Of jobs of a minute that is 10 s / E[S], whatever their distribution; of jobs of a few seconds it depends on
it as well, and a lognormal one with sigma 1 is taken; of shorter ones it says nothing but that they are short.

A lognormal belief holds what neither tells: where two queues were always busy alike only their sum is known, and the
sigmas say so.
"""

from __future__ import annotations

import math

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS, SERVICE_SECONDS_RANGE
from fleetd.core.model.facts import YOUNG_SECONDS, Value

SIGMA = 1.0
#: Below this share it tells a time to begin the fit with.
TELLING_SHARE = 0.97
#: What a sigma of 0.5 or 1.5 in place of 1 makes of the share is about this, and no share says how short a job is.
SHAPE_FACTOR, SHAPE_POWER, SHORT_SHARE = 2.5, 4, 0.02


class Seen(Value, frozen=True, kw_only=True):
    """Of one queue, where it is recorded: thread-seconds that were busy, and those of young jobs."""

    busy_thread_seconds: float
    young_thread_seconds: float

    @property
    def young_share(self) -> float:
        return min(1.0, self.young_thread_seconds / self.busy_thread_seconds)

    @property
    def tells(self) -> bool:
        return self.young_share < TELLING_SHARE


def share_and_slope(mean_seconds: float) -> tuple[float, float]:
    """The share that is young, and its derivative by the logarithm of the mean."""
    cut = YOUNG_SECONDS / mean_seconds
    above = (math.log(cut) + SIGMA * SIGMA / 2.0) / SIGMA
    longer = _normal(-above)
    return _normal(above - SIGMA) + cut * longer, -cut * longer


def share_variance(seen: Seen) -> float:
    """By chance, each job counted once, and because the distribution isn't known."""
    looks = max(1.0, seen.busy_thread_seconds / YOUNG_SECONDS)
    share = seen.young_share
    shape = SHAPE_FACTOR * share**SHAPE_POWER * (1.0 - share + SHORT_SHARE)
    return (share * (1.0 - share) + 1.0 / looks) / looks + shape * shape


def seconds_of(seen: Seen) -> float:
    """The mean that has this share."""
    low, high = SERVICE_SECONDS_RANGE
    for _ in range(40):
        middle = math.sqrt(low * high)
        if share_and_slope(middle)[0] > seen.young_share:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


Matrix = list[list[float]]


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


#: Sigma of the logarithm of what is believed beforehand.
BELIEF_SIGMA = 0.5
BEAT_SECONDS = 10.0
#: No queue's jobs are known better than this: windows are not all alike.
MODEL_SIGMA = 0.05
ROUNDS, STEP_MAX, STEP_MIN = 25, 0.5, 1e-5
#: Windows weigh by what the counter says, not by the looks: their errors must not come in twice.
WEIGHT_JOBS = 20.0
#: A queue that was busy for less than this in all keeps what is believed of it.
THREAD_SECONDS_MIN = 20.0


class Window(Value, frozen=True, kw_only=True):
    """Jobs done, and busy thread-seconds of each queue by two sets of looks at other heartbeats."""

    done_jobs: float
    first: dict[str, float]
    second: dict[str, float]

    def thread_seconds(self, name: str) -> float:
        return (self.first.get(name, 0.0) + self.second.get(name, 0.0)) / 2.0


class Fit(Value, frozen=True, kw_only=True):
    """Of each queue that was ever busy. Sigmas are of the logarithm: 0.2 is about 20 %."""

    seconds: dict[str, float]  # a job takes, on average
    jobs_sigma: dict[str, float]  # of how many jobs it did


def fitted(windows: list[Window], seen: dict[str, Seen], learnt: dict[str, float]) -> Fit:
    """`learnt`: believed of queues that are not Mastodon's own."""
    spent: dict[str, float] = {}
    for window in windows:
        for looks in (window.first, window.second):
            for name, thread_seconds in looks.items():
                spent[name] = spent.get(name, 0.0) + thread_seconds / 2.0
    low, high = SERVICE_SECONDS_RANGE
    believed = {
        name: min(high, max(low, PRIOR_SECONDS.get(name, learnt.get(name, PRIOR_OTHER_SECONDS))))
        for name in spent
    }
    names = sorted(name for name in spent if spent[name] >= THREAD_SECONDS_MIN)
    fixed = {name: 1.0 / believed[name] for name in spent if name not in names}
    rows = [
        (
            window.done_jobs - sum(window.thread_seconds(name) * rate for name, rate in fixed.items()),
            [window.first.get(name, 0.0) for name in names],
            [window.second.get(name, 0.0) for name in names],
        )
        for window in windows
    ]
    ages = [seen.get(name) for name in names]
    begun = [
        seconds_of(age) if age is not None and age.tells else believed[name]
        for name, age in zip(names, ages, strict=True)
    ]
    logs, spread = _logs(rows, [math.log(believed[n]) for n in names], [math.log(s) for s in begun], ages)
    seconds = believed | {name: math.exp(x) for name, x in zip(names, logs, strict=True)}
    parts = [spent[name] / seconds[name] for name in names]
    return Fit(seconds=seconds, jobs_sigma=_jobs_sigma(names, parts, spread))


Row = tuple[
    float, list[float], list[float]
]  # of a window: jobs done, thread-seconds of each queue by both sets


def _logs(
    rows: list[Row], believed: list[float], begun: list[float], seen: list[Seen | None]
) -> tuple[list[float], Matrix]:
    """The logarithms of the service times, and their covariance."""
    low, high = (math.log(bound) for bound in SERVICE_SECONDS_RANGE)
    told = _Sums(rows)
    logs, hessian = list(begun), list[list[float]]()
    for weighed in (_by_chance, _as_seen):  # what truly scatters is only seen where the times are about right
        weights = inverse(weighed(rows, [math.exp(-x) for x in logs]))
        for _ in range(ROUNDS):
            sums, slopes = told.moments([math.exp(-x) for x in logs])
            through = product(slopes, weights)
            hessian, gradient = product(through, slopes), times(through, sums)
            _believe(hessian, gradient, logs, believed, seen)
            step = solved(hessian, gradient)
            most = max(map(abs, step), default=0.0)
            if most < STEP_MIN:
                break
            part = min(1.0, STEP_MAX / most)
            logs = [min(high, max(low, x + part * d)) for x, d in zip(logs, step, strict=True)]
    for i, (at, belief) in enumerate(zip(logs, believed, strict=True)):
        # Where two share what was done, one that came out slow says little of itself: in rates it may be anything.
        hessian[i][i] -= (1.0 - min(1.0, math.exp(belief - at)) ** 2) / BELIEF_SIGMA**2
    return logs, inverse(hessian)


def _believe(
    hessian: Matrix, gradient: list[float], logs: list[float], believed: list[float], seen: list[Seen | None]
) -> None:
    """Add what was believed beforehand, and what the ages of jobs say."""
    for i, (at, belief, ages) in enumerate(zip(logs, believed, seen, strict=True)):
        hessian[i][i] += 1.0 / BELIEF_SIGMA**2
        gradient[i] += (belief - at) / BELIEF_SIGMA**2
        if ages is not None:
            share, slope = share_and_slope(math.exp(at))
            variance = share_variance(ages)
            hessian[i][i] += slope * slope / variance
            gradient[i] += slope * (ages.young_share - share) / variance


class _Sums:
    """What the windows say, whatever the rates: by it the moments of all windows are had at once."""

    def __init__(self, rows: list[Row]) -> None:
        count = len(rows[0][1]) if rows else 0
        self._done = [0.0] * count
        self._both = [[0.0] * count for _ in range(count)]
        for done, first, second in rows:
            weight = 0.5 * _weight(done)
            for i, (a, b) in enumerate(zip(first, second, strict=True)):
                if a or b:
                    self._done[i] += weight * (a + b) * done
                    row = self._both[i]
                    for j in range(count):
                        row[j] += weight * (a * second[j] + b * first[j])

    def moments(self, rates: list[float]) -> tuple[list[float], Matrix]:
        """Sums that are 0 where the rates are right, and their slopes by the logarithms of the times."""
        slopes = [
            [both * one * other for both, other in zip(row, rates, strict=True)]
            for row, one in zip(self._both, rates, strict=True)
        ]
        sums = [sum(row) - done * rate for row, done, rate in zip(slopes, self._done, rates, strict=True)]
        return sums, slopes


def _weight(done_jobs: float) -> float:
    return 1.0 / (max(0.0, done_jobs) + WEIGHT_JOBS)


def _moment(done: float, first: list[float], second: list[float], rates: list[float]) -> list[float]:
    """One window's part: what one set of looks leaves unexplained of the jobs done, by what the other saw."""
    ones, others = _jobs(first, rates), _jobs(second, rates)
    off_first, off_second = sum(ones) - done, sum(others) - done
    weight = 0.5 * _weight(done)
    return [weight * (a * off_second + b * off_first) for a, b in zip(ones, others, strict=True)]


def _by_chance(rows: list[Row], rates: list[float]) -> Matrix:
    """How the sums scatter if jobs end and are looked at by chance alone."""
    count = len(rates)
    found = [[0.0] * count for _ in rates]
    for done, first, second in rows:
        jobs = [(a + b) / 2.0 for a, b in zip(_jobs(first, rates), _jobs(second, rates), strict=True)]
        chance = sum(n * (1.0 + BEAT_SECONDS * rate) for n, rate in zip(jobs, rates, strict=True))
        weight = chance * _weight(done) ** 2
        for i in range(count):
            for j in range(count):
                found[i][j] += weight * jobs[i] * jobs[j]
    return _regular(found)


def _as_seen(rows: list[Row], rates: list[float]) -> Matrix:
    """How they do scatter; of few windows that is not known well, and chance stands beside it."""
    count = len(rates)
    sums = [0.0] * count
    found = _by_chance(rows, rates)
    few = count / max(1, len(rows))
    found = [[few * value for value in row] for row in found]
    for done, first, second in rows:
        moment = _moment(done, first, second, rates)
        for i in range(count):
            sums[i] += moment[i]
            for j in range(count):
                found[i][j] += moment[i] * moment[j]
    for i in range(count):
        for j in range(count):
            found[i][j] -= sums[i] * sums[j] / max(1, len(rows))
    return _regular(found)


def _regular(matrix: Matrix) -> Matrix:
    """With a whisper on its diagonal, so that it has an inverse."""
    for i, row in enumerate(matrix):
        row[i] += 1e-6 * abs(row[i]) + 1e-9
    return matrix


def _jobs(thread_seconds: list[float], rates: list[float]) -> list[float]:
    return [spent * rate for spent, rate in zip(thread_seconds, rates, strict=True)]


def _jobs_sigma(names: list[str], parts: list[float], spread: Matrix) -> dict[str, float]:
    """All jobs together are counted; of each queue's part in them what is uncertain."""
    whole = sum(parts) or 1.0
    shares = [part / whole for part in parts]
    found = {}
    for i, name in enumerate(names):
        by = [(1.0 if i == j else 0.0) - share for j, share in enumerate(shares)]
        variance = sum(a * b for a, b in zip(by, times(spread, by), strict=True))
        found[name] = math.sqrt(max(0.0, variance) + MODEL_SIGMA**2)
    return found
