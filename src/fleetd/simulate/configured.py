"""A trace under a configuration: profiles that the trace leaves to it, and what of the two does not fit."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.policy import Policy
from fleetd.errors import ConfigProblem
from fleetd.simulate.trace import Trace
from fleetd.simulate.trace_checks import NO_PROFILES, check_initial, misfits, told


def configured(
    trace: Trace, policy: Policy | None, without_min: tuple[str, ...], problems: list[ConfigProblem]
) -> Policy | None:
    """The configuration's policy for a trace; what does not fit goes to `problems`.

    `without_min`: profiles whose min is the default. Theirs is what the trace begins with, as of its own profiles.
    """
    if trace.profiles or told(problems, "profiles"):
        return policy
    if policy is None:
        problems.append(NO_PROFILES)
        return None
    problems += misfits([queue.name for queue in trace.queues], trace.targets_seconds, policy.profiles)
    initial = trace.initial_instances
    check_initial(initial, {p.name: p.max_instances for p in policy.profiles}, problems)
    profiles = tuple(
        structs.replace(p, min_instances=min(initial, p.max_instances)) if p.name in without_min else p
        for p in policy.profiles
    )
    return structs.replace(policy, profiles=profiles)
