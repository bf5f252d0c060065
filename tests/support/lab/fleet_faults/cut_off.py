"""A worker is cut off from all others, or with the old primary of Redis, and comes back."""

from __future__ import annotations

import time

from fleetd.core.model.status import Status
from lab import Host
from lab.faults import redis
from lab.jobs import load, records
from tests.support.lab.fleet_faults import laws
from tests.support.lab.fleet_faults.lost import Succession, taken_over
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.fleet_faults.stage import CALM_SECONDS, TAKEN_OVER_SECONDS, Play
from tests.support.lab.many_hosts import HANDED_SECONDS

#: The ledger waits so long for a host that does not tell what it has, and only then lets another take over.
GATHERED_SECONDS = 300.0
#: After a promotion that all hosts survive, the fleet moves again.
MOVES_SECONDS = 30.0
#: A replica that was silent for this long counts as none (Redis's min-replicas-max-lag).
REPLICA_LAG_SECONDS = 10.0
#: What was ordered right before the cut has come to its end by then.
ORDERED_SECONDS = 20.0


def worker_cut_off_and_healed(play: Play) -> Figures:
    """Any worker is cut off for less than a takeover takes, perhaps the leader. Nobody takes over."""
    lost = play.chance.choice(play.many.workers)
    leads = lost is play.leader()
    play.work()
    figures: Figures = {}
    with Succession(play, play.others(lost)) as succession:
        cut, cut_at = time.monotonic(), _cut(play, lost)
        if leads:
            figures["new leader after s"] = succession.seconds(cut_at)
    _pass(ORDERED_SECONDS - (time.monotonic() - cut))
    before = set(play.many.observer.timeline().alive("").get(lost.name, ()))
    _pass(play.chance.uniform(0.0, 45.0))
    seen = play.seen()
    assert before == set(seen.alive("").get(lost.name, ())), "without Redis nothing ends, and nothing starts beyond min"
    figures["back after s"] = _heal(play, lost)
    play.more_work()
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    return figures


def scheduler_cut_off_past_the_takeover(play: Play) -> Figures:
    """The scheduler's host is cut off until another one has taken over. Back again, it ends its own."""
    lost = play.holder()
    play.work()
    cut, cut_at = time.monotonic(), _cut(play, lost)
    takeover = taken_over(play, lost, cut)
    _pass(play.chance.uniform(0.0, 30.0))
    healed, healed_at = time.monotonic(), time.time()
    back = _heal(play, lost)
    seen = play.many.see("one is left", lambda seen: len(seen.scheduler_hosts()) == 1)
    assert seen.scheduler_hosts() != [lost.name]
    pushes = [at for at, _, host, _ in records.cron_pushes([lost]) if cut_at + HANDED_SECONDS < at < healed_at]
    assert pushes == [], "one that is cut off enqueues nothing"
    play.many.pass_ticks(5)
    laws.no_start_beside_another(play.seen(), but=[lost.name])
    surplus = laws.surplus_ends(play.seen(), healed)
    return {"takeover after s": takeover, "back after s": back, "two schedulers after its return for s": surplus}


def old_primary_isolated_with_the_scheduler(play: Play) -> Figures:
    """The primary and the scheduler's host are parted from the rest, which goes on with the replica.

    Two schedulers cannot be prevented then. The second one ends once its host is back.
    """
    many, lost = play.many, play.holder()
    play.work()
    cut = time.monotonic()
    isolated = redis.isolate_primary(many.hosts, lost)
    figures: Figures = {"promoted after s": isolated.promoted_at - time.time() + time.monotonic() - cut}
    many.excused.append(isolated.window)
    if play.chance.random() < 0.5:
        waits = GATHERED_SECONDS + TAKEN_OVER_SECONDS
        many.see("another one takes over", lambda seen: len(seen.scheduler_hosts()) == 2, waits)
        figures["takeover after s"] = play.seen().scheduler_starts()[-1].seen - cut
    _pass(play.chance.uniform(0.0, 30.0))
    laws.no_start_beside_another(play.seen(), but=[lost.name])
    rejoined = redis.rejoin(many.hosts, isolated)
    returned = time.monotonic()
    many.excused[-1] = (rejoined.window[0], rejoined.window[1] + HANDED_SECONDS)
    many.see("one is left", lambda seen: len(seen.scheduler_hosts()) == 1, CALM_SECONDS)
    many.pass_ticks(5)
    laws.no_start_beside_another(play.seen(), but=[lost.name])
    figures["two schedulers after its return for s"] = laws.surplus_ends(play.seen(), returned)
    return figures


