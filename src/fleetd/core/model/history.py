"""What is kept of the past: samples of what was read, enough for a trace, and sentences of what was done and why.

No secret is in a policy or a sample; sentences have theirs taken out before they are written. Samples are arrays on
disk, so a field is only ever added at the end, with a default.
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Policy

#: An entry's sentence is cut to this.
SENTENCE_CHARACTERS_MAX = 1000

#: step: something was started, quieted or stopped. want: how many of a profile are wanted changed, and why. order: by a
#: person, over fleetctl. noticed: what people and systemd did, what went wrong. reading: a source went away or came
#: back. reason: what cut a want down changed. daemon: fleetd itself started, stopped, read its configuration.
EntryKind = Literal["step", "want", "order", "noticed", "reading", "reason", "scheduler", "daemon"]


class Entry(Value, frozen=True, kw_only=True):
    """Something fleetd did, was told or noticed. `at_seconds`: Unix time."""

    at_seconds: float
    kind: EntryKind
    sentence: str
    warning: bool = False


class QueueSample(Value, frozen=True, kw_only=True, array_like=True):
    """One queue at one moment."""

    length_jobs: int
    latency_milliseconds: int
    busy_threads: int  # over all processes
    young_threads: int | None = None  # of those: see QueueFacts; None: recorded before that was known


class InstanceSample(Value, frozen=True, kw_only=True, array_like=True):
    """One instance that was there, at one moment."""

    number: int
    profile: str
    state: str  # an InstanceState
    counts: bool  # capacity, now or soon
    busy_threads: int | None
    resident_mebibytes: int | None


class Sample(Value, frozen=True, kw_only=True, array_like=True):
    """One look. None: it could not be read then."""

    at_seconds: float  # Unix time
    now_seconds: float  # CLOCK_BOOTTIME; it can be compared within one boot
    boot: str  # which one
    queues: dict[str, QueueSample] | None  # without those whose keys could not be understood
    processed_jobs_total: int | None
    failed_jobs_total: int | None
    service_milliseconds: dict[str, int]  # learnt: how long a job takes
    instances: tuple[InstanceSample, ...] | None
    foreign_threads: int  # of processes that are no instances of this host, the scheduler's left out
    limit_connections: int | None  # of the source that was tightest
    others_connections: int | None  # there: everyone's but what this host's instances claim
    memory_available_mebibytes: int | None
    memory_total_mebibytes: int | None
    boot_milliseconds: dict[str, int]  # by profile: learnt


class PolicyChange(Value, frozen=True, kw_only=True):
    """The policy that was in force from a moment on."""

    at_seconds: float
    policy: Policy


class Batch(Value, frozen=True, kw_only=True):
    """What is written at once: samples in the order they were taken, in one process of fleetd."""

    samples: tuple[Sample, ...] = ()
    entries: tuple[Entry, ...] = ()
    policies: tuple[PolicyChange, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.samples or self.entries or self.policies)


class TimeSpan(Value, frozen=True, kw_only=True):
    """A time, in Unix seconds."""

    from_seconds: float
    to_seconds: float


class Recording(Value, frozen=True, kw_only=True):
    """What a part of the past left, oldest first.

    `policies` begins with the one in force at its begin; `watched_spans`: when samples were kept; `unreadable_rows`:
    damaged.
    """

    samples: tuple[Sample, ...] = ()
    entries: tuple[Entry, ...] = ()
    policies: tuple[PolicyChange, ...] = ()
    watched_spans: tuple[TimeSpan, ...] = ()
    newest_seconds: float | None = None  # of all that is kept, also before; None: nothing is
    unreadable_rows: int = 0
