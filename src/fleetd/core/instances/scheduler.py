"""Law 1: exactly one process in the whole fleet serves the `scheduler` queue.

With two, `every` jobs are pushed twice and nothing deduplicates them; with none, nothing is enqueued and there is
no catch-up. Two is worse to undo than none for a few minutes, so every doubt means: do not start.

Live is what Redis says (a heartbeat that lists the queue) or what systemd says of our own unit. A stock unit that
restarts looks absent for as long as Rails boots: taking over from elsewhere takes `takeover_seconds` of absence
in healthy readings. An unknown reading begins that count anew, because after an outage of Redis every heartbeat
looks absent until its next beat.
"""

from __future__ import annotations

from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.decision import Clamp, ClampCode
from fleetd.core.model.facts import Known, ProcessFacts, SidekiqFacts, Unknown, Value
from fleetd.core.model.identity import parse_tag
from fleetd.core.model.policy import SCHEDULER_QUEUE, Policy

#: Even the host named in the configuration waits two beats: after an outage live heartbeats come back one by one.
SETTLE_SECONDS = 20.0
#: A pause between ticks longer than this was a freeze, not time in which anything was watched.
TICK_GAP_SECONDS_MAX = 20.0
TICK_GAPS_MAX = 2.5  # in ticks, where ticks are set far apart
#: A heartbeat lives 60 s after its last beat (Sidekiq's Launcher); then a process's ghost is gone.
GHOST_SECONDS = 75.0


class SchedulerMemory(Value, frozen=True, kw_only=True):
    """How long no scheduler has been seen, counted in healthy readings only."""

    at_seconds: float | None = None
    absent_seconds: float = 0.0
    redis_run_id: str = ""


class SchedulerDecision(Value, frozen=True, kw_only=True):
    """What is to become of this host's scheduler unit."""

    start: bool = False
    end: bool = False  # a surplus of our own
    clamp: Clamp | None = None
    live_processes: int | None = None  # None: unknown
    where: tuple[str, ...] = ()
    sentence: str = ""


def live_elsewhere(
    policy: Policy, sidekiq: SidekiqFacts, own: InstanceView, own_process: ProcessFacts | None
) -> tuple[ProcessFacts, ...]:
    """Live processes on the queue that are not this host's scheduler unit.

    A heartbeat outlives its process by up to 60 s. While our unit runs, one with our own tag beside it is taken for
    that ghost; once our unit has run longer than a ghost can last, it is a rival: a cloned host has our name too.
    While our unit does not run, every heartbeat counts as live: to wait a minute costs less than a second scheduler.
    """
    found = []
    for process in sidekiq.processes:
        if SCHEDULER_QUEUE not in process.queues:
            continue
        tag = parse_tag(process.tag)
        if own.present and tag is not None and tag.host == policy.host and tag.number == "scheduler":
            mine = own_process is None or process.identity == own_process.identity
            if mine or own.state_age_seconds <= GHOST_SECONDS:
                continue
        found.append(process)
    return tuple(found)


def remember_scheduler(
    policy: Policy,
    memory: SchedulerMemory,
    sidekiq: Known[SidekiqFacts] | Unknown,
    own: InstanceView | None,
    own_process: ProcessFacts | None,
    now_seconds: float,
) -> SchedulerMemory:
    """Count absence: only known, complete readings of the same Redis, close enough together, add to it."""
    if isinstance(sidekiq, Unknown) or own is None or not sidekiq.value.processes_complete:
        return SchedulerMemory(redis_run_id=memory.redis_run_id)
    run_id = sidekiq.value.redis_run_id
    if own.present or live_elsewhere(policy, sidekiq.value, own, own_process):
        return SchedulerMemory(redis_run_id=run_id)  # the first reading without one begins the count
    absent = 0.0
    if memory.at_seconds is not None and run_id == memory.redis_run_id:
        gap = now_seconds - memory.at_seconds
        gap_max = max(TICK_GAP_SECONDS_MAX, TICK_GAPS_MAX * policy.pace.tick_seconds)
        absent = memory.absent_seconds + gap if 0.0 <= gap <= gap_max else 0.0
    return SchedulerMemory(at_seconds=now_seconds, absent_seconds=absent, redis_run_id=run_id)


