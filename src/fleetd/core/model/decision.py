"""What was decided: steps, plans, clamps, and the states of instances.

Law 8 is kept here: every change of a count is a Clamp with a reason. The clamps of a profile form a chain: the first
`before` is what the queues need, each `after` is the next `before`, and the last `after` is the decision. So an admin
can follow the count from need to decision without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

from msgspec import structs

from fleetd.core.model import reasons
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey, unit_of

Verb = Literal["start", "quiet", "stop"]


class Step(Value, frozen=True, kw_only=True):
    """One thing to do to a unit of this host."""

    verb: Verb
    key: InstanceKey
    why: reasons.Reason
    profile: str | None = None  # None: the scheduler's

    @property
    def unit(self) -> str:
        return unit_of(self.key)


class StepResult(Value, frozen=True, kw_only=True):
    """How a step went. `sentence`: what systemd or the adapter said about it."""

    step: Step
    result: Literal["done", "failed", "refused", "timeout", "skipped"]
    sentence: str = ""


class InstanceState(StrEnum):
    """The named states of an instance; lifecycle.py derives them."""

    STARTING = "starting"
    SERVING = "serving"
    QUIETING = "quieting"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    OUTDATED = "outdated"
    PINNED = "pinned"
    UNDRAINABLE = "undrainable"
    UNRESPONSIVE = "unresponsive"
    STALLED = "stalled"


class ProfilePlan(Value, frozen=True, kw_only=True):
    """How many instances of one profile should run on one host: needed, then desired, then admitted.

    needed: by its queues, before any clamp. desired: after tolerance, hold window, people's orders, min and max.
    admitted: what connections, memory and the database allow of that; the host moves towards this count.
    """

    needed_instances: int
    desired_instances: int
    admitted_instances: int
    spare: bool = False  # one more may be started, so that one can be replaced without a gap


class Plan(Value, frozen=True, kw_only=True):
    """How many instances this host is to have. What the leader plans for all hosts is core/sharing/fleet_plan.py."""

    epoch: int
    expires_at_seconds: float  # CLOCK_BOOTTIME of the host that reads it
    profiles: dict[str, dict[str, ProfilePlan]]  # host to profile name to count
    claims_connections: int  # all claims under this plan, over all hosts

    def of(self, host: str, profile: str) -> ProfilePlan | None:
        return self.profiles.get(host, {}).get(profile)


class Clamp(Value, frozen=True, kw_only=True):
    """One change of a count, from what to what, and why; or something that is not done, and why."""

    reason: reasons.ClampReason | reasons.SchedulerHeld
    profile: str | None = None  # None: not about one profile
    before_instances: int | None = None
    after_instances: int | None = None

    @property
    def code(self) -> reasons.ClampCode:
        """The code it is counted under in the metrics."""
        return self.reason.hold.code if isinstance(self.reason, reasons.SchedulerHeld) else self.reason.code


class Clamps:
    """Collects clamps, in the order in which they changed the counts."""

    def __init__(self) -> None:
        self._found: list[Clamp] = []

    def add(
        self,
        reason: reasons.ClampReason | reasons.SchedulerHeld,
        profile: str | None = None,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> None:
        """Add one. Two in a row with one code and profile become one, from the first `before` to the last `after`."""
        clamp = Clamp(reason=reason, profile=profile, before_instances=before, after_instances=after)
        last = next((c for c in reversed(self._found) if c.profile == profile), None)
        if last is not None and last.code == clamp.code and last.before_instances is not None:
            self._found.remove(last)
            clamp = structs.replace(clamp, before_instances=last.before_instances)
        self._found.append(clamp)

    def __iter__(self) -> Iterator[Clamp]:
        return iter(self._found)
