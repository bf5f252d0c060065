"""The summary of the story of three hosts: its figures, and whether each promise was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleetd.cli.advice.verdict import LATE_SECONDS, is_silent
from fleetd.core.model.hosts import FleetHosts
from fleetd.words.formatting import UNKNOWN, count, duration, times
from lab.demo.hosts.story import HEARTBEAT_SECONDS, INSTANCES_MIN, TAKEOVER_SECONDS
from lab.demo.story import TARGETS_SECONDS
from lab.demo.summary import Group, Line
from lab.jobs.power import InHand
from lab.jobs.records import Tally

_LATEST_SECONDS = HEARTBEAT_SECONDS + TAKEOVER_SECONDS + 30.0
"""By then a takeover is due: the last heartbeat, `takeover_seconds`, and some ticks of a busy machine."""


@dataclass(frozen=True)
class FleetFigures:
    """What was counted at the end of the story. None: that source could not be read."""

    cut_host: str
    """The host that lost its power."""
    tally: Tally
    in_hand: InHand
    """The tally's lost jobs, by where they were when the power went."""
    redis_failed_jobs: int | None
    two_schedulers: Sequence[tuple[str, ...]]
    """The hosts of each time in which observers saw more than one scheduler."""
    looks: int
    longest_gap_seconds: float
    taken_over_by: str
    takeover_seconds: float | None
    """From the power cut until the next scheduler lived."""
    scheduler_starts: int
    """All that observers saw: the first one, and the one that took over."""
    cron_doubles: int
    at_cut: Mapping[str, int]
    """Live instances on each host just before."""
    most_after: Mapping[str, int]
    """The most on each other host while the first was off."""
    at_end: Mapping[str, int]
    fleet: FleetHosts | None
    """What `fleetctl hosts` showed in the end."""
    connections_limit: int | None
    most_open: int | None
    most_claimed: int
    """What all live workers could have opened at once."""
    most_others: int
    refusals: int | None
    unit_said: str
    """Why the scheduler's unit did not start on the host that was back, in its journal. "": it does not say so."""
    restarts: int | None
    failed_units: Sequence[str] | None
    overdue_phases: Sequence[str] = ()


def judge(figures: FleetFigures) -> list[Group]:
    """The whole summary, in order."""
    return [_records(figures), _observers(figures), _fleet(figures), _postgres(figures), _others(figures)]


def promised(figures: FleetFigures) -> str:
    """What the last sentence says if everything was as promised."""
    gone = figures.in_hand.total
    lost = f"nothing but {times(gone, 'job')} that went with its power" if gone else "nothing"
    return (
        f"three hosts shared the surge, {figures.taken_over_by} took the scheduler over from {figures.cut_host}, and "
        f"{lost} was lost"
    )


def _records(figures: FleetFigures) -> Group:
    tally, hand = figures.tally, figures.in_hand
    unfinished = tally.waiting + tally.running
    processed = count(tally.done) + (f", {times(unfinished, 'job')} not finished" if unfinished else "")
    all_there = tally.done + unfinished + len(tally.lost) == tally.enqueued
    other = f"{len(hand.elsewhere)}" + (f" ({', '.join(hand.elsewhere[:3])} …)" if hand.elsewhere else "")
    late = [name for name in figures.overdue_phases if name in ("recovery", "count")]
    waits = [f"{queue} {duration(tally.waits[queue].longest)}" for queue in TARGETS_SECONDS if queue in tally.waits]
    return Group(
        "Job records: every enqueuing, start and end, written down where it happened",
        (
            Line("jobs enqueued", count(tally.enqueued), tally.enqueued > 0),
            Line("jobs processed", processed, unfinished == 0 and tally.done > 0 and all_there),
            Line("gone with the power", _gone(figures)),
            Line("other jobs lost", other, not hand.elsewhere),
            Line("jobs run twice", count(len(tally.repeated)), not tally.repeated),
            Line("slowest wait", ", ".join(waits) or UNKNOWN),
            Line("after the surge", "every queue within its target" if not late else "not every queue", not late),
        ),
    )


def _gone(figures: FleetFigures) -> str:
    hand, host = figures.in_hand, figures.cut_host
    if not hand.total:
        return f"0: no job was in a process of {host}"
    parts = [f"{len(hand.running)} ran in processes of {host}"] if hand.running else []
    parts += [f"{len(hand.fetched)} had just been taken from Redis by them"] if hand.fetched else []
    return f"{hand.total}: {' and '.join(parts)}. Sidekiq keeps no copy of a job that runs; Sidekiq Pro does"


