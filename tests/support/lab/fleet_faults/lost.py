"""A leader or a host is lost: fleetd killed, the plug pulled, the configured host back after a takeover, all off."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from fleetd.core.fleet.rules import LEASE_TICKS
from lab import Host, LabError
from lab.campaign import life
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.support.lab import ticks
from tests.support.lab.fleet_faults import laws
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.fleet_faults.stage import CALM_SECONDS, TAKEN_OVER_SECONDS, Play
from tests.support.lab.many_hosts import counts
from tests.support.lab.ticks import Tick, Ticks


class Succession:
    """Watches hosts, one of which is to lead once the leader is gone."""

    def __init__(self, play: Play, hosts: list[Host]) -> None:
        self._stack = ExitStack()
        self._watched = {host.name: ticks.watching(play.many.on(host.name)) for host in hosts}
        self._seen: dict[str, Ticks] = {}

    def __enter__(self) -> Succession:
        self._seen = {name: self._stack.enter_context(watch) for name, watch in self._watched.items()}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seconds(self, gone_at: float) -> float:
        """From the Unix time at which the leader went to the status of the next. It is in time by its own ticks."""
        wait_until("another one leads", lambda: self._first(gone_at) is not None, PATIENCE_SECONDS)
        first = self._first(gone_at)
        assert first is not None
        name, tick = first
        assert self._seen[name].since(gone_at, tick) <= LEASE_TICKS + 2
        return tick.ended - gone_at

    def _first(self, gone_at: float) -> tuple[str, Tick] | None:
        found = [
            (name, tick)
            for name, seen in self._seen.items()
            for tick in list(seen.seen)
            if tick.ended > gone_at and tick.status.fleet is not None and tick.status.fleet.leads
        ]
        return min(found, key=lambda one: one[1].ended, default=None)


def leader_killed(play: Play) -> Figures:
    """SIGKILL for the leader's fleetd. Another one leads and the fleet grows; no worker notices."""
    leader = play.leader()
    play.work()
    with Succession(play, play.others(leader)) as succession:
        killed_at = time.time()
        leader.kill("fleetd", signal.SIGKILL)
        new_leader = succession.seconds(killed_at)
    grown = play.grow()
    died = [one for host in play.many.workers for one in life.processes(host) if (one.ended_at or 0.0) > killed_at]
    assert died == [], "fleetd's death ended no worker"
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    return {"new leader after s": new_leader, "grows after s": grown}


def leader_loses_power(play: Play) -> Figures:
    """The leader's plug is pulled, and it boots again later. Others lead, grow, and take the scheduler over."""
    leader = play.leader()
    had_scheduler = leader is play.holder()
    play.work()
    with Succession(play, play.others(leader)) as succession:
        gone, gone_at = time.monotonic(), play.many.power_off(leader)
        new_leader = succession.seconds(gone_at)
    figures = {"new leader after s": new_leader, "grows after s": play.grow()}
    if had_scheduler:
        figures["takeover after s"] = taken_over(play, leader, gone)
    leader.boot()
    play.many.see("each host serves", lambda seen: all(counts(seen, play.many)), CALM_SECONDS)
    play.many.pass_ticks(5)
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    return figures


def here_reboots_after_a_takeover(play: Play) -> Figures:
    """The configured host's plug is pulled, another takes over, and a boot brings no second scheduler."""
    home = play.bring_home()
    play.work()
    gone = time.monotonic()
    play.many.power_off(home)
    takeover = taken_over(play, home, gone)
    time.sleep(play.chance.uniform(0.0, 15.0))
    [owner] = play.many.observer.timeline().scheduler_hosts()
    booted = time.monotonic()
    home.boot()
    play.many.see("it serves again", lambda seen: home.name in seen.alive(), CALM_SECONDS)
    play.many.pass_ticks(15)
    seen = play.seen()
    laws.no_start_beside_another(seen)
    assert [start for start in seen.scheduler_starts() if start.not_before > booted] == []
    assert seen.scheduler_hosts() == [owner], "it does not move back by itself"
    assert seen.together(frozen=True) == []
    return {"takeover after s": takeover}


def all_lose_power(play: Play) -> Figures:
    """The plugs of all hosts are pulled at once, those of Redis and Postgres too. All boot at once."""
    play.work()
    hosts = play.many.hosts
    all_hosts = (*play.many.workers, hosts.main, *hosts.redis)
    for host in all_hosts:
        if host in play.many.workers:
            play.many.power_off(host)
        else:
            host.power_off()
    off = time.monotonic()
    time.sleep(play.chance.uniform(0.0, 90.0))
    booted = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(all_hosts)) as pool:
        for done in [pool.submit(host.boot) for host in all_hosts]:
            done.result()
    play.many.see("each host serves", lambda seen: all(counts(seen, play.many)), CALM_SECONDS)
    served = time.monotonic()
    play.many.see("a scheduler lives", lambda seen: seen.scheduler_hosts() != [], TAKEN_OVER_SECONDS)
    scheduled = time.monotonic()
    play.many.pass_ticks(20)
    laws.no_start_beside_another(play.seen())
    assert play.seen().since(off).together(frozen=True) == []
    return {"all serve after s": served - booted, "scheduler after s": scheduled - booted}


def taken_over(play: Play, lost: Host, gone: float) -> float:
    """Wait until another host's scheduler lives. Returns the seconds from the monotonic time `gone`."""
    try:
        seen = play.many.see(
            "another host takes over",
            lambda seen: any(host != lost.name for host in seen.scheduler_hosts()),
            timeout=TAKEN_OVER_SECONDS - (time.monotonic() - gone),
        )
    except LabError as error:
        raise AssertionError(str(error)) from None
    return seen.scheduler_starts()[-1].seen - gone
