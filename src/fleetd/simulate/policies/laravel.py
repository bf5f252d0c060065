"""The rival `laravel`: how cboxdk/laravel-queue-autoscale sizes a group of workers."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, pstdev

from fleetd.core.demand.needed import home
from fleetd.simulate.policies.rival import Rival, arrival_rate
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.queues import SimQueue
from fleetd.simulate.world.world import World

BREACH_SHARE = 0.5
COOLDOWN_SECONDS = 60
#: Throughput counts as steady below this coefficient of variation, over the last few evaluations.
STEADY_VARIATION, EVALUATIONS_MIN, EVALUATIONS_KEPT = 0.05, 3, 10
SATURATED_SHARE = 0.9
#: At most this share of the workers goes at once.
SCALE_DOWN_SHARE = 0.25


class Laravel(Rival):
    """laravel-queue-autoscale with its published configuration: HybridStrategy and ConservativeScaleDownPolicy.

    Source: https://github.com/cboxdk/laravel-queue-autoscale v3.11.1 (commit 4128ad9): README, config/, and in src/
    Scaling/Strategies/HybridStrategy.php, Scaling/Calculators/, Policies/, Manager/AutoscaleManager.php.

    - Every 5 s: workers = max(λ·S, drain); the drain as in `drain_workers`, over the target less a mean boot.
    - Saturated (90 % of threads busy) and no more needed: one worker more than serve.
    - Down by one worker an evaluation while throughput is steady; never by more than a quarter of what there is.
    - For 60 s after an action none in the other direction, but up at once when a job is past its target. More of the
      same direction is never held. (Its docs/algorithms/ tell of a pause after any action; the manager has none.)

    A worker is a thread here, and instances are what carries them. It is given the true arrival rate of the last
    minute and the true service and boot times, in place of its estimates, forecast, retry correction and p95 of waits.
    A profile is one of its groups. A group has one target, so each queue's need is worked out by itself and summed; a
    queue may be in one group only: its home. Its limits by CPU and memory have no meaning here: all share one budget.
    """

    interval_seconds = 5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._boot_seconds = sum(world.trace.boot_seconds) / 2.0
        self._queues = {
            profile.name: [
                q for q in world.queues.values() if home(world.policy, q.name).name == profile.name
            ]
            for profile in world.policy.profiles
        }
        self._pools = {g.profile.name: Pool(g.capacity * g.profile.threads) for g in world.groups}

    def desired_instances(self, group: Group, current: int) -> int:
        profile, pool = group.profile, self._pools[group.profile.name]
        queues, threads, second = self._queues[profile.name], profile.threads, self.world.now
        pool.workers = (
            min(max(pool.workers, (current - 1) * threads + 1), current * threads) if current else 0
        )
        needed = sum(self._needed_workers(queue) for queue in queues)
        serving = min(pool.workers, len(group.fetching) * threads)
        if self._saturated(group) and needed <= serving:
            needed = serving + 1
        target = min(profile.max_instances * threads, max(profile.min_instances * threads, math.ceil(needed)))
        done_jobs = sum(queue.jobs - queue.waiting for queue in queues)
        target = pool.smoothed(target, pool.jobs_a_minute(second, done_jobs))
        target_seconds = self.world.policy.target_seconds
        late = any(queue.latency_seconds(second) >= target_seconds(queue.name) for queue in queues)
        pool.move(target, second, late=late)
        return math.ceil(pool.workers / threads)

    def _needed_workers(self, queue: SimQueue) -> float:
        sla_seconds = max(1.0, self.world.policy.target_seconds(queue.name) - self._boot_seconds)
        age_seconds = int(queue.latency_seconds(self.world.now))
        return max(
            arrival_rate(self.world, queue.name) * queue.mean_seconds,
            drain_workers(queue.waiting, age_seconds, sla_seconds, queue.mean_seconds),
        )

    def _saturated(self, group: Group) -> bool:
        threads = len(group.fetching) * group.profile.threads
        busy = group.busy_threads + sum(len(i.jobs) for i in group.fetching)
        return busy > 0 and busy >= SATURATED_SHARE * threads


class Pool:
    """What the package remembers of one group of workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._target: int | None = None
        self._done: deque[tuple[int, int]] = deque()  # second, jobs done until then: the last minute
        self._throughputs: deque[float] = deque(maxlen=EVALUATIONS_KEPT)
        self._direction = 0  # of the last action
        self._acted_at = -COOLDOWN_SECONDS

    def jobs_a_minute(self, second: int, done_jobs: int) -> float:
        """Throughput of the last minute."""
        self._done.append((second, done_jobs))
        while len(self._done) > 1 and self._done[1][0] <= second - 60:
            self._done.popleft()
        return float(done_jobs - self._done[0][1])

    def smoothed(self, target: int, jobs_a_minute: float) -> int:
        """One less than the last target at most, while throughput is steady."""
        self._throughputs.append(jobs_a_minute)
        if self._target is not None and target < self._target and self._steady():
            target = max(target, self._target - 1)
        self._target = target
        return target

    def _steady(self) -> bool:
        if len(self._throughputs) < EVALUATIONS_MIN:
            return False
        mean = fmean(self._throughputs)
        return mean > 0.0 and pstdev(self._throughputs) / mean < STEADY_VARIATION

    def move(self, target: int, second: int, *, late: bool) -> None:
        """Towards the target, unless an action in the other direction is less than a minute old."""
        direction = (target > self.workers) - (target < self.workers)
        if not direction:
            return
        cooling_down = second - self._acted_at < COOLDOWN_SECONDS
        if cooling_down and direction == -self._direction and not (late and direction > 0):
            return
        if direction < 0:
            target = max(target, self.workers - max(1, math.ceil(SCALE_DOWN_SHARE * self.workers)))
        self.workers, self._direction, self._acted_at = target, direction, second


def drain_workers(waiting: int, age_seconds: int, sla_seconds: float, service_seconds: float) -> float:
    """Workers that drain a backlog in time (BacklogDrainCalculator), more the nearer the oldest job is to its target.

    Nothing before half of the time has passed; but an age of 0 means to it that the driver can't tell.
    """
    if not waiting:
        return 0.0
    if age_seconds == 0:
        return waiting / max(sla_seconds / service_seconds, 1.0)
    share = age_seconds / sla_seconds
    if share < BREACH_SHARE:
        return 0.0
    left_seconds = sla_seconds - age_seconds
    jobs_each = left_seconds / service_seconds if left_seconds > 0 else service_seconds  # as it has it
    base = waiting / max(jobs_each, 1.0 if left_seconds > 0 else 0.1)
    return base * min(5.0, 1.0 + 8.0 * (share - 0.5) ** 2)
