"""What is said of how many are needed, and of each thing that changed that number: the rows of reasons.py for it.

Templates are as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.words.formatting import names, times, who

#: Queues that one sentence names.
_NAMED_MAX = 10


def _queue_needs(r: reasons.QueueNeeds) -> str:
    takes = "would never catch up" if r.lasts_seconds is None else f"would take {r.lasts_seconds:,.0f} s"
    jobs = f"{r.length_jobs:,} {'job waits' if r.length_jobs == 1 else 'jobs wait'}"
    jobs += f" behind {r.behind_jobs:,} of {r.behind_queue}" if r.behind_queue else ""
    waits = "it is unknown for how long" if r.latency_seconds is None else f"the oldest for {r.latency_seconds:,.0f} s"
    return f"{r.queue}: {jobs}, {waits} (target {r.target_seconds:g} s); what runs {takes}"


def _queues_unserved(r: reasons.QueuesUnserved) -> str:
    named = ", ".join(f"{one.queue} ({times(one.length_jobs, 'job')})" for one in r.queues[:_NAMED_MAX])
    left = len(r.queues) - _NAMED_MAX
    more = f" and {times(left, 'more queue')}" if left > 0 else ""
    them = "it" if len(r.queues) == 1 else "them"
    return f"no process serves {named}{more}, and no profile here would: add {them} to a profile's queues"


def _keeps_busy(r: reasons.KeepsBusy) -> str:
    if not r.threads:
        return "its queues keep hardly a thread busy"
    said = ", ".join(f"{queue} {threads:.0f}" for queue, threads in r.threads)
    return f"threads kept busy: {said}{f', others {r.rest_threads:.0f}' if r.rest_threads >= 0.5 else ''}"


def _overflows(r: reasons.OverflowsHere) -> str:
    threads = times(round(r.threads), "thread of it comes", "threads of it come")
    return f"{', '.join(r.from_profiles)} can't carry all of its work: {threads} here"


DEMAND: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.AtMin: lambda r: (
        f"min of all hosts together is {r.min_instances}" if r.whole else f"min is {r.min_instances}"
    ),
    reasons.AtMax: "max is {max_instances}",
    reasons.WithinTolerance: "the threads it needs are within {tolerance:.0%} of those it has, so nothing changes",
    reasons.ShrinksByTheMean: "for going down, the mean of the last minutes plus {tolerance:.0%} is what counts",
    reasons.LatencyUnknown: "queue latency is unknown: nothing stops, nothing grows above min",
    reasons.SetWhileLatencyUnknown: "queue latency is unknown: nothing stops",
    reasons.QueuesUnreadable: "none of it stops while {queues:list} can't be read",
    reasons.HeartbeatsMissing: (
        lambda r: (
            f"none of it stops while {names(r.keys)} {'has' if len(r.keys) == 1 else 'have'} no heartbeat in Redis"
        )
    ),
    reasons.HeartbeatGarbled: "a heartbeat in Redis can't be understood, so what its process does is unknown",
    reasons.QueuesLate: "none of it stops while {queues:list} waits longer than its target",
    reasons.JustGrew: "it has just grown: none of it stops for another {left_seconds:.0f} s",
    reasons.WithinHoldWindow: ("needed within the last {window_seconds:.0f} s: kept for another {left_seconds:.0f} s"),
    reasons.SetByPeople: lambda r: (
        f"set to {r.instances}{' on all hosts together' if r.whole else ''} by {who(r.person)}"
    ),
    reasons.TakenAwayByHand: "{instances} stopped or quieted by people: left so, and not replaced",
    reasons.AddedByHand: "{instances} started or pinned by people: kept, and no other is stopped in exchange",
    reasons.QueueNeeds: _queue_needs,
    reasons.KeepsBusy: _keeps_busy,
    reasons.OverflowsHere: _overflows,
    reasons.QueuesUnserved: _queues_unserved,
}
