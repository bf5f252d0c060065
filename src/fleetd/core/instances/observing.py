"""Mode "observe": fleetd decides everything, and does only what people ordered through it and what it had begun.

A tick is decided twice then. Once as if fleetd acted: that is shown, and nothing of it is done or remembered, or later
readings would look like a person's acts (law 6). And once as it observes: desired counts, admission, rollouts, the
scheduler and what hangs all look at `policy.observes`, and leave nothing but people's orders. `only_ordered` is behind
all of them: a tick with any other step does and remembers nothing.

What is begun is finished: a drain goes on, because quiet can't be undone; what was let go before its replacement gets
it; and a scheduler that was stopped in order to be started again is started.
"""

from __future__ import annotations

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.reasons.units import ReplaceCause


def only_ordered(tick: HostTick, before: HostMemory, decision: HostDecision) -> HostDecision:
    """The decision, if every step of it was ordered or begun; else one that does nothing. `before`: as assessed."""
    if all(_is_ordered(step, tick, before) for step in decision.steps):
        return decision
    nothing = HostDecision(before)
    nothing.clamps = decision.clamps
    return nothing


def _is_ordered(step: Step, tick: HostTick, before: HostMemory) -> bool:
    """Whether a person ordered this step through fleetd, or it finishes what was begun before this tick."""
    rollout = before.rollout_under_way
    if step.verb != "start" and step.key in before.drains:
        return True
    if step.profile in tick.constraints.set_instances:
        return True
    if step.verb == "start" and step.key == SCHEDULER:
        return before.scheduler_handover
    if rollout is None:
        return False
    restarts = rollout.cause == ReplaceCause.RESTART
    if step.verb != "start":
        return restarts and step.key in rollout.left
    current = tick.policy.profile_of(rollout.current) if rollout.current is not None else None
    return step.profile == rollout.unavailable_in or (restarts and current is not None and step.profile == current.name)
