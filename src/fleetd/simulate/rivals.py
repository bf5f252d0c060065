"""How others decide, each as its own documentation defines it. One look at a time, per profile, independently.

The metric of those that scale on latency is the greatest of age / target over a profile's queues. While Redis is away
none of them has a metric, and all keep what they have (the Kubernetes HPA and Nomad skip the evaluation; the others get
no report).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from fleetd.core.policy import Policy, Profile
from fleetd.simulate.fleet import Group
from fleetd.simulate.steering import counted
from fleetd.simulate.world import World


class Rival:
    """A policy that says, at its own cadence, how many instances it wants of each profile."""

    name = ""
    every_seconds = 15

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.wanted = {g.profile.name: counted(g) for g in world.groups}

    def look(self) -> dict[str, int]:
        """The wanted counts; called every `every_seconds`."""
        if "redis" not in self.world.down:
            for group in self.world.groups:
                now = self._now(group)
                self.wanted[group.profile.name] = max(group.profile.min_instances, self.want(group, now))
        return self.wanted

    def _now(self, group: Group) -> int:
        return counted(group)

    def want(self, group: Group, now: int) -> int:
        raise NotImplementedError

    def ratio(self, profile: Profile) -> float:
        """The greatest age / target of the profile's queues."""
        second = self.world.now
        return max(
            (
                self.world.queues[name].oldest_age(second) / self.policy.target_seconds(name)
                for name, _ in profile.queues
                if name in self.world.queues
            ),
            default=0.0,
        )


class Static(Rival):
    """A fleet sized by hand: its maximum, always."""

    name = "static"

    def want(self, group: Group, now: int) -> int:
        return group.profile.max_instances


class Hpa(Rival):
    """Kubernetes HorizontalPodAutoscaler, autoscaling/v2 with its default behavior.

    Source: kubernetes.io "Horizontal Pod Autoscaling": every 15 s desired = ceil(current × metric / target), nothing
    within ±10 %; scale-up at most the greater of +100 % and +4 pods per 15 s; scale-down to the highest
    recommendation of the last 300 s, at most −100 % per 15 s.
    """

    name = "hpa"
    every_seconds = 15
    tolerance = 0.1
    stabilisation_seconds = 300

    def __init__(self, world: World, policy: Policy) -> None:
        super().__init__(world, policy)
        self._said: dict[str, deque[tuple[int, int]]] = {g.profile.name: deque() for g in world.groups}

    def recommended(self, group: Group, now: int) -> int:
        ratio = self.ratio(group.profile)
        return now if abs(ratio - 1.0) <= self.tolerance else math.ceil(now * ratio)

    def want(self, group: Group, now: int) -> int:
        asked = min(group.profile.max_instances, self.recommended(group, now))
        said = self._said[group.profile.name]
        said.append((self.world.now, asked))
        while said[0][0] < self.world.now - self.stabilisation_seconds:
            said.popleft()
        if asked > now:
            return min(asked, max(2 * now, now + 4))
        return min(now, max(want for _, want in said))


class KedaLength(Hpa):
    """KEDA's Redis list scaler: length / listLength (5 by default) replicas, carried out by an HPA.

    Source: keda.sh, scalers "Redis Lists": listLength "Average target value to trigger scaling actions. (Default: 5)";
    pollingInterval 30 s.
    """

    name = "keda-length"
    every_seconds = 30
    list_length = 5

    def recommended(self, group: Group, now: int) -> int:
        waiting = sum(
            self.world.queues[name].waiting for name, _ in group.profile.queues if name in self.world.queues
        )
        asked = math.ceil(waiting / self.list_length)
        if now and abs(waiting / (self.list_length * now) - 1.0) <= self.tolerance:
            return now
        return asked


