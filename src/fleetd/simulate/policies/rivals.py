"""How others decide, each as its own documentation defines it, evaluated at its own interval for each profile.

The metric of those that scale on latency is the greatest of age / target over a profile's queues. While Redis is down
none of them has a metric, and all keep what they have (the Kubernetes HPA and Nomad skip the evaluation; the others get
no report).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from statistics import fmean, pstdev

from fleetd.core.demand.needed import home
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


class Rival:
    """A policy that is evaluated every `interval_seconds`: how many instances should each profile have?"""

    interval_seconds = 15

    def __init__(self, world: World) -> None:
        self.world = world
        self.desired = {group.profile.name: group.capacity for group in world.groups}

    def evaluate(self) -> dict[str, int]:
        """The desired count of each profile, never below its min."""
        if "redis" not in self.world.down:
            for group in self.world.groups:
                desired = self.desired_instances(group, group.capacity)
                self.desired[group.profile.name] = max(group.profile.min_instances, desired)
        return self.desired

    def desired_instances(self, group: Group, current: int) -> int:
        """The desired count of a profile that has `current` instances."""
        raise NotImplementedError

    def latency_ratio(self, group: Group) -> float:
        """The greatest age / target of the profile's queues. Above 1.0 a job is late."""
        second, target_seconds = self.world.now, self.world.policy.target_seconds
        return max((q.latency_seconds(second) / target_seconds(q.name) for q in group.queues), default=0.0)

    def waiting_jobs(self, group: Group) -> int:
        """The jobs that wait in all of the profile's queues."""
        return sum(queue.waiting for queue in group.queues)


def arrival_rate(world: World, name: str, seconds: int = 60) -> float:
    """Jobs a second that truly arrived in the last `seconds`. Only a simulator knows this."""
    end = min(world.now, len(world.queues[name].arrivals))
    begin = max(0, end - seconds)
    return sum(world.queues[name].arrivals[begin:end]) / max(1, end - begin)


class Static(Rival):
    """A fleet sized by hand: its maximum, always."""

    def desired_instances(self, group: Group, current: int) -> int:
        return group.profile.max_instances


class Hpa(Rival):
    """Kubernetes HorizontalPodAutoscaler, autoscaling/v2 with its default behavior, on an external metric.

    Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (v1.37): every 15 s desired =
    ceil(current × metric / target), nothing within ±10 %; scale-up at most the greater of +100 % and +4 pods per 15 s;
    scale-down to the highest recommendation of the last 300 s, at most −100 % per 15 s. The first of these
    recommendations is the size it finds (recordInitialRecommendation in
    https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/horizontal.go): it scales nothing
    down in the first 300 s.

    At 0 replicas with a min above 0 it is disabled ("implicit maintenance-mode deactivation"). With min = 0 it goes
    to 0 and comes back with ceil(metric / target), whatever the tolerance: so from v1.37 on, before that it needs a
    feature gate (https://kubernetes.io/blog/2026/09/02/kubernetes-v1-37-hpa-scale-to-zero-beta/).
    """

    interval_seconds = 15
    tolerance = 0.1
    stabilisation_seconds = 300

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._recommendations: dict[str, deque[tuple[int, int]]] = {
            group.profile.name: deque() for group in world.groups
        }

    def recommended_instances(self, group: Group, current: int) -> int:
        """What the metric alone asks for."""
        ratio = self.latency_ratio(group)
        if not current:
            return math.ceil(ratio)
        return current if abs(ratio - 1.0) <= self.tolerance else math.ceil(current * ratio)

    def desired_instances(self, group: Group, current: int) -> int:
        if not current and group.profile.min_instances:
            return 0
        second, recommendations = self.world.now, self._recommendations[group.profile.name]
        if not recommendations:
            recommendations.append((second, current))
        recommended = min(group.profile.max_instances, self.recommended_instances(group, current))
        recommendations.append((second, recommended))
        while recommendations[0][0] <= second - self.stabilisation_seconds:
            recommendations.popleft()
        if recommended > current:
            return min(recommended, max(2 * current, current + 4))
        return min(current, max(instances for _, instances in recommendations))


