"""How others decide, each as its own documentation defines it. `laravel` has a file of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from fleetd.simulate.policies.laravel import Laravel
from fleetd.simulate.policies.rival import Rival
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World


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
    https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/horizontal.go): nothing goes in
    the first 300 s.

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
        """By the metric alone."""
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
        """From the last poll that found a job to the last one; one that never found any is idle."""
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


#: By the name that `fleetctl simulate --policy` takes.
RIVALS: dict[str, Callable[[World], Rival]] = {
    "static": Static,
    "hpa": Hpa,
    "keda-length": KedaLength,
    "judoscale": Judoscale,
    "laravel": Laravel,
    "nomad": Nomad,
}