class Judoscale(Rival):
    """Judoscale: one up while the queue time is above the upper threshold, one down after a while below the lower.

    Source: judoscale.com docs: the adapter reports every 10 s; one more when above the upper threshold, no further one
    within 3 min; one less after 10 min below the lower threshold, which is a tenth of the upper here.
    """

    name = "judoscale"
    every_seconds = 10
    up_every_seconds, down_after_seconds = 180, 600
    lower_share = 0.1

    def __init__(self, world: World, policy: Policy) -> None:
        super().__init__(world, policy)
        self._up: dict[str, int] = {}
        self._low_since: dict[str, int] = {}

    def want(self, group: Group, now: int) -> int:
        name, second, ratio = group.profile.name, self.world.now, self.ratio(group.profile)
        if ratio >= self.lower_share:
            self._low_since.pop(name, None)
        if ratio > 1.0:
            if second - self._up.get(name, -self.up_every_seconds) < self.up_every_seconds:
                return now
            self._up[name] = second
            return now + 1
        if ratio < self.lower_share:
            since = self._low_since.setdefault(name, second)
            if second - since >= self.down_after_seconds:
                self._low_since[name] = second
                return now - 1
        return now


class Nomad(Rival):
    """Nomad Autoscaler, target-value strategy.

    Source: developer.hashicorp.com, "Target Value Strategy Plugin": next = ceil(count × metric / target), no change
    when the factor lies within the threshold (0.01); evaluation every 10 s; cooldown 5 min after an action.
    """

    name = "nomad"
    every_seconds = 10
    threshold, cooldown_seconds = 0.01, 300

    def __init__(self, world: World, policy: Policy) -> None:
        super().__init__(world, policy)
        self._acted: dict[str, int] = {}

    def want(self, group: Group, now: int) -> int:
        name, second = group.profile.name, self.world.now
        if second - self._acted.get(name, -self.cooldown_seconds) < self.cooldown_seconds:
            return self.wanted[name]
        factor = self.ratio(group.profile)
        if abs(factor - 1.0) <= self.threshold:
            return now
        low, high = group.profile.min_instances, group.profile.max_instances
        goal = min(high, max(low, math.ceil(now * factor)))
        if goal != now:
            self._acted[name] = second
        return goal


class Laravel(Rival):
    """laravel-queue-autoscale: the greater of Little's law and what drains the backlog before its target.

    Source: its README: a loop of 5 s, 60 s between actions; workers = max(λ·S, drain), drain = backlog /
    max((SLA − age) / S, 1) × min(5, 1 + 8 (p − 0.5)²) with p = age / SLA from 0.5 on; SLA less the average boot time.
    It is given the true arrival rate of the last minute and the true service time; a worker is a thread here.
    """

    name = "laravel"
    every_seconds = 5
    cooldown_seconds = 60

    def __init__(self, world: World, policy: Policy) -> None:
        super().__init__(world, policy)
        self._acted: dict[str, int] = {}
        self._boot_seconds = sum(world.trace.boot_seconds) / 2.0

    def want(self, group: Group, now: int) -> int:
        name, second = group.profile.name, self.world.now
        workers = sum(self._workers(q) for q, _ in group.profile.queues if q in self.world.queues)
        goal = min(group.profile.max_instances, math.ceil(workers / group.profile.threads))
        goal = max(goal, group.profile.min_instances)
        if goal == now or second - self._acted.get(name, -self.cooldown_seconds) < self.cooldown_seconds:
            return now
        self._acted[name] = second
        return goal

    def _workers(self, name: str) -> float:
        queue, second = self.world.queues[name], self.world.now
        service = queue.mean_seconds
        steady = true_rate(self.world, name) * service
        if not queue.waiting:
            return steady
        sla = max(1.0, self.policy.target_seconds(name) - self._boot_seconds)
        age = queue.oldest_age(second)
        share = age / sla
        pressure = min(5.0, 1.0 + 8.0 * (share - 0.5) ** 2) if share >= 0.5 else 1.0
        drain = queue.waiting / max((sla - age) / service, 1.0) * pressure
        return max(steady, drain)


def true_rate(world: World, name: str, seconds: int = 60) -> float:
    """Jobs a second that came in during the last minute, as nobody outside a simulator knows it."""
    end = min(world.now, len(world.queues[name].arrivals))
    begin = max(0, end - seconds)
    return sum(world.queues[name].arrivals[begin:end]) / max(1, end - begin)


RIVALS: dict[str, Callable[..., Rival]] = {
    kind.name: kind for kind in (Static, Hpa, KedaLength, Judoscale, Laravel, Nomad)
}
