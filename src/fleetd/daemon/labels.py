"""Label values that come from outside, bounded over time: queue names in Redis, host names in heartbeats (law 7).

Each new value of a label is a new series in Prometheus for as long as it keeps data. So names that come and go get a
fixed number of places. A place becomes free only when its name has not been seen for a day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from fleetd.core.model.policy_tables import SCHEDULER_QUEUE
from fleetd.core.model.status import ClaimStatus, Status

#: Places of queues that no profile of this host serves, and of other hosts.
QUEUES_MAX, HOSTS_MAX = 64, 32
KEPT_SECONDS = 86_400.0
#: The host of those claims whose host has no place.
MORE = "more"


class Places:
    """The names that have a place."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._seen_seconds: dict[str, float] = {}

    def of(self, names: Iterable[str], always: frozenset[str], now_seconds: float) -> frozenset[str]:
        """Those of `names` that are shown now: the ones in `always`, and the others while there are places."""
        shown = set()
        for name in names:
            if name in always or self._has_place(name, now_seconds):
                shown.add(name)
        return frozenset(shown)

    def _has_place(self, name: str, now_seconds: float) -> bool:
        if name not in self._seen_seconds and len(self._seen_seconds) >= self._names_max:
            oldest = min(self._seen_seconds, key=self._seen_seconds.__getitem__)
            if now_seconds - self._seen_seconds[oldest] < KEPT_SECONDS:
                return False
            del self._seen_seconds[oldest]
        self._seen_seconds[name] = now_seconds
        return True


class BoundedLabels:
    """A Status without the names that have no place."""

    def __init__(self) -> None:
        self._queues, self._hosts = Places(QUEUES_MAX), Places(HOSTS_MAX)

    def of(self, status: Status, now_seconds: float) -> tuple[Status, int]:
        """The Status with bounded names, and how many queues it leaves out."""
        served = {queue.partition(",")[0] for profile in status.profiles for queue in profile.queues}
        shown = self._queues.of((q.name for q in status.queues), frozenset({*served, SCHEDULER_QUEUE}), now_seconds)
        queues = tuple(q for q in status.queues if q.name in shown)
        claims = self._claims(status, now_seconds)
        bounded = replace(status, queues=queues, connections=replace(status.connections, claims=claims))
        return bounded, len(status.queues) - len(queues)

    def _claims(self, status: Status, now_seconds: float) -> tuple[ClaimStatus, ...]:
        """The claims, those of hosts without a place added up, so that the sum stays right."""
        claims = status.connections.claims
        shown = self._hosts.of((c.host for c in claims), frozenset({status.host, MORE}), now_seconds)
        instances: Counter[tuple[str, str]] = Counter()
        connections: Counter[tuple[str, str]] = Counter()
        for claim in claims:
            key = (claim.host if claim.host in shown else MORE, claim.profile)
            instances[key] += claim.instances
            connections[key] += claim.connections
        return tuple(
            ClaimStatus(host=host, profile=profile, instances=count, connections=connections[host, profile])
            for (host, profile), count in instances.items()
        )