def _observers(figures: FleetFigures) -> Group:
    pairs = sorted({" and ".join(hosts) for hosts in figures.two_schedulers})
    two = f"seen on {', '.join(pairs)}" if pairs else f"never, in {count(figures.looks)} looks"
    two += f" ({duration(figures.longest_gap_seconds)} apart at most)"
    seconds = figures.takeover_seconds
    in_time = seconds is not None and TAKEOVER_SECONDS <= seconds <= _LATEST_SECONDS
    by = f"by {figures.taken_over_by}, after {seconds:.0f} s" if seconds is not None else "by nobody"
    at, after = figures.at_cut, figures.most_after
    alike = len(at) > 1 and max(at.values()) - min(at.values()) <= 1 and min(at.values()) > INSTANCES_MIN
    before = {host: at.get(host, 0) for host in after}
    grew = sum(after.values()) > sum(before.values())
    ended = figures.at_end
    back = bool(ended) and all(number >= INSTANCES_MIN for number in ended.values())
    return Group(
        "Observers: the processes of all hosts, ten times a second, from outside",
        (
            Line("two schedulers", two, not pairs and figures.looks > 0),
            Line("scheduler taken over", f"{by} (its heartbeat outlives it by {HEARTBEAT_SECONDS} s)", in_time),
            Line("scheduler starts", _starts(figures), figures.scheduler_starts == 2),
            Line("cron jobs doubled", count(figures.cron_doubles), figures.cron_doubles == 0),
            Line("in the surge", _by_host(at), alike),
            Line("without " + figures.cut_host, f"{_by_host(after)} at most", grew),
            Line("in the end", _by_host(ended), back),
        ),
    )


def _starts(figures: FleetFigures) -> str:
    return f"{figures.scheduler_starts}" + (" (the first, the takeover)" if figures.scheduler_starts == 2 else "")


def _by_host(instances: Mapping[str, int]) -> str:
    return ", ".join(f"{host} {number}" for host, number in sorted(instances.items())) or UNKNOWN


def _fleet(figures: FleetFigures) -> Group:
    fleet = figures.fleet
    if fleet is None or fleet.problem:
        return Group("fleetctl hosts", (Line("hosts heard of", UNKNOWN, False),))
    heard = [h.host for h in fleet.hosts if h.silent_seconds is not None and not is_silent(h, LATE_SECONDS)]
    leader, holder = fleet.leader or "no host", fleet.scheduler_host or "no host"
    said = f"{', '.join(heard)}; {leader} leads, {holder} has the scheduler"
    kept = set(heard) == set(figures.at_end) and bool(fleet.leader) and fleet.scheduler_host == figures.taken_over_by
    return Group(f"fleetctl hosts, on {fleet.host}", (Line("hosts heard of", said, kept),))


def _postgres(figures: FleetFigures) -> Group:
    limit, peak = figures.connections_limit, figures.most_open
    within = peak is not None and limit is not None and peak <= limit
    claimed = figures.most_claimed + figures.most_others
    fits = limit is not None and figures.most_claimed > 0 and claimed <= limit
    could = f"{count(claimed)} of {count(limit)}: {figures.most_claimed} by workers, {figures.most_others} by others"
    return Group(
        "Postgres: pg_stat_activity once a second, and its log",
        (
            Line("most connections", f"{count(peak)} of {count(limit)}", within),
            Line("could have been open", could, fits),
            Line("'too many clients'", count(figures.refusals), figures.refusals == 0),
        ),
    )


def _others(figures: FleetFigures) -> Group:
    failed = figures.failed_units
    troubles = UNKNOWN if failed is None else f"{len(failed)}" + (f" ({', '.join(failed)})" if failed else "")
    return Group(
        "Redis, systemd and its journal",
        (
            Line(
                f"{figures.cut_host}'s scheduler",
                figures.unit_said.partition(".")[0] or "its unit says nothing",
                bool(figures.unit_said),
            ),
            Line("failed jobs", count(figures.redis_failed_jobs), figures.redis_failed_jobs == 0),
            Line("died and restarted", count(figures.restarts), figures.restarts == 0),
            Line("failed units", troubles, failed is not None and not failed),
        ),
    )
