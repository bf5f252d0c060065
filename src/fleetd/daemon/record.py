"""Record: from ticks to what the history keeps of them.

Law 7: a sample is taken every 5 s, however often fleetd ticks, and handed on once a minute. Sentences are handed on at
once, because they are what people ask for after a crash. A burst of sentences is cut off, and the last one says so.
"""

from __future__ import annotations

from collections.abc import Callable

from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import QueueFacts
from fleetd.core.model.history import (
    SENTENCE_CHARACTERS_MAX,
    Batch,
    Entry,
    EntryKind,
    InstanceSample,
    PolicyChange,
    QueueSample,
    Sample,
)
from fleetd.core.model.identity import SCHEDULER, parse_tag
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.daemon.tick import TickResult
from fleetd.ports import History

#: Time between samples: more of them, from hurried or short ticks, would show little more.
SAMPLE_SECONDS = 5.0
#: Ticks come a little early or late.
SLACK_SECONDS = 0.5
FLUSH_SECONDS = 60.0
#: Most sentences of one tick, besides steps and orders.
ENTRIES_MAX = 100
_ALWAYS = frozenset({"step", "order"})
#: Most queues of one sample: those of the profiles, and others in Redis.
QUEUES_MAX = 128
_BOOT_CHARACTERS = 8
_MEBIBYTE = 1024 * 1024


class Recorder:
    """Collects samples and sentences, and hands batches to a History. `wall`: gives Unix time in seconds."""

    def __init__(self, history: History, wall: Callable[[], float]) -> None:
        self._history = history
        self._wall = wall
        self._samples: list[Sample] = []
        self._entries: list[Entry] = []
        self._others = 0  # of them, those that are neither steps nor orders
        self._policy: Policy | None = None
        self._sampled_seconds: float | None = None
        self._flushed_seconds: float | None = None

    def note(self, kind: EntryKind, sentence: str, warning: bool = False) -> None:
        """Keep a sentence of the log; it is handed on with the next tick. Steps and orders are always kept."""
        if kind not in _ALWAYS:
            self._others += 1
            if self._others > ENTRIES_MAX + 1:
                return
            if self._others > ENTRIES_MAX:
                kind, sentence, warning = "daemon", "more happened at once than the history keeps: see the log", True
        self._entries.append(
            Entry(
                at_seconds=round(self._wall(), 3),
                kind=kind,
                sentence=sentence[:SENTENCE_CHARACTERS_MAX],
                warning=warning,
            )
        )

    def record(self, result: TickResult) -> None:
        """Keep what is worth keeping of one tick."""
        policy, now = result.tick.policy, result.tick.now_seconds
        changes: tuple[PolicyChange, ...] = ()
        if policy != self._policy:
            self._flush()  # samples taken under the old policy come before the change
            changes = (PolicyChange(at_seconds=self._wall(), policy=policy),)
            self._policy = policy
        if self._sampled_seconds is None or now - self._sampled_seconds >= SAMPLE_SECONDS - SLACK_SECONDS:
            self._samples.append(sample_of(result, self._wall()))
            self._sampled_seconds = now
        due = self._flushed_seconds is None or now - self._flushed_seconds >= FLUSH_SECONDS
        if due or changes or self._entries:
            self._flush(changes)
            self._flushed_seconds = now

    def flush(self) -> None:
        """Hand on what is left, before fleetd ends."""
        self._flush()

    def _flush(self, changes: tuple[PolicyChange, ...] = ()) -> None:
        batch = Batch(samples=tuple(self._samples), entries=tuple(self._entries), policies=changes)
        self._samples, self._entries, self._others = [], [], 0
        if not batch.empty:
            self._history.append(batch)


def sample_of(result: TickResult, at_seconds: float) -> Sample:
    """What one tick saw, small enough to keep."""
    snapshot, demand = result.snapshot, result.fleet.memory.demand
    sidekiq, machine = result.tick.sidekiq, result.tick.machine
    limit, others = _connections(result)
    queues = None
    if sidekiq is not None:
        queues = {
            name: QueueSample(
                length_jobs=queue.length_jobs,
                latency_milliseconds=round(1000 * queue.latency_seconds),
                busy_threads=queue.busy_threads,
                young_threads=queue.young_threads,
            )
            for name, queue in _recorded_queues(result.tick)
            if queue.latency_seconds is not None and queue.busy_threads is not None
        }
    return Sample(
        at_seconds=round(at_seconds, 3),
        now_seconds=round(snapshot.now_seconds, 3),
        boot=snapshot.boot_id[:_BOOT_CHARACTERS],
        queues=queues,
        processed_jobs_total=sidekiq.processed_jobs_total if sidekiq else None,
        failed_jobs_total=sidekiq.failed_jobs_total if sidekiq else None,
        service_milliseconds=_milliseconds(demand.service.seconds),
        instances=_instances(result.tick.instances),
        foreign_threads=_foreign_threads(result),
        limit_connections=limit,
        others_connections=others,
        memory_available_mebibytes=machine.memory_available_bytes // _MEBIBYTE if machine else None,
        memory_total_mebibytes=machine.memory_total_bytes // _MEBIBYTE if machine else None,
        boot_milliseconds=_milliseconds(result.host.memory.boot_seconds),
    )


def _recorded_queues(tick: HostTick) -> list[tuple[str, QueueFacts]]:
    """The queues of the profiles, then others, up to the bound."""
    served = {queue for profile in tick.policy.profiles for queue, _ in profile.queues}
    return sorted(tick.queues.items(), key=lambda item: item[0] not in served)[:QUEUES_MAX]


def _milliseconds(seconds: dict[str, float]) -> dict[str, int]:
    return {name: round(1000 * value) for name, value in seconds.items()}


def _instances(views: tuple[InstanceView, ...] | None) -> tuple[InstanceSample, ...] | None:
    if views is None:
        return None
    return tuple(
        InstanceSample(
            number=view.key,
            profile=view.profile or "",
            state=view.state.value,
            counts=view.is_capacity,
            busy_threads=view.busy_threads,
            resident_mebibytes=None if view.resident_bytes is None else view.resident_bytes // _MEBIBYTE,
        )
        for view in views
        if view.key != SCHEDULER and view.is_present
    )


def _foreign_threads(result: TickResult) -> int | None:
    """Threads of Sidekiq processes that are neither instances of this host nor a scheduler, nor quiet.

    None: unknown, because some heartbeat can't be read.
    """
    if result.tick.sidekiq is None or not result.tick.sidekiq.processes_complete:
        return None
    threads = 0
    for process in result.tick.sidekiq.processes:
        tag = parse_tag(process.tag)
        ours = process.own_key is not None or (
            tag is not None and (tag.host == result.snapshot.host or tag.key == SCHEDULER)
        )
        if not ours and not process.quiet and process.queues != {SCHEDULER_QUEUE}:
            threads += process.threads
    return threads


def _connections(result: TickResult) -> tuple[int | None, int | None]:
    """The limit of the tightest source, and its connections other than this host's instances'; None: unknown."""
    budget, claims = result.fleet.budget, result.fleet.claims.total_connections
    source = budget.tightest(claims) if not budget.unread else None
    if source is None or result.tick.instances is None:
        return None, None
    own = sum(v.claim_connections for v in result.tick.instances if v.key != SCHEDULER)
    return source.limit_connections, source.seen_connections + max(0, claims - own)
