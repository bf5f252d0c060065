"""What is said of several hosts that are one fleet: rows of reasons.py. Templates are as there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.core.model.identity import unit_name
from fleetd.words.formatting import CONNECTION_SOURCES, span, times, who

_FAULTS: dict[str, str] = {
    "no_rights": (
        "fleetd's Redis user may not write the fleet's ledger, so this host counts as the only one: give it the right "
        'by the command that sudo fleetctl doctor prints, or set fleet.ledger = "local"'
    ),
    "format": "a later version of fleetd wrote the fleet's ledger in Redis: upgrade fleetd here",
    "late": (
        "the fleet's ledger has heard this host at a later time of its clock, as when a VM is put back to a snapshot: "
        "it is heard again within 5 minutes, or after a reboot"
    ),
    "full": "the fleet's ledger has no room for another host: fleetctl hosts forget HOST, for one gone for good",
}


def _unusable(r: reasons.LedgerUnusable) -> str:
    if r.fault == "fleet":
        return (
            f"the ledger in this Redis is that of another Mastodon ({r.fleet}): give each Mastodon a Redis database or "
            "namespace of its own. If it is the same one, set LOCAL_DOMAIN and DB_NAME alike on all hosts; if they "
            "changed on all, delete the key fleetd:ledger (after the namespace, if any), and the hosts make it anew"
        )
    if r.fault == "name_taken":
        return f"another machine is {r.host} in this fleet: set fleet.host in fleetd.toml to a name of its own"
    if r.fault == "replaced":
        return f"another fleetd runs as {r.host}: stop one of the two, or set fleet.host in fleetd.toml"
    if r.fault == "unanswered":
        return "the fleet's ledger in Redis gave no answer" + (f": {r.why}" if r.why else "")
    return _FAULTS[r.fault]


def _gathers(r: reasons.FleetGathers) -> str:
    waits = f"waiting for {', '.join(r.waits_for)}" if r.waits_for else "for 20 s"
    asked = f"so every host is asked what it runs ({waits}); until then only min"
    return f"the fleet's ledger is new, or was lost or moved, {asked}"


#: Why the leader's own plan was not taken.
_PLAN_FAULTS = {
    "too_large": "the plan for all hosts is larger than the ledger takes: fewer profiles, or hosts",
    "overtaken": "the ledger did not take this host's plan: it gathers, or another host leads since",
    "unanswered": "the ledger in Redis gave no answer to this host's plan",
}


def _plan_missing(r: reasons.PlanMissing) -> str:
    if r.fault:
        return f"{_PLAN_FAULTS[r.fault]}; nothing moves but up to min"
    whose = (
        f"{r.leader}, which leads the fleet, has no plan yet or only an old one" if r.leader else "no host leads yet"
    )
    return f"{whose}, so nothing moves but up to min"


def _of_host(r: reasons.SchedulerOfHost) -> str:
    if r.kept_stopped:
        return f"{r.host} has the scheduler, and a person stopped it there"
    return (
        f"{r.host} has the scheduler, which does not beat: it boots, or is gone. This host starts one after another "
        f"{span(r.wait_seconds)} without it; fleetctl hosts says when {r.host} was last heard of"
    )


def _ordered(r: reasons.RestartBegun | reasons.RestartNotBegun) -> str:
    return f"{'restart of all hosts' if r.whole else 'restart of this host'}, ordered by {who(r.person)}"


def _restart_begun(r: reasons.RestartBegun) -> str:
    of = f" of {r.profile}" if r.profile else ""
    more = f"; what failed before is tried again: {', '.join(map(unit_name, r.tried_again))}" if r.tried_again else ""
    more += f"; {times(r.pins_ended, 'pin on them ends', 'pins on them end')}" if r.pins_ended else ""
    return f"{_ordered(r)}: {times(r.instances, 'instance')}{of} to restart here, one at a time{more}"


def _stopped_elsewhere(r: reasons.RestartStoppedElsewhere) -> str:
    done = f"{r.done_instances} of {r.total_instances} replaced here"
    return f"the restart of all hosts was given up on {r.host}, so it ends here as well, {done}"


def _count_heard(r: reasons.CountHeard) -> str:
    where = "on all hosts together" if r.whole else "on this host"
    if r.instances is None:
        return f"{r.profile} is no longer set to a number {where}"
    return f"{r.profile} is set to {r.instances} {where} by {who(r.person)}"


FLEET_REASONS: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.LedgerUnusable: _unusable,
    reasons.FleetGathers: _gathers,
    reasons.NotGranted: lambda r: (
        f"all hosts together claim the connections of {CONNECTION_SOURCES.get(r.source, r.source)}: "
        f"{r.over_connections} are missing for it, with each host's min and one scheduler set aside"
    ),
    reasons.SentinelsDisagree: (
        "only {agree} Sentinels name the Redis that fleetd talks to, so it may not be the primary any more: nothing is "
        "granted; start the other Sentinels, or see whom they name: redis-cli -p 26379 sentinel masters"
    ),
    reasons.AskedTooLate: "the fleet's ledger changed just before the start; the next tick asks again",
    reasons.OtherHostsSeen: (
        "workers of {hosts:list} are seen, but this host shares no ledger with them, so nothing grows: set "
        'fleet.ledger = "redis" on every host, and let its Redis user write fleetd:ledger'
    ),
    reasons.PlanMissing: _plan_missing,
    reasons.PlannedByLeader: "the plan of {leader}, which leads the fleet, is for another min or max of this host",
    reasons.SchedulerPlaced: "none seen; {leader}, which leads the fleet, lets {host} start it",
    reasons.SchedulerOfHost: _of_host,
    reasons.SchedulerFree: "no host has it; this host may start it after another {wait_seconds:.0f} s without one",
    reasons.RestartBegun: _restart_begun,
    reasons.RestartNotBegun: lambda r: f"{_ordered(r)}: not begun, because {r.why}",
    reasons.RestartStoppedElsewhere: _stopped_elsewhere,
    reasons.CountHeard: _count_heard,
}
