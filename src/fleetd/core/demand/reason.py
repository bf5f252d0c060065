"""Why so many instances are wanted, as a sentence with the numbers it came from (law 8).

Made only where what is wanted is not what runs, so an ordinary tick pays nothing for it.
"""

from __future__ import annotations

import math

from fleetd.core.demand.backlog import capacity_of, hardest
from fleetd.core.demand.needed import Demand, DemandMemory, at_home, overflows_of
from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import Clamp, ClampCode, Clamps, ProfilePlan
from fleetd.core.model.facts import Known, Reading, SidekiqFacts
from fleetd.core.model.policy import Policy, Profile

#: Queues named at most, the busiest first.
NAMED_MAX = 2
#: A queue that keeps fewer threads busy is not worth naming.
NAMED_THREADS = 0.5
#: What these say is all there is to say: no need of a queue had a part in it.
_ALONE = frozenset({ClampCode.SET, ClampCode.LATENCY_UNKNOWN})


def reasons(
    policy: Policy,
    sidekiq: Reading[SidekiqFacts],
    instances: tuple[InstanceView, ...],
    current: dict[str, int],
    counts: dict[str, ProfilePlan],
    demanded: Demand | None,
    memory: DemandMemory,
    terms: HostConstraints,
    clamps: Clamps,
) -> dict[str, str]:
    """By profile, where as many are not wanted as run. `memory`: with this reading folded in."""
    found = {}
    for profile in policy.profiles:
        name, need = profile.name, ""
        if counts[name].instances == current[name]:
            continue
        if demanded is not None and isinstance(sidekiq, Known):
            boot = terms.boot_seconds
            need = need_sentence(policy, profile, demanded, sidekiq.value, memory, instances, boot)
        said = [clamp for clamp in clamps.all() if clamp.profile == name]
        found[name] = want_sentence(counts[name], current[name], need, said)
    return found


def want_sentence(planned: ProfilePlan, have: int, need: str, clamps: list[Clamp]) -> str:
    """`12 wanted, 3 run: push has 5,000 jobs waiting, …; that needs 14, but max is 12`. `clamps`: of this profile."""
    raw, granted = planned.needed_instances, planned.instances
    head = f"{granted} wanted, {have} run"
    moved = [c for c in clamps if c.after_instances is not None and c.after_instances != c.before_instances]
    last = next((c for c in reversed(moved) if c.after_instances == granted), moved[-1] if moved else None)
    if last is not None and (not need or last.code in _ALONE):
        return f"{head}: {last.sentence}"
    if not need:
        return head
    but = f"; that needs {raw}, but {last.sentence}" if last is not None and raw != granted else ""
    return f"{head}: {need}{but}"


def need_sentence(
    policy: Policy,
    profile: Profile,
    demanded: Demand,
    sidekiq: SidekiqFacts,
    memory: DemandMemory,
    instances: tuple[InstanceView, ...],
    boot_seconds: dict[str, float],
) -> str:
    """What of the queues asks for this profile's threads: one that waits, or what keeps them busy."""
    waiting = at_home(policy, profile, sidekiq, memory)
    found = hardest(profile, waiting, capacity_of(profile, instances, boot_seconds))
    load = {w.queue: w.load_threads for w in waiting}
    own = max(sum(load.values()), found[0] * policy.pace.utilisation if found else 0.0)
    if own < demanded.profile_threads[profile.name] / 2:
        full = [one for one, other in overflows_of(policy.profiles) if other == profile.name]
        if full:
            threads = demanded.profile_threads[profile.name] - own
            names = ", ".join(full[:NAMED_MAX])
            return f"work for {threads:.0f} threads comes here that {names} can't carry"
    if found is None or found[0] * policy.pace.utilisation < sum(load.values()):
        return _busy(load)
    _, hard, lasts_seconds = found
    facts = sidekiq.queues[hard.queue]
    takes = "would never catch up" if math.isinf(lasts_seconds) else f"would take {lasts_seconds:,.0f} s"
    jobs = f"{facts.length_jobs:,} {'job waits' if facts.length_jobs == 1 else 'jobs wait'}"
    return (
        f"{hard.queue}: {jobs}, the oldest for {facts.latency_seconds:,.0f} s "
        f"(target {policy.target_seconds(hard.queue):g} s); what runs {takes}"
    )


def _busy(load: dict[str, float]) -> str:
    named = sorted((q for q in load if load[q] >= NAMED_THREADS), key=lambda q: -load[q])
    if not named:
        return "its queues keep hardly a thread busy"
    said = ", ".join(f"{queue} {load[queue]:.0f}" for queue in named[:NAMED_MAX])
    rest = sum(load[queue] for queue in named[NAMED_MAX:])
    return f"threads kept busy: {said}{f', others {rest:.0f}' if rest >= NAMED_THREADS else ''}"
