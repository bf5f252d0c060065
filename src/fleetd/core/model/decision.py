"""What was decided: steps, plans, clamps, and the states they are made of.

Law 8 lives here: whatever changes a number is a Clamp with a code and a sentence. For each profile they form a chain:
the first one's wanted is the raw want, each one's granted is the next one's wanted, the last one's granted is what is
decided. So an admin can read from want to grant without a gap.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from fleetd.core.model.facts import Value


class ClampCode(StrEnum):
    """What can cut a want down (or up)."""

    MIN = "min"
    MAX = "max"
    TOLERANCE = "tolerance"
    HOLD_WINDOW = "hold_window"
    PACE = "pace"
    CONNECTIONS = "connections"
    MEMORY = "memory"
    LATENCY_UNKNOWN = "latency_unknown"
    HEADROOM_UNKNOWN = "headroom_unknown"
    SYSTEMD_UNKNOWN = "systemd_unknown"
    MEMORY_UNKNOWN = "memory_unknown"
    PINNED = "pinned"
    NOT_RENDERED = "not_rendered"
    NO_NUMBER_FREE = "no_number_free"
    START_FAILED = "start_failed"
    REDIS_NOT_WRITABLE = "redis_not_writable"
    SCHEDULER_LIVE = "scheduler_live"
    SCHEDULER_TAKEOVER = "scheduler_takeover"
    SCHEDULER_SURPLUS = "scheduler_surplus"
    SCHEDULER_UNKNOWN = "scheduler_unknown"
    PLAN_EXPIRED = "plan_expired"
    PAUSED = "paused"
    SET = "set"
    UPGRADE = "upgrade"
    ROLLING = "rolling"
    UNDRAINABLE = "undrainable"
    UNRESPONSIVE = "unresponsive"
    HOST_PRESSURE = "host_pressure"
    OOM_KILLED = "oom_killed"
    LONG_JOB = "long_job"
    OTHERS_UNATTRIBUTABLE = "others_unattributable"
    YIELD = "yield"
    DATABASE_SATURATED = "database_saturated"


class Clamp(Value, frozen=True, kw_only=True):
    """One thing that changed a number: from what, to what, and a sentence that says why."""

    code: ClampCode
    sentence: str
    profile: str = ""  # "" : not about one profile
    before_instances: int | None = None
    after_instances: int | None = None


Verb = Literal["start", "quiet", "stop"]


class Step(Value, frozen=True, kw_only=True):
    """One thing to do on this host."""

    verb: Verb
    number: int | Literal["scheduler"]
    profile: str = ""
    sentence: str = ""  # why

    @property
    def unit(self) -> str:
        return SCHEDULER_UNIT if self.number == "scheduler" else instance_unit(self.number)


SCHEDULER_UNIT = "mastodon-sidekiq-scheduler.service"
TEMPLATE_UNIT = "mastodon-sidekiq@.service"


def instance_unit(number: int) -> str:
    return f"mastodon-sidekiq@{number}.service"


class StepResult(Value, frozen=True, kw_only=True):
    """How a step went."""

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


class ProfilePlan(Value, frozen=True, kw_only=True):
    """How many instances of one profile should run on one host."""

    instances: int
    needed_instances: int  # before any clamp
    spare: bool = False  # one more may be started, so that one can be replaced without a gap
    desired_instances: int | None = None  # before connections and memory cut it down; None: not told


class Plan(Value, frozen=True, kw_only=True):
    """The fleet's decision, as committed to the ledger."""

    epoch: int
    expires_at_seconds: float  # CLOCK_BOOTTIME of the host that reads it
    profiles: dict[str, dict[str, ProfilePlan]]  # host to profile name to count
    claims_connections: int  # claims this plan grants, over all hosts
    scheduler_host: str | None = None  # None: no decision to start one anywhere


class Clamps:
    """Collects clamps, in the order of what they did."""

    def __init__(self) -> None:
        self._said: list[Clamp] = []

    def say(
        self,
        code: ClampCode,
        sentence: str,
        profile: str = "",
        *,
        wanted: int | None = None,
        granted: int | None = None,
    ) -> None:
        """Add one. Said twice in a row for a profile, it becomes one, from the first want to the last grant."""
        before = next((c for c in reversed(self._said) if c.profile == profile), None)
        if before is not None and before.code == code:
            self._said.remove(before)
            wanted = before.before_instances if before.before_instances is not None else wanted
        self._said.append(
            Clamp(
                code=code,
                sentence=sentence,
                profile=profile,
                before_instances=wanted,
                after_instances=granted,
            )
        )

    def all(self) -> tuple[Clamp, ...]:
        return tuple(self._said)