def old_primary_isolated_that_takes_no_writes(play: Play) -> Figures:
    """The same, but the primary takes writes only with a replica, as docs/several-hosts.md says.

    The scheduler beside it lives on until its host is back, but enqueues nothing.
    """
    many, lost, old = play.many, play.holder(), redis.primary(play.many.hosts)
    _require_replicas(old, 1)
    play.work()
    isolated = redis.isolate_primary(many.hosts, lost)
    many.excused.append(isolated.window)
    refused_at = isolated.window[0] + REPLICA_LAG_SECONDS + laws.SLACK_SECONDS
    _pass(refused_at - time.time() + play.chance.uniform(5.0, 30.0))
    rejoined_at = time.time()
    rejoined = redis.rejoin(many.hosts, isolated)
    returned = time.monotonic()
    many.excused[-1] = (rejoined.window[0], rejoined.window[1] + HANDED_SECONDS)
    pushes = [at for at, _, host, _ in records.cron_pushes([lost]) if refused_at < at < rejoined_at]
    assert pushes == [], "an old primary without a replica takes no writes"
    many.see("one is left", lambda seen: len(seen.scheduler_hosts()) == 1, CALM_SECONDS)
    _require_replicas(old, 0)
    many.pass_ticks(5)
    laws.no_start_beside_another(play.seen())
    return {"two schedulers after its return for s": laws.surplus_ends(play.seen(), returned)}


def failover_that_all_survive(play: Play) -> Figures:
    """The replica becomes the primary by command, at a random moment of the work. Soon the fleet moves again."""
    many = play.many
    play.work()
    before = max(status.fleet.generation for status in many.statuses().values() if status.fleet is not None)
    done = redis.fail_over(many.hosts)
    many.excused.append(done.window)
    promoted = time.monotonic() - (time.time() - done.promoted_at)
    many.wait(
        "every host has told the new primary what it runs",
        lambda told: len(told) == len(many.workers) and all(_gathered(s, before) for s in told.values()),
        timeout=MOVES_SECONDS + laws.SLACK_SECONDS,
    )
    moves = time.monotonic() - promoted
    play.grow()
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    return {"moves again after s": moves}


def _cut(play: Play, host: Host) -> float:
    """Cut a host off. What Redis handed to it in that moment is lost with it. Returns the Unix time."""
    at = time.time()
    host.cut()
    play.many.excused.append((at - 1.0, at + HANDED_SECONDS))
    return at


def _heal(play: Play, host: Host) -> float:
    """Connect it again, and wait until all hosts are one fleet. Returns the seconds until then."""
    healed = time.monotonic()
    host.join()
    play.many.wait(
        "it is one of the fleet again",
        lambda told: host.name in told and _shares(told[host.name]),
        CALM_SECONDS,
    )
    return time.monotonic() - healed


def _require_replicas(host: Host, count: int) -> None:
    with load.connect(host) as connection:
        connection.command("CONFIG", "SET", "min-replicas-to-write", str(count))


def _pass(seconds: float) -> None:
    time.sleep(max(0.0, seconds))


def _gathered(status: Status, before: int) -> bool:
    """Whether nothing is gathered any more, in a generation after this one, so that starts may be granted."""
    fleet = status.fleet
    return fleet is not None and fleet.generation > before and fleet.gathering is None and fleet.leader != ""


def _shares(status: Status) -> bool:
    """Whether it reads Redis and the ledger."""
    redis_ok = all(source.ok for source in status.sources if source.name == "redis")
    return redis_ok and status.fleet is not None and status.fleet.problem == "" and status.fleet.leader != ""