class KedaLength(Hpa):
    """KEDA's Redis list scaler: length / listLength (5 by default) replicas, carried out by an HPA.

    Sources (2.17): https://keda.sh/docs/2.17/scalers/redis-lists/, listLength "Average target value to trigger scaling
    actions. (Default: 5)"; https://keda.sh/docs/2.17/reference/scaledobject-spec/, pollingInterval (30 s) counts while
    there are 0 replicas; from 1 to N the HPA asks by itself, every 15 s, so that is its interval here.

    With min = 0 KEDA starts one at a poll that finds a job, and goes back to 0 after 300 s without (cooldownPeriod);
    in between its HPA keeps at least one.
    """

    list_length = 5
    poll_seconds, cooldown_seconds = 30, 300

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._polled_at: dict[str, int] = {}
        self._active_at: dict[str, int] = {}  # the last poll that found a job

    def recommended_instances(self, group: Group, current: int) -> int:
        waiting = self.waiting_jobs(group)
        if current and abs(waiting / (self.list_length * current) - 1.0) <= self.tolerance:
            return current
        return math.ceil(waiting / self.list_length)

    def desired_instances(self, group: Group, current: int) -> int:
        if group.profile.min_instances:
            return super().desired_instances(group, current)
        idle_seconds = self._idle_seconds(group)
        if not current:
            return 1 if idle_seconds == 0 else 0
        if idle_seconds >= self.cooldown_seconds:
            return 0
        return max(1, super().desired_instances(group, current))

    def _idle_seconds(self, group: Group) -> int:
        """From the last poll that found a job to the latest poll; the cooldown if none ever did."""
        name, second = group.profile.name, self.world.now
        if second - self._polled_at.get(name, -self.poll_seconds) >= self.poll_seconds:
            self._polled_at[name] = second
            if self.waiting_jobs(group):
                self._active_at[name] = second
        return self._polled_at[name] - self._active_at.get(name, -self.cooldown_seconds)


class Judoscale(Rival):
    """Judoscale: one up while the queue time is above the upper threshold, one down after a while below the lower.

    Sources (a service without versions): https://judoscale.com/guides/autoscaling-behavior/, metrics every 10 s, one
    more when above the upper threshold, no further one within 3 min;
    https://judoscale.com/docs/tuning-your-application, one less after 10 min below the lower threshold, and another
    after each 10 min more. The lower threshold, which the admin sets, is a tenth of the upper here.
    """

    interval_seconds = 10
    up_every_seconds, down_after_seconds = 180, 600
    lower_share = 0.1

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._scaled_up_at: dict[str, int] = {}
        self._low_since: dict[str, int] = {}

    def desired_instances(self, group: Group, current: int) -> int:
        name, second, ratio = group.profile.name, self.world.now, self.latency_ratio(group)
        if ratio >= self.lower_share:
            self._low_since.pop(name, None)
        if ratio > 1.0:
            if second - self._scaled_up_at.get(name, -self.up_every_seconds) < self.up_every_seconds:
                return current
            self._scaled_up_at[name] = second
            return current + 1
        if ratio < self.lower_share:
            since = self._low_since.setdefault(name, second)
            if second - since >= self.down_after_seconds:
                self._low_since[name] = second
                return current - 1
        return current


