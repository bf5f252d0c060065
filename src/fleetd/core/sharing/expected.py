"""How many each host has by now: what it told, or what the last plan gave it, where it can't have told of that yet.

A host follows a plan with its next tick, and its record tells of that up to two ticks later. What was told before would
be planned again as what runs: the host would end an instance that it has just started, or start one for that it has
just ended, and so on for ever. On one host, what was just ordered counts at once.

So the plan counts until the record has been the same for SETTLES_TICKS. A host that does not follow it has told so by
then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, structs

from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import Value
from fleetd.core.sharing.merged import FleetTick
from fleetd.core.sharing.report import HostReport, ProfileReport
from fleetd.core.sharing.share import Shares

SETTLES_TICKS = 4
_Count = Annotated[int, Meta(ge=0)]


class Given(Value, frozen=True, kw_only=True, array_like=True):
    """One profile of a host: what the last plan gave it, what it had told then, and since when both are the same."""

    goal_instances: _Count
    told_instances: _Count
    since_seconds: float  # of the fleet clock


#: By host and its own name of the profile.
AllGiven = Mapping[str, Mapping[str, Given]]


def as_expected(fleet: FleetTick, own: str, given: AllGiven) -> FleetTick:
    """The fleet with how many run by now. `own`: the leader, which knows what it has."""
    running = dict.fromkeys((p.name for p in fleet.profiles), 0)
    for profile in fleet.profiles:
        for host, place in profile.places.items():
            report = fleet.reports[host]
            told = report.profiles[place]
            last = None if host == own else given.get(host, {}).get(told.name)
            running[profile.name] += told.running if last is None else _expected(fleet.tick, report, told, last)
    return structs.replace(fleet, tick=structs.replace(fleet.tick, running=running))


def _expected(tick: HostTick, report: HostReport, told: ProfileReport, last: Given) -> int:
    same_seconds = tick.now_seconds - last.since_seconds if told.running == last.told_instances else 0.0
    settled = not 0.0 <= same_seconds <= SETTLES_TICKS * tick.policy.pace.tick_seconds
    if settled or report.held:
        return told.running
    return min(last.goal_instances, told.running + (0 if told.refused else told.free_numbers))


def given_now(before: AllGiven, fleet: FleetTick, shares: Shares) -> dict[str, dict[str, Given]]:
    """What the plan that was just made gives each host, to be remembered for the next one."""
    found: dict[str, dict[str, Given]] = {}
    now = fleet.tick.now_seconds
    for host, by_name in shares.hosts.items():
        told, earlier = {p.name: p.running for p in fleet.reports[host].profiles}, before.get(host, {})
        found[host] = {}
        for name, share in by_name.items():
            goal, last = share.desired_instances, earlier.get(name)
            same = last is not None and (last.goal_instances, last.told_instances) == (goal, told[name])
            since = last.since_seconds if last is not None and same else now
            found[host][name] = Given(goal_instances=goal, told_instances=told[name], since_seconds=since)
    return found
