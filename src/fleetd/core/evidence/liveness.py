"""Which heartbeats are of live processes (laws 1 and 3).

A heartbeat normally disappears from Redis 60 s after its last beat. One without an expiry (a restored dump, a Redis
that was copied) stays for ever, and says for ever that its process serves. So it counts as live until it has stood
still for GHOST_SECONDS, counted by our own clock and only in readings that prove that it could have moved: Redis took
our own write, or another heartbeat moved.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.evidence.clocks import ClockBounds, bounds_of_beat, by_redis_clock
from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, Value
from fleetd.core.model.policy_tables import PacePolicy

#: Sidekiq beats every 5 or 10 s, and its heartbeats live for 60 s: one that has not moved for this long never will.
GHOST_SECONDS = 90.0
#: Redis's clock was set if it and ours have gone on by this much more or less than each other.
STEP_SECONDS = 5.0
#: Heartbeats remembered while not all can be read.
BEATS_MAX = 2000
#: Beats closer together than this are the same: ages are differences of large floating-point numbers.
_SAME_SECONDS = 0.01


class BeatMemory(Value, frozen=True, kw_only=True):
    """One heartbeat between two readings."""

    beat_seconds: float  # Unix time, by the process's clock
    seen_seconds: float = 0.0  # Redis's clock when it was last read
    still_seconds: float = 0.0  # how long it has not moved although it could have
    ghost_since_seconds: float | None = None  # CLOCK_BOOTTIME; None: it counts as live
    clock: ClockBounds | None = None  # None: no beat was seen to move
    at_work_on: frozenset[str] = frozenset()  # queues of its running jobs


class LivenessMemory(Value, frozen=True, kw_only=True):
    """Every heartbeat of the last reading, by identity, and when readings last proved something."""

    beats: dict[str, BeatMemory] = {}
    redis_seconds: float | None = None  # Redis's clock at the last reading; None: none yet
    read_at_seconds: float = 0.0  # CLOCK_BOOTTIME of that reading
    redis_run_id: str = ""
    proved_at_seconds: float | None = None  # CLOCK_BOOTTIME of the last reading that proved writes


class Liveness(Value, frozen=True, kw_only=True):
    """One reading's processes, told apart."""

    live: tuple[ProcessFacts, ...]  # with ages by Redis's clock
    ghosts: tuple[ProcessFacts, ...]
    #: For how long this reading proves that others could write, so that what is absent really is; 0.0: not at all.
    proved_seconds: float
    gone: frozenset[str]  # queues that a process worked on which has disappeared since the last reading
    memory: LivenessMemory


def tell_apart(pace: PacePolicy, facts: SidekiqFacts, memory: LivenessMemory, now_seconds: float) -> Liveness:
    """Tell live processes from ghosts. `now_seconds`: CLOCK_BOOTTIME of this reading."""
    earlier = memory.redis_seconds if facts.redis_run_id == memory.redis_run_id else None
    if earlier is not None:
        stepped = (facts.now_seconds - earlier) - (now_seconds - memory.read_at_seconds)
        earlier = earlier if abs(stepped) < STEP_SECONDS else None
    if earlier is None:  # another clock: what was known of others' against the one before does not hold
        memory = structs.replace(memory, beats={i: structs.replace(b, clock=None) for i, b in memory.beats.items()})
    proved = facts.writable is True or (facts.writable is None and _others_moved(facts, memory))
    elapsed = (pace.punctual(memory.proved_at_seconds, now_seconds) or 0.0) if proved else 0.0
    live: list[ProcessFacts] = []
    ghosts: list[ProcessFacts] = []
    # While some heartbeat can't be read, those that are missing may only be unread.
    beats = {} if facts.processes_complete else dict(list(memory.beats.items())[-BEATS_MAX:])
    for process in facts.processes:
        beat = _follow(process, memory.beats.get(process.identity), earlier, facts.now_seconds, elapsed)
        if beat.still_seconds >= GHOST_SECONDS and beat.ghost_since_seconds is None:
            beat = structs.replace(beat, ghost_since_seconds=now_seconds)
        beats[process.identity] = beat
        shown = by_redis_clock(process, beat.clock.ahead_seconds if beat.clock is not None else 0.0)
        (live if beat.ghost_since_seconds is None else ghosts).append(shown)
    gone = [beat.at_work_on for identity, beat in memory.beats.items() if identity not in beats]
    return Liveness(
        live=tuple(live),
        ghosts=tuple(ghosts),
        proved_seconds=elapsed,
        gone=frozenset().union(*gone),
        memory=LivenessMemory(
            beats=beats,
            redis_seconds=facts.now_seconds,
            read_at_seconds=now_seconds,
            redis_run_id=facts.redis_run_id,
            proved_at_seconds=now_seconds if proved else memory.proved_at_seconds,
        ),
    )


def _beat_seconds(process: ProcessFacts, facts_now_seconds: float) -> float:
    return facts_now_seconds - process.beat_age_seconds


def _others_moved(facts: SidekiqFacts, memory: LivenessMemory) -> bool:
    """Whether some heartbeat was written since the last reading, so that any other could have been as well."""
    for process in facts.processes:
        before = memory.beats.get(process.identity)
        beat = _beat_seconds(process, facts.now_seconds)
        if before is not None and beat - before.beat_seconds > _SAME_SECONDS:
            return True
    return False


def _follow(
    process: ProcessFacts,
    before: BeatMemory | None,
    earlier_seconds: float | None,
    redis_seconds: float,
    elapsed_seconds: float,
) -> BeatMemory:
    beat = _beat_seconds(process, redis_seconds)
    at_work_on = process.queues if process.busy_by_queue is None else frozenset(process.busy_by_queue)
    if before is not None and abs(beat - before.beat_seconds) <= _SAME_SECONDS:
        still = before.still_seconds + elapsed_seconds
        return structs.replace(before, seen_seconds=redis_seconds, still_seconds=still, at_work_on=at_work_on)
    clock = before.clock if before is not None else None
    # A heartbeat that is new to us may have been there unread, so only one that moved was written between the readings.
    if before is not None and before.seen_seconds == earlier_seconds:
        clock = bounds_of_beat(clock, beat, before.seen_seconds, redis_seconds)
    return BeatMemory(beat_seconds=beat, seen_seconds=redis_seconds, clock=clock, at_work_on=at_work_on)