class Nomad(Rival):
    """Nomad Autoscaler, target-value strategy.

    Sources: https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/target-value, next =
    ceil(count × metric / target), no change when the factor lies within the threshold (0.01);
    https://developer.hashicorp.com/nomad/tools/autoscaling/agent/policy, evaluation every 10 s, cooldown 5 min after an
    action. At a count of 0 the factor itself is the new count, whatever the threshold: https://github.com/hashicorp/
    nomad-autoscaler/blob/main/plugins/builtin/strategy/target-value/plugin/plugin.go.
    """

    interval_seconds = 10
    threshold, cooldown_seconds = 0.01, 300

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._scaled_at: dict[str, int] = {}

    def desired_instances(self, group: Group, current: int) -> int:
        name, second = group.profile.name, self.world.now
        if second - self._scaled_at.get(name, -self.cooldown_seconds) < self.cooldown_seconds:
            return self.desired[name]
        factor = self.latency_ratio(group)
        if current and abs(factor - 1.0) <= self.threshold:
            return current
        low, high = group.profile.min_instances, group.profile.max_instances
        goal = min(high, max(low, math.ceil(current * factor if current else factor)))
        if goal != current:
            self._scaled_at[name] = second
        return goal


class Laravel(Rival):
    """laravel-queue-autoscale with its published configuration: HybridStrategy and ConservativeScaleDownPolicy.

    Source: https://github.com/cboxdk/laravel-queue-autoscale v3.11.1 (commit 4128ad9): README, config/, and in src/
    Scaling/Strategies/HybridStrategy.php, Scaling/Calculators/, Policies/, Manager/AutoscaleManager.php.

    - Every 5 s: workers = max(λ·S, drain), with the drain of `drain_workers` over the target less a mean boot.
    - If 90 % of the threads are busy and no more are needed: one worker more than serve.
    - Down by one worker an evaluation while throughput is steady, and never by more than a quarter at once.
    - For 60 s after an action none in the other direction, but up at once when a job is past its target. An action in
      the same direction never waits. (Its docs/algorithms/ describe a pause after any action; the manager has none.)

    A worker is a thread here; as many instances are desired as hold the workers. It is given the true arrival rate of
    the last minute and the true service and boot times, in place of its estimates, forecast, retry correction and p95
    of waits. A profile is one of its groups. A group has one target, so each queue's need is worked out by itself and
    summed; a queue can be in one group only: its home. Its CPU and memory limits do not apply: all share one budget.
    """

    interval_seconds = 5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._boot_seconds = sum(world.trace.boot_seconds) / 2.0
        self._queues = {
            profile.name: [q for q in world.queues.values() if home(world.policy, q.name).name == profile.name]
            for profile in world.policy.profiles
        }
        self._pools = {g.profile.name: Pool(g.capacity * g.profile.threads) for g in world.groups}

    def desired_instances(self, group: Group, current: int) -> int:
        profile, pool = group.profile, self._pools[group.profile.name]
        queues, threads, second = self._queues[profile.name], profile.threads, self.world.now
        pool.workers = min(max(pool.workers, (current - 1) * threads + 1), current * threads) if current else 0
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
        if math.isinf(
            self.world.policy.target_seconds(queue.name)
        ):  # it may wait for ever, so there is nothing to drain
            return arrival_rate(self.world, queue.name) * queue.mean_seconds
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
    """What the package remembers about one group of workers."""

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
        """The target, but at most one less than the last one while throughput is steady."""
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
    """Workers that drain a backlog in time (BacklogDrainCalculator), more of them the older the oldest job is.

    None before half of that time has passed; but an age of 0 means to it that the queue driver can't tell.
    """
    if not waiting:
        return 0.0
    if age_seconds == 0:
        return waiting / max(sla_seconds / service_seconds, 1.0)
    share = age_seconds / sla_seconds
    if share < BREACH_SHARE:
        return 0.0
    left_seconds = sla_seconds - age_seconds
    jobs_each = left_seconds / service_seconds if left_seconds > 0 else service_seconds  # sic
    base = waiting / max(jobs_each, 1.0 if left_seconds > 0 else 0.1)
    return base * min(5.0, 1.0 + 8.0 * (share - 0.5) ** 2)


#: By the name that `fleetctl simulate --policy` takes.
RIVALS: dict[str, Callable[[World], Rival]] = {
    "static": Static,
    "hpa": Hpa,
    "keda-length": KedaLength,
    "judoscale": Judoscale,
    "laravel": Laravel,
    "nomad": Nomad,
}
