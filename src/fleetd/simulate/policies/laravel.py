"""The rival `laravel`: how cboxdk/laravel-queue-autoscale sizes a group of workers."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, pstdev

from fleetd.core.demand.needed import home
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.rival import Rival, true_rate
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World

BREACH_SHARE = 0.5
COOLDOWN_SECONDS = 60
#: Throughput counts as steady below this coefficient of variation, over the last few looks.
STEADY_VARIATION, LOOKS_MIN, LOOKS_KEPT = 0.05, 3, 10
SATURATED_SHARE = 0.9
LET_GO_SHARE = 0.25


class Laravel(Rival):
    """laravel-queue-autoscale with its published configuration: HybridStrategy and ConservativeScaleDownPolicy.

    Source: https://github.com/cboxdk/laravel-queue-autoscale v3.11.1 (commit 4128ad9): README, config/, and in src/
    Scaling/Strategies/HybridStrategy.php, Scaling/Calculators/, Policies/, Manager/AutoscaleManager.php.

    - A look every 5 s. Workers = max(λ·S, drain); the drain as in `drain_workers`, over the target less a mean boot.
    - Saturated (90 % of threads busy) and no more wanted: one worker more than serve.
    - Down by one worker a look while throughput is steady; never by more than a quarter of what there is.
    - For 60 s after an action none in the other direction, but up at once when a job is past its target. More of the
      same direction is never held. (Its docs/algorithms/ tell of a pause after any action; the manager has none.)

    A worker is a thread here, and instances are what carries them. It is given the true arrival rate of the last
    minute and the true service and boot times, in place of its estimates, forecast, retry correction and p95 of waits.
    A profile is one of its groups. A group has one target, so each queue's need is worked out by itself and summed; a
    queue may be in one group only: its home. Its limits by CPU and memory have no meaning here: all share one budget.
    """

    name = "laravel"
    every_seconds = 5

    def __init__(self, world: World, policy: Policy) -> None:
        super().__init__(world, policy)
        self._boot_seconds = sum(world.trace.boot_seconds) / 2.0
        self._queues = {
            p.name: [q for q in world.queues if home(policy, q).name == p.name] for p in policy.profiles
        }
        self._pools = {g.profile.name: Pool(g.counted * g.profile.threads) for g in world.groups}

    def want(self, group: Group, now: int) -> int:
        profile, pool = group.profile, self._pools[group.profile.name]
        threads = profile.threads
        pool.workers = min(max(pool.workers, (now - 1) * threads + 1), now * threads) if now else 0
        need = sum(self._need(name) for name in self._queues[profile.name])
        serving = min(pool.workers, len(group.fetching) * threads)
        if self._saturated(group) and need <= serving:
            need = serving + 1
        target = min(profile.max_instances * threads, max(profile.min_instances * threads, math.ceil(need)))
        target = pool.smoothed(target, self._jobs_a_minute(profile.name, pool))
        pool.move(target, self.world.now, late=self._late(profile.name))
        return math.ceil(pool.workers / threads)

    def _need(self, name: str) -> float:
        queue = self.world.queues[name]
        sla_seconds = max(1.0, self.policy.target_seconds(name) - self._boot_seconds)
        age_seconds = int(queue.latency_seconds(self.world.now))
        return max(
            true_rate(self.world, name) * queue.mean_seconds,
            drain_workers(queue.waiting, age_seconds, sla_seconds, queue.mean_seconds),
        )

    def _late(self, profile: str) -> bool:
        second = self.world.now
        return any(
            self.world.queues[name].latency_seconds(second) >= self.policy.target_seconds(name)
            for name in self._queues[profile]
        )

    def _saturated(self, group: Group) -> bool:
        threads = len(group.fetching) * group.profile.threads
        busy = group.busy_threads + sum(i.held for i in group.fetching)
        return busy > 0 and busy >= SATURATED_SHARE * threads

    def _jobs_a_minute(self, profile: str, pool: Pool) -> float:
        second = self.world.now
        queues = [self.world.queues[name] for name in self._queues[profile]]
        pool.done.append((second, sum(q.jobs - q.waiting for q in queues)))
        while len(pool.done) > 1 and pool.done[1][0] <= second - 60:
            pool.done.popleft()
        return float(pool.done[-1][1] - pool.done[0][1])


class Pool:
    """What the package remembers of one group of workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.done: deque[tuple[int, int]] = deque()  # second, jobs done until then: the last minute
        self._target: int | None = None
        self._throughputs: deque[float] = deque(maxlen=LOOKS_KEPT)
        self._direction = 0  # of the last action
        self._acted_at = -COOLDOWN_SECONDS

    def smoothed(self, target: int, jobs_a_minute: float) -> int:
        """One less than the last target at most, while throughput is steady."""
        self._throughputs.append(jobs_a_minute)
        if self._target is not None and target < self._target and self._steady():
            target = max(target, self._target - 1)
        self._target = target
        return target

    def _steady(self) -> bool:
        if len(self._throughputs) < LOOKS_MIN:
            return False
        mean = fmean(self._throughputs)
        return mean > 0.0 and pstdev(self._throughputs) / mean < STEADY_VARIATION

    def move(self, target: int, second: int, *, late: bool) -> None:
        """Towards the target, unless the last action was in the other direction and is too fresh."""
        direction = (target > self.workers) - (target < self.workers)
        if not direction:
            return
        fresh = second - self._acted_at < COOLDOWN_SECONDS
        if fresh and direction == -self._direction and not (late and direction > 0):
            return
        if direction < 0:
            target = max(target, self.workers - max(1, math.ceil(LET_GO_SHARE * self.workers)))
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
