"""How long jobs of each queue took, fitted to a whole recording at once.

In each window the jobs done should be the sum over the queues of busy thread-seconds / service time. What heartbeats
say of busy threads is a look every 10 s, so the thread-seconds are themselves uncertain; least squares that took them
for exact would pull all queues towards one service time. So the known variance of that error is taken out of the normal
equations (Fuller, Measurement Error Models, 1987, 2.2), and a lognormal belief around Mastodon's usual times holds what
the recording does not tell: where two queues were always busy alike only their sum is known.
"""

from __future__ import annotations

import math

from fleetd.core.service_time import PRIOR_OTHER_SECONDS, PRIOR_SECONDS, SERVICE_SECONDS_RANGE

#: Sigma of the logarithm of what is believed beforehand.
BELIEF_SIGMA = 0.4
BEAT_SECONDS = 10.0
ROUNDS, STEP_MAX = 12, 0.5
#: A queue that was busy for less than this in all keeps what is believed of it.
THREAD_SECONDS_MIN = 20.0

Window = tuple[float, dict[str, float]]  # jobs done, busy thread-seconds of each queue
Matrix = list[list[float]]


def fitted_seconds(windows: list[Window], learnt: dict[str, float]) -> dict[str, float]:
    """Seconds a job takes, of each queue that was ever busy. `learnt`: believed of those not Mastodon's own."""
    low, high = SERVICE_SECONDS_RANGE
    spent: dict[str, float] = {}
    for _, busy in windows:
        for name, thread_seconds in busy.items():
            spent[name] = spent.get(name, 0.0) + thread_seconds
    believed = {
        name: min(high, max(low, PRIOR_SECONDS.get(name, learnt.get(name, PRIOR_OTHER_SECONDS))))
        for name in spent
    }
    fitted = sorted(name for name in spent if spent[name] >= THREAD_SECONDS_MIN)
    fixed = {name: 1.0 / believed[name] for name in spent if name not in fitted}
    begun = [-math.log(believed[name]) for name in fitted]
    logs = list(begun)  # of the rates
    for _ in range(ROUNDS):
        normal, gradient = _equations(windows, fitted, [math.exp(x) for x in logs], fixed)
        for i in range(len(fitted)):
            normal[i][i] += 1.0 / BELIEF_SIGMA**2
            gradient[i] -= (logs[i] - begun[i]) / BELIEF_SIGMA**2
        step = _solved(normal, gradient)
        most = max(map(abs, step), default=0.0)
        if most < 1e-6:
            break
        part = min(1.0, STEP_MAX / most)
        logs = [
            min(-math.log(low), max(-math.log(high), x + part * d)) for x, d in zip(logs, step, strict=True)
        ]
    return believed | {name: math.exp(-x) for name, x in zip(fitted, logs, strict=True)}


def _equations(
    windows: list[Window], names: list[str], rates: list[float], fixed: dict[str, float]
) -> tuple[Matrix, list[float]]:
    """Of the step in the logarithms of the rates: normal matrix and right side, without the belief."""
    count = len(names)
    normal = [[0.0] * count for _ in names]
    gradient = [0.0] * count
    for done, busy in windows:
        spent = [busy.get(name, 0.0) for name in names]
        parts = [thread_seconds * rate for thread_seconds, rate in zip(spent, rates, strict=True)]
        expected = sum(parts) + sum(busy.get(name, 0.0) * rate for name, rate in fixed.items())
        if expected <= 0.0:
            continue
        blurs = [BEAT_SECONDS * s * rate * rate for s, rate in zip(spent, rates, strict=True)]
        variance = expected + sum(blurs)
        for i in range(count):
            if not parts[i]:
                continue
            gradient[i] += (parts[i] * (done - expected) + blurs[i]) / variance
            normal[i][i] -= blurs[i] / variance
            for j in range(count):
                normal[i][j] += parts[i] * parts[j] / variance
    return normal, gradient


def _solved(matrix: Matrix, right: list[float]) -> list[float]:
    """Gauss, with pivots; no step where there is no solution."""
    count = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(count):
        best = max(range(i, count), key=lambda r: abs(rows[r][i]))
        rows[i], rows[best] = rows[best], rows[i]
        if abs(rows[i][i]) < 1e-9:
            return [0.0] * count
        for r in range(i + 1, count):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [value - factor * above for value, above in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * count
    for i in reversed(range(count)):
        rest = sum(rows[i][j] * found[j] for j in range(i + 1, count))
        found[i] = (rows[i][count] - rest) / rows[i][i]
    return found
