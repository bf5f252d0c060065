"""What a snapshot of Redis, systemd and this host says; the databases are in connections.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fleetd.app.doctor.check import Check, Verdict
from fleetd.app.doctor.connections import connection_checks
from fleetd.app.doctor.hosts import fleet_checks
from fleetd.app.doctor.redis_checks import alone_check, replication_checks, user_checks
from fleetd.app.doctor.redis_seen import RedisSeen
from fleetd.app.doctor.sentinel_checks import sentinel_checks
from fleetd.app.endpoints import Endpoints
from fleetd.app.redis_cli import redis_cli
from fleetd.config import Settings
from fleetd.core.evidence.signs import of_settings
from fleetd.core.model.facts import HostFacts, Known, SidekiqFacts, Snapshot, SystemdFacts, Unknown
from fleetd.core.model.heartbeats import other_hosts
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, unit_of
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import not_rendered
from fleetd.words.formatting import numbers, size, times
from fleetd.words.reasons import sentence

_RENDER: Final = "sudo systemctl start fleetd-render"
_HELD: Final = "Without it fleetd holds everything as it is."


def reading_checks(
    settings: Settings,
    endpoints: Endpoints,
    snapshot: Snapshot,
    leaving: tuple[str, ...] = (),
    seen: RedisSeen | None = None,
) -> Iterator[Check]:
    """In the order in which to mend them. `leaving`: units of others that run this Mastodon's Sidekiq.

    `seen`: what else Redis was asked.
    """
    policy, seen = endpoints.policy(settings.policy), seen or RedisSeen()
    yield from _redis(endpoints, snapshot.sidekiq)
    yield from _more_of_redis(settings, endpoints, snapshot, seen)
    yield from connection_checks(policy, endpoints, snapshot, leaving, seen.ledger_of(endpoints.fleet))
    for sign in of_settings(policy, snapshot.pgbouncer):
        yield Check(subject="Mastodon's settings", verdict="broken", what=sentence(sign))
    yield from _systemd(snapshot.systemd)
    yield from _host(policy, endpoints, snapshot.machine)


def _redis(endpoints: Endpoints, reading: Known[SidekiqFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        yield Check(subject="Redis", verdict="broken", what=reading.why, why=_HELD)
        return
    facts = reading.value
    what = f"{endpoints.redis.place}: {times(len(facts.queues), 'queue')}, {times(len(facts.processes), 'heartbeat')}"
    yield Check(subject="Redis", verdict="ok", what=what)
    for fault in facts.faults:
        yield Check(subject="Redis", verdict="look", what=f"{fault.key}: {fault.why}", why="What it holds is unknown.")
    if facts.workers_endpoint:
        what = f"fleetd reads {facts.endpoint}, the workers use {facts.workers_endpoint}"
        yield Check(subject="Redis", verdict="look", what=what, why="fleetd then sees none of their jobs.")


def _more_of_redis(settings: Settings, endpoints: Endpoints, snapshot: Snapshot, seen: RedisSeen) -> Iterator[Check]:
    """What its user may do, its replicas and Sentinels, and the hosts that share a ledger there."""
    redis, host, shared = endpoints.redis, settings.policy.host, settings.ledger == "redis"
    processes = snapshot.sidekiq.value.processes if isinstance(snapshot.sidekiq, Known) else ()
    others = other_hosts(processes, host)
    told = seen.ledger.hosts if seen.ledger is not None else {}
    several = bool(others) or any(name != host and not entry.gone for name, entry in told.items())
    cli = redis_cli(redis, next((sentinel.primary for sentinel in seen.sentinels if sentinel.names_ours), ""))
    if seen.server is not None:
        yield from user_checks(redis, seen.server, cli, others, shared=shared)
        if "+info" not in seen.server.missing:
            yield from replication_checks(redis, seen.server.replication, cli, several=several)
    if seen.sentinels:
        yield from sentinel_checks(seen.sentinels, redis.sentinel_master or "")
    if shared:
        yield from fleet_checks(endpoints.policy(settings.policy), endpoints.fleet, snapshot, seen)
    else:
        yield alone_check(others)


def _systemd(reading: Known[SystemdFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        line = "systemctl status dbus"
        yield Check(subject="systemd", verdict="broken", what=reading.why, why=_HELD, line=line)
        return
    if not reading.value.polkit_runs:
        line = "sudo systemctl unmask polkit && sudo systemctl start polkit"
        why = "systemd asks it whether fleetd may start and stop workers."
        yield Check(subject="systemd", verdict="broken", what="polkit does not run", why=why, line=line)
    odd = [u for u in reading.value.units.values() if u.load_state not in ("loaded", "not-found", "masked")]
    for unit in odd:
        line = f"systemctl status {unit.name}"
        yield Check(subject="systemd", verdict="broken", what=f"{unit.name} is {unit.load_state}", line=line)
    for unit in (unit for unit in reading.value.units.values() if unit.active_state == "failed"):
        why = "Its last lines say why. Once that is mended, release it."
        line = f"journalctl -u {unit.name} -n 30 --no-pager"
        yield Check(subject="systemd", verdict="broken", what=f"{unit.name} has failed", why=why, line=line)
    if not odd:
        running = sum(unit.active_state == "active" for unit in reading.value.units.values())
        yield Check(subject="systemd", verdict="ok", what=f"{times(running, 'unit')} of fleetd's run")


def _host(policy: Policy, endpoints: Endpoints, reading: Known[HostFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        yield Check(subject="this host", verdict="broken", what=reading.why, why=_HELD)
        return
    facts = reading.value
    yield from _masked(policy, facts.masked_units)
    missing = not_rendered(policy, facts.rendered, name_connections=endpoints.countable)
    if missing:
        names = ", ".join(unit_of(key) for key in missing[:4]) + (" …" if len(missing) > 4 else "")
        why = "They would not start, or with the settings of before."
        verdict: Verdict = "broken" if facts.rendered else "look"  # the first time there is nothing to mend yet
        yield Check(subject="settings", verdict=verdict, what=f"not rendered: {names}", why=why, line=_RENDER)
    else:
        ranges = numbers(tuple(key for profile in policy.profiles for key in profile.numbers))
        yield Check(subject="settings", verdict="ok", what=f"rendered for {ranges} and the scheduler")
    if facts.code is None:
        why = "fleetd then can't hold while an upgrade changes it."
        what = "Mastodon's code has no stamp"
        yield Check(subject="settings", verdict="look", what=what, why=why, line="sudo systemctl start fleetd-stamp")
    need = sum(p.min_instances for p in policy.profiles) * policy.memory.instance_bytes
    total = facts.memory_total_bytes
    what = f"min takes about {size(need)} of {size(total)}"
    yield Check(subject="memory", verdict="ok" if need < total else "broken", what=what)


def _masked(policy: Policy, units: tuple[str, ...]) -> Iterator[Check]:
    """Units that systemd does not start. A single instance may be meant to stay down."""
    for unit in units:
        if unit == SCHEDULER_UNIT and policy.scheduler.place == "elsewhere":
            continue
        name, all_of_it = unit.removesuffix(".service"), unit in (SCHEDULER_UNIT, TEMPLATE_UNIT)
        yield Check(
            subject="workers' units",
            verdict="broken" if all_of_it else "look",
            what=f"{name} is masked",
            why="systemd starts it under no circumstances.",
            line=f"sudo systemctl unmask {name}",
        )
