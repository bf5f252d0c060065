"""What people do to a fleet: empty a host, and boot a copy of one."""

from __future__ import annotations

import time

from lab import Host
from lab.faults.clone import clone_worker
from tests.support.lab.fleet_faults import laws
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.fleet_faults.stage import CALM_SECONDS, Play
from tests.support.lab.many_hosts import MIN, counts

HANDOVER_SECONDS = 120.0


def maintenance_of_a_follower(play: Play) -> Figures:
    """A follower is emptied by an order on another host, boots meanwhile or not, and works again."""
    many, leader = play.many, play.leader()
    host = play.chance.choice(play.others(leader))
    asked = play.chance.choice(play.others(host))
    had_scheduler = host is play.holder()
    play.work()
    ordered = time.monotonic()
    play.order(asked, "maintenance", host.name, "--for", "1h", "--reason", "a new kernel")
    seen = many.see("it is empty", lambda seen: _empty(seen.alive(""), host), timeout=HANDOVER_SECONDS + CALM_SECONDS)
    figures = {"empty after s": time.monotonic() - ordered}
    if had_scheduler:
        seen = many.see("another has the scheduler", lambda seen: seen.scheduler_hosts() != [], CALM_SECONDS)
        figures["no scheduler for s"] = max(gap.seconds_max for gap in seen.since(ordered).without())
    if play.chance.random() < 0.5:
        host.reboot()
        figures["booted meanwhile"] = 1.0
        many.see("what booted is gone", lambda seen: _empty(seen.alive(""), host), HANDOVER_SECONDS + CALM_SECONDS)
    emptied = time.monotonic()
    many.pass_ticks(10)
    assert [s for s in many.observer.timeline().since(emptied).starts() if s.process.host == host.name] == []
    play.order(asked, "maintenance", host.name, "--end")
    many.see("it works again", lambda seen: counts(seen, many)[many.workers.index(host)] >= MIN, CALM_SECONDS)
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    return figures


def cloned_host(play: Play) -> Figures:
    """A copy of a worker boots beside it. It is refused with what to do, and the one that was there goes on.

    A copy of the configured host that has the scheduler starts it at its boot too, as its unit can't know the other
    from an earlier process of its own. It ends it once it sees that the other beats.
    """
    many, home = play.many, play.bring_home() if play.chance.random() < 0.5 else None
    original = home or play.chance.choice(many.workers)
    play.work()
    name = f"{original.name}-clone{play.chance.randrange(10**6)}"
    clone = clone_worker(original, name)
    begun = time.monotonic()
    figures: Figures = {}
    try:
        many.hosts.lab.boot()  # nothing else is off
        many.on(name).start()
        told = many.on(name).wait("it is refused", lambda s: s.fleet is not None and s.fleet.problem != "")
        assert told.fleet is not None
        assert original.name in told.fleet.problem
        play.more_work()
        many.pass_ticks(20)
        if home is not None:
            many.see("one is left", lambda seen: seen.scheduler_hosts() == [home.name], CALM_SECONDS)
            figures["two schedulers for s"] = laws.longest_surplus(play.seen(), begun)
            assert figures["two schedulers for s"] <= laws.SURPLUS_SECONDS + laws.BEAT_SECONDS
        others = many.statuses()
        assert all(s.fleet is not None and s.fleet.problem == "" for s in others.values())
        assert sorted(others) == sorted(host.name for host in many.workers)
    finally:
        many.power_off(clone)
    beside = [] if home is None else [home.name]
    laws.no_start_beside_another(play.seen(), but=beside)
    assert home is not None or play.seen().together(frozen=True) == []
    return figures


def _empty(alive: dict[str, list[str]], host: Host) -> bool:
    return host.name not in alive