def decide_scheduler(
    policy: Policy,
    memory: SchedulerMemory,
    sidekiq: Known[SidekiqFacts] | Unknown,
    own: InstanceView | None,
    own_process: ProcessFacts | None,
    *,
    within_budget: bool,
    handover: bool = False,
) -> SchedulerDecision:
    """Start ours, end ours, or leave it; `memory` has already seen this reading.

    `handover`: we ended ours to start it afresh, so nobody else need be waited for.
    `within_budget`: whether the database carries all claims, ours set aside among them (law 2).
    """
    if own is None:
        return _held(ClampCode.SCHEDULER_UNKNOWN, "systemd can't be read: the scheduler is left as it is")
    if isinstance(sidekiq, Unknown):
        return _held(
            ClampCode.SCHEDULER_UNKNOWN,
            "Redis can't be read, so a live scheduler elsewhere can't be ruled out: left as it is",
        )
    others = live_elsewhere(policy, sidekiq.value, own, own_process)
    where = tuple(sorted({p.hostname for p in others} | ({policy.host} if own.present else set())))
    live = len(others) + (1 if own.present else 0)
    if own.present:
        if _ours_is_surplus(others, own_process):
            sentence = f"another process on {others[0].hostname} serves scheduler: ours is ended"
            return SchedulerDecision(
                end=True,
                clamp=Clamp(code=ClampCode.SCHEDULER_SURPLUS, sentence=sentence),
                live_processes=live,
                where=where,
                sentence=sentence,
            )
        sentence = f"runs on {', '.join(where)}"
        return SchedulerDecision(live_processes=live, where=where, sentence=sentence)
    if others:
        sentence = f"served by a process on {', '.join(where)}"
        return SchedulerDecision(
            clamp=Clamp(code=ClampCode.SCHEDULER_LIVE, sentence=f"not started here: {sentence}"),
            live_processes=live,
            where=where,
            sentence=sentence,
        )
    return _absent(policy, memory, sidekiq.value, within_budget=within_budget, handover=handover)


def _absent(
    policy: Policy, memory: SchedulerMemory, sidekiq: SidekiqFacts, *, within_budget: bool, handover: bool
) -> SchedulerDecision:
    if policy.scheduler.place == "elsewhere":
        return SchedulerDecision(
            live_processes=0, sentence="NONE RUNS; this host is configured never to start it"
        )
    if not sidekiq.processes_complete:
        return _held(
            ClampCode.SCHEDULER_UNKNOWN, "a heartbeat in Redis is unreadable: it might be the scheduler's"
        )
    needed = (
        SETTLE_SECONDS
        if policy.scheduler.place == "here" or handover
        else max(SETTLE_SECONDS, policy.scheduler.takeover_seconds)
    )
    if memory.absent_seconds < needed:
        sentence = f"none seen for {memory.absent_seconds:.0f} s; this host starts it after {needed:.0f} s without one"
        return SchedulerDecision(
            clamp=Clamp(code=ClampCode.SCHEDULER_TAKEOVER, sentence=sentence),
            live_processes=0,
            sentence=sentence,
        )
    if not within_budget:
        sentence = "NONE RUNS: the database has no connections for it, claims are above the budget"
        return SchedulerDecision(
            clamp=Clamp(code=ClampCode.CONNECTIONS, sentence=sentence), live_processes=0, sentence=sentence
        )
    return SchedulerDecision(start=True, live_processes=0, sentence=f"none runs: started on {policy.host}")


def _ours_is_surplus(others: tuple[ProcessFacts, ...], own_process: ProcessFacts | None) -> bool:
    """Ours yields to what we can't end (a stock unit), and to an older one of another fleetd host."""
    for other in others:
        if parse_tag(other.tag) is None:
            return True
        if own_process is None:
            return True
        # Both hosts read the same heartbeats, so both find the same older one; of twins one must yield.
        if (other.started_age_seconds, other.identity) > (
            own_process.started_age_seconds,
            own_process.identity,
        ):
            return True
    return False


def _held(code: ClampCode, sentence: str) -> SchedulerDecision:
    return SchedulerDecision(clamp=Clamp(code=code, sentence=sentence), sentence=sentence)
