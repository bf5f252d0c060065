"""Which queues ask for a profile's instances, with the numbers behind it (law 8).

Computed only where the admitted count differs from what runs, so an ordinary tick pays nothing for it.
"""

from __future__ import annotations

import math

from fleetd.core.demand.backlog import Waiting, capacity_of, hardest
from fleetd.core.demand.needed import Needed, at_home, overflows_of
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamp, ProfilePlan
from fleetd.core.model.facts import SidekiqFacts
from fleetd.core.model.policy_tables import Profile

#: Queues named at most, the busiest first.
NAMED_MAX = 2
#: A queue that keeps fewer threads busy is not named.
NAMED_THREADS = 0.5
#: Clamps that explain a count alone: the queues' need played no part in it.
_ALONE = frozenset({reasons.ClampCode.SET, reasons.ClampCode.LATENCY_UNKNOWN})


def wanted(
    tick: HostTick, counts: dict[str, ProfilePlan], needed: Needed | None, clamps: tuple[Clamp, ...]
) -> dict[str, reasons.Wanted]:
    """Why a profile's admitted count differs from what runs, for each profile where it does."""
    found = {}
    for profile in tick.policy.profiles:
        planned, running = counts[profile.name], tick.running[profile.name]
        if planned.admitted_instances == running:
            continue
        need = None
        if not tick.fleet.alone:  # the whole fleet's, which the leader has read
            share = (tick.fleet.shares or {}).get(profile.name)
            need = share.need if share is not None else None
        elif needed is not None and tick.sidekiq is not None:
            need = need_of(tick, profile, needed, tick.sidekiq)
        own = [clamp for clamp in clamps if clamp.profile == profile.name]
        found[profile.name] = wanted_because(planned, running, need, own)
    return found


def wanted_because(
    planned: ProfilePlan, running: int, need: reasons.Need | None, clamps: list[Clamp]
) -> reasons.Wanted:
    """Why one profile's count is what it is, with the clamp that set it, if one did. `clamps`: of this profile."""
    admitted = planned.admitted_instances
    moved = [c for c in clamps if c.after_instances is not None and c.after_instances != c.before_instances]
    last = next((c for c in reversed(moved) if c.after_instances == admitted), moved[-1] if moved else None)
    alone = last is not None and (need is None or last.code in _ALONE)
    clamped = alone or (last is not None and planned.needed_instances != admitted)
    return reasons.Wanted(
        admitted_instances=admitted,
        running_instances=running,
        needed_instances=planned.needed_instances,
        need=None if alone else need,
        clamp=last.reason if last is not None and clamped else None,
    )


def need_of(tick: HostTick, profile: Profile, needed: Needed, sidekiq: SidekiqFacts) -> reasons.Need:
    """What the need comes from: a queue that waits, queues that keep threads busy, or overflow from other profiles."""
    utilisation = tick.policy.pace.utilisation
    waiting = at_home(tick.policy, profile, needed.waiting)
    found = hardest(profile, waiting, capacity_of(profile, tick.active, tick.constraints.boot_seconds))
    load = {w.queue: w.load_threads for w in waiting}
    own = max(sum(load.values()), found[0] * utilisation if found else 0.0)
    if own < needed.profile_threads[profile.name] / 2:
        full = [one for one, other in overflows_of(tick.policy.profiles) if other == profile.name]
        if full:
            threads = needed.profile_threads[profile.name] - own
            return reasons.OverflowsHere(threads=threads, from_profiles=tuple(full[:NAMED_MAX]))
    if found is None or found[0] * utilisation < sum(load.values()):
        named = sorted((q for q in load if load[q] >= NAMED_THREADS), key=lambda q: -load[q])
        return reasons.KeepsBusy(
            threads=tuple((queue, load[queue]) for queue in named[:NAMED_MAX]),
            rest_threads=sum(load[queue] for queue in named[NAMED_MAX:]),
        )
    _, hard, lasts_seconds = found
    facts = sidekiq.queues[hard.queue]
    behind = _behind(profile, waiting, hard)
    return reasons.QueueNeeds(
        queue=hard.queue,
        length_jobs=facts.length_jobs,
        behind_queue=behind.queue if behind is not None else "",
        behind_jobs=sidekiq.queues[behind.queue].length_jobs if behind is not None else 0,
        latency_seconds=facts.latency_seconds,
        target_seconds=tick.policy.target_seconds(hard.queue),
        lasts_seconds=None if math.isinf(lasts_seconds) else lasts_seconds,
    )


def _behind(profile: Profile, waiting: list[Waiting], hard: Waiting) -> Waiting | None:
    """The queue with most to do of those before it in a strict order, if that is more than it has itself."""
    if profile.order == "weighted":
        return None
    before = waiting[: waiting.index(hard)]
    most = max(before, key=lambda w: w.work_seconds, default=None)
    return most if most is not None and most.work_seconds > hard.work_seconds else None
