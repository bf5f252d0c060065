"""What the history keeps: samples of the readings, enough for a trace, and sentences about what was done and why.

Policies and samples contain no secrets, and secrets are taken out of sentences before they are written. Samples are
arrays on disk, so a new field goes to the end, with a default.
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Policy

#: An entry's sentence is cut to this.
SENTENCE_CHARACTERS_MAX = 1000

#: step: a unit was started, quieted or stopped. would: the same, but fleetd only observed. want: a profile's admitted
#: count changed, and why. order: a person's, through fleetctl. noticed: what people and systemd did, or went wrong.
#: reading: a source went away or came back. reason: the clamps changed. scheduler: its situation changed. daemon:
#: fleetd started, stopped or read its configuration.
EntryKind = Literal["step", "would", "want", "order", "noticed", "reading", "reason", "scheduler", "daemon"]


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
    young_threads: int | None = None  # of those: see QueueFacts; None: recorded before this field existed


class InstanceSample(Value, frozen=True, kw_only=True, array_like=True):
    """One instance that was present, at one moment."""

    number: int
    profile: str
    state: str  # an InstanceState
    counts: bool  # capacity, now or soon
    busy_threads: int | None
    resident_mebibytes: int | None


class Sample(Value, frozen=True, kw_only=True, array_like=True):
    """The readings of one moment. None: it could not be read then."""

    at_seconds: float  # Unix time
    now_seconds: float  # CLOCK_BOOTTIME; it can be compared within one boot
    boot: str  # the start of the boot id
    queues: dict[str, QueueSample] | None  # without those of which something is unknown
    processed_jobs_total: int | None
    failed_jobs_total: int | None
    service_milliseconds: dict[str, int]  # by queue: how long a job takes, as learnt
    instances: tuple[InstanceSample, ...] | None
    foreign_threads: int | None  # of processes that are neither instances of this host nor a scheduler
    limit_connections: int | None  # of the tightest source
    others_connections: int | None  # on that source: all but what this host's instances claim
    memory_available_mebibytes: int | None
    memory_total_mebibytes: int | None
    boot_milliseconds: dict[str, int]  # by profile: learnt


class PolicyChange(Value, frozen=True, kw_only=True):
    """A policy, and when it came into force."""

    at_seconds: float
    policy: Policy


class Batch(Value, frozen=True, kw_only=True):
    """What is written at once. Samples are in the order they were taken, all by one process of fleetd."""

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
    """What the history has of a part of the past, oldest first.

    `policies` begins with the one that was in force at the start. `watched_spans`: when samples were kept.
    `unreadable_rows`: how many rows are damaged.
    """

    samples: tuple[Sample, ...] = ()
    entries: tuple[Entry, ...] = ()
    policies: tuple[PolicyChange, ...] = ()
    watched_spans: tuple[TimeSpan, ...] = ()
    newest_seconds: float | None = None  # of all that is kept, even from before this part; None: nothing is kept
    unreadable_rows: int = 0
