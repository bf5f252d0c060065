"""The laws over hosts, by what observers saw and by what became of the jobs."""

from __future__ import annotations

from collections.abc import Collection

from lab.jobs import records
from lab.observers.claims import claims_at_once, others_at_once
from lab.observers.timeline import Timeline
from tests.support.lab.many_hosts import TICK_SECONDS, Many

RESERVED = 3 + 1  # for superusers, and the observer's
BEAT_SECONDS = 5.0
SLACK_SECONDS = 10.0  # a busy machine's
#: A scheduler is told to be quiet within two ticks, and stopped once two heartbeats have said that it is idle.
SURPLUS_SECONDS = 2 * TICK_SECONDS + 2 * BEAT_SECONDS + SLACK_SECONDS


def most_claimed(seen: Timeline, many: Many) -> int:
    """The most connections that all live workers could have had open at once, and that others had open."""
    return claims_at_once(seen, many.hosts.lab) + others_at_once(seen)


def within_budget(seen: Timeline, many: Many, max_connections: int) -> None:
    """Law 2: what all live workers could open, and what others had open, was never more than Postgres has."""
    assert most_claimed(seen, many) <= max_connections - RESERVED


def no_start_beside_another(seen: Timeline, but: Collection[str] = ()) -> None:
    """Law 1: no scheduler began to live while another lived that was not frozen. `but`: others that do not count."""
    beside = [
        (s.process.host, one.host)
        for s in seen.scheduler_starts()
        for one in s.beside
        if not one.frozen and one.host not in but
    ]
    assert beside == []


def longest_surplus(seen: Timeline, returned: float) -> float:
    """For how long two schedulers lived from the monotonic time on at which the second one's host was back."""
    ends = [span.not_after - max(returned, span.not_before) for span in seen.together() if span.not_after > returned]
    return max(ends, default=0.0)


def surplus_ends(seen: Timeline, returned: float) -> float:
    """A second scheduler ended in time once its host was back. Returns for how long there were two from then on."""
    longest = longest_surplus(seen, returned)
    assert longest <= SURPLUS_SECONDS
    return longest


def no_job_lost(tally: records.Tally) -> None:
    """Law 4."""
    assert (tally.lost, tally.repeated) == ((), ())
    assert tally.done + len(tally.excused) == tally.enqueued > 0
