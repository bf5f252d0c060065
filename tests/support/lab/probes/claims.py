"""The table: each claim of `status --json` by its path, and how it is compared with what was looked at.

A path's last part is a field; what comes before leads to the value that has it. A check returns what is wrong, and
nothing where it is right. `Beside` has what the status was made from: the configuration in force and what an admin did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.lab.probes.look import (
    SCHEDULER,
    TARGET,
    TARGET_SECONDS,
    Beat,
    Postgres,
    Redis,
    Seen,
    Unit,
    numbers_of,
)

Json = dict[str, Any]


@dataclass
class Beside:
    """What an admin did that no program but fleetd can tell."""

    config: dict[str, Any]
    """In force: one that fleetd has refused is not."""
    holds: set[str] = field(default_factory=set)
    sets: dict[str, int] = field(default_factory=dict)
    refused: bool = False
    killed: int = 0
    """Workers that the admin killed since the boot."""


Check = Callable[[Json, Seen, Beside], Iterator[str]]
#: Jobs come and go between two looks.
_FLOW_JOBS, _FLOW_THREADS = 40, 6


def _says(name: str, told: object, found: object) -> Iterator[str]:
    if told != found:
        yield f"{name}: said {told!r}, found {found!r}"


def _near(name: str, told: float | None, found: float | None, slack: float) -> Iterator[str]:
    if (told is None) != (found is None) or (told is not None and found is not None and abs(told - found) > slack):
        yield f"{name}: said {told}, found {found} (± {slack:g})"


def _sources(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    answers = {"redis": seen.redis, "postgres": seen.postgres, "systemd": True, "host": True}
    told = {source["name"]: source["ok"] for source in status["sources"]}
    yield from _says("sources", told, {name: bool(answer) for name, answer in answers.items()})


def _fleet(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    """The one host of this fleet leads it, unless Redis is away."""
    fleet, answers = status["fleet"], seen.redis is not None
    yield from _says("fleet.leader", fleet["leader"], seen.hostname if answers else "")
    yield from _says("fleet.leads", fleet["leads"], answers)
    yield from _says("fleet.hosts", [host["host"] for host in fleet["hosts"]], [seen.hostname])
    yield from _says("fleet.problem", bool(fleet["problem"]), False)


def _source_words(status: Json, _seen: Seen, _: Beside) -> Iterator[str]:
    for source in status["sources"]:
        yield from _says(f"why of {source['name']}", bool(source["why"]), not source["ok"])


def _source_ages(status: Json, _seen: Seen, _: Beside) -> Iterator[str]:
    for source in status["sources"]:
        if source["ok"] and not 0 <= source["age_seconds"] < 5:
            yield f"{source['name']} is said to be {source['age_seconds']} s old"


def _queue_names(status: Json, seen: Seen, beside: Beside) -> Iterator[str]:
    told = {queue["name"] for queue in status["queues"]}
    there = set(seen.redis.lengths) if seen.redis is not None else set()
    configured = {queue for profile in beside.config["profiles"].values() for queue in profile.get("queues", ())}
    yield from _says("queues that are missing", (there | configured) - told, set())


def _queue(name: str, of: Callable[[Seen, str], float | None], slack: float) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        for queue in status["queues"]:
            found = None if seen.redis is None else of(seen, queue["name"])
            yield from _near(f"{name} of {queue['name']}", queue[name], found, slack)

    return check


def _targets(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    wanted = {**TARGET_SECONDS, **beside.config.get("targets", {})}
    for queue in status["queues"]:
        if queue["name"] in wanted:
            yield from _says(f"target of {queue['name']}", queue["target_seconds"], wanted[queue["name"]])


def _owned(beside: Beside) -> dict[int, str]:
    """Which profile has each number that the configuration names."""
    return {n: name for name, profile in beside.config["profiles"].items() for n in numbers_of(profile)}


def _numbers(status: Json, seen: Seen, beside: Beside) -> Iterator[str]:
    told, owned = {i["number"]: i["profile"] for i in status["instances"]}, _owned(beside)
    up = {number for number, unit in seen.workers().items() if unit.is_up}
    yield from _says("configured instances", {n: told.get(n) for n in owned}, owned)
    yield from _says("instances that are up and not shown", up - told.keys(), set())


_STATES: dict[str, Callable[[Unit, Beat | None], bool]] = {
    "starting": lambda u, b: u.active in {"activating", "active"} and (b is None or not b.quiet),
    "serving": lambda u, b: u.active == "active" and b is not None and not b.quiet,
    "outdated": lambda u, b: u.active == "active" and b is not None and not b.quiet,
    "pinned": lambda u, b: u.active in {"active", "inactive"},
    "quieting": lambda u, _b: u.active == "active",
    "draining": lambda u, b: u.active in {"active", "deactivating"} and (b is None or b.quiet),
    "stopping": lambda u, _b: u.active == "deactivating",
    "stopped": lambda u, _b: u.active == "inactive",
    "failed": lambda u, _b: u.active in {"failed", "inactive"},
    "unresponsive": lambda u, _b: u.active == "active",
    "stalled": lambda u, _b: u.active == "active",
    "undrainable": lambda u, _b: u.active == "active",
}


def _states(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    workers = seen.workers()
    for instance in status["instances"]:
        unit = workers.get(instance["number"])
        if unit is None:
            yield f"@{instance['number']} is shown and not there"
        elif seen.redis is None:
            if unit.active == "failed" and instance["state"] != "failed":
                yield f"@{instance['number']} has failed and is said to be {instance['state']}"
        elif not _STATES[instance["state"]](unit, seen.beat_of(unit)):
            yield f"@{instance['number']} is said to be {instance['state']}: {unit.active}, {seen.beat_of(unit)}"


def _of_instances(name: str, of: Callable[[Seen, Unit], float | None], slack: Callable[[float], float]) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        for instance in status["instances"]:
            unit = seen.workers().get(instance["number"])
            if unit is None or unit.active != "active" or seen.beat_of(unit) is None:
                continue
            found = of(seen, unit)
            yield from _near(f"{name} of @{instance['number']}", instance[name], found, slack(found or 0.0))

    return check


def _busy(seen: Seen, unit: Unit) -> float | None:
    beat = seen.beat_of(unit)
    return None if beat is None else float(beat.busy)


def _threads(seen: Seen, unit: Unit) -> float | None:
    beat = seen.beat_of(unit)
    return None if beat is None else float(beat.threads)


def _of_profiles(name: str, of: Callable[[Seen, Beside, str, Json], object]) -> Check:
    def check(status: Json, seen: Seen, beside: Beside) -> Iterator[str]:
        if seen.redis is None and name in {"running_instances", "serving_instances"}:
            return  # who is quiet stands in Redis
        told = {profile["name"]: profile for profile in status["profiles"]}
        yield from _says("profiles", set(told), set(beside.config["profiles"]))
        for key, configured in beside.config["profiles"].items():
            if key in told:
                yield from _says(f"{name} of {key}", told[key][name], of(seen, beside, key, configured))

    return check


def _units_of(seen: Seen, configured: Json) -> list[Unit]:
    workers = seen.workers()
    return [workers[number] for number in numbers_of(configured) if number in workers]


def _running(seen: Seen, configured: Json) -> int:
    quiet = [unit for unit in _units_of(seen, configured) if (beat := seen.beat_of(unit)) is not None and beat.quiet]
    return sum(unit.active in {"active", "activating"} and unit not in quiet for unit in _units_of(seen, configured))


def _order(_seen: Seen, _beside: Beside, _name: str, configured: Json) -> str:
    return "weighted" if configured.get("order") == "weighted" else "strict"


def _claims(seen: Seen) -> int:
    """What all units that are up may open, by the settings they were started with."""
    counted = {name: unit for name, unit in seen.units.items() if unit.is_up and name != TARGET}
    counted[SCHEDULER] = seen.units[SCHEDULER]  # its claim is set aside while it does not run
    return sum(int(unit.settings.get("DB_POOL", 0)) for unit in counted.values())


def _claimed(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    connections = status["connections"]
    for source in (*connections["sources"], *([connections] if connections["sources"] else [])):
        if source["claims_connections"] is not None:
            yield from _says("claims", source["claims_connections"], _claims(seen))


def _postgres(name: str, of: Callable[[Seen], float], slack: float = 0.0) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        found = None if seen.postgres is None else of(seen)
        yield from _near(f"connections.{name}", status["connections"][name], found, slack)
        for source in status["connections"]["sources"]:
            if source["name"] == "postgres" and name in source:
                yield from _near(f"postgres {name}", source[name], found, slack)

    return check


def _headroom(status: Json, _seen: Seen, _: Beside) -> Iterator[str]:
    for source in (status["connections"], *status["connections"]["sources"]):
        if source["limit_connections"] is not None:
            taken = sum(source[f"{part}_connections"] for part in ("reserve", "others", "claims"))
            yield from _says("headroom", source["headroom_connections"], max(0, source["limit_connections"] - taken))


def _others_seen(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    for source in status["connections"]["sources"]:
        if seen.postgres is not None and source["name"] == "postgres":
            ours = sum(count for name, count in seen.postgres.named.items() if name.startswith("mastodon-sidekiq"))
            yield from _near("others", source["others_seen_connections"], seen.postgres.clients - ours, 4)


def _claimed_instances(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    told = sum(claim["instances"] for claim in status["connections"]["claims"])
    up = sum(unit.is_up for name, unit in seen.units.items() if name != TARGET)
    if told < up:
        yield f"claims name {told} instances, {up} are up"


def _claims_left_over(status: Json, seen: Seen, beside: Beside) -> Iterator[str]:
    told = sum(claim["instances"] for claim in status["connections"]["claims"] if not claim["configured"])
    up = sum(unit.is_up for number, unit in seen.workers().items() if number not in _owned(beside))
    if told < up:
        yield f"claims name {told} instances that are left over, {up} are up"


def _per_instance(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    told = status["connections"]["claim_per_instance"]
    yield from _says("claim_per_instance", set(told), set(beside.config["profiles"]))


def _more(status: Json, _seen: Seen, _: Beside) -> Iterator[str]:
    connections = status["connections"]
    if connections["headroom_connections"] is None:
        return
    for profile, more in connections["more_instances"].items():
        fits = math.floor(connections["headroom_connections"] / connections["claim_per_instance"][profile])
        if more > fits:
            yield f"{more} more of {profile} are said to fit, {fits} do"


def _scheduler_count(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    found = None if seen.redis is None else len(seen.schedulers())
    yield from _says("scheduler processes", status["scheduler"]["processes"], found)


def _scheduler_where(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    if seen.redis is not None:
        yield from _says(
            "scheduler on", sorted(status["scheduler"]["where"]), sorted(b.host for b in seen.schedulers())
        )


def _scheduler_unit(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    unit, told = seen.units[SCHEDULER], status["scheduler"]["unit_state"]
    if seen.redis is not None and told and not _STATES[told](unit, seen.beat_of(unit)):
        yield f"the scheduler's unit is said to be {told}: {unit.active}, {seen.beat_of(unit)}"


def _ghosts(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
    if seen.redis is None:
        yield from _says("ghosts", status["ghost_heartbeats"], None)
        return
    old = sum(seen.at_seconds - beat.beat_seconds > 95 for beat in seen.redis.beats)
    yield from _says("ghosts", status["ghost_heartbeats"], old)


def _configured(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    for instance in status["instances"]:
        yield from _says(
            f"@{instance['number']} configured", instance["configured"], instance["number"] in _owned(beside)
        )


def _limit_set(name: str, of: Callable[[Postgres], int]) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        for source in status["connections"]["sources"]:
            if seen.postgres is not None and source["name"] == "postgres":
                yield from _says(name, source["limit_set"][name], of(seen.postgres))

    return check


def _deaths(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    yield from _says("deaths", sum(count["deaths"] for count in status["deaths"]), beside.killed)
    other = [count for count in status["deaths"] if count["deaths"] and count["cause"] not in {"signal", "unknown"}]
    yield from _says("deaths of another cause", other, [])


def _died(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    died = [i["died"] for i in (*status["instances"], status["scheduler"]) if i.get("died")]
    if sum(one["deaths"] for one in died) < beside.killed:
        yield f"{beside.killed} were killed, {died} is said"
    for one in died:
        yield from _says("last", (one["last"]["cause"], one["last"].get("signal")), ("signal", 9))


def _jobs(name: str, of: Callable[[Redis], int]) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        yield from _near(name, status["jobs"][name], None if seen.redis is None else of(seen.redis), _FLOW_JOBS)

    return check


def _mode(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    yield from _says("mode", status["mode"], beside.config.get("fleet", {}).get("mode", "act"))


def _holds(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    yield from _says("holds", {hold["kind"] for hold in status["holds"]}, beside.holds)


def _overrides(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    told = {(order["kind"], order["what"]) for order in status["overrides"] if order["kind"] in {"set", "pause"}}
    given = {("set", profile) for profile in beside.sets}
    given |= {("pause", "fleet")} if "pause" in beside.holds else set()
    yield from _says("orders", told, given)


def _problems(status: Json, _seen: Seen, beside: Beside) -> Iterator[str]:
    if beside.refused and not status["problems"]:
        yield "the configuration on disk is refused, and no problem says so"


def _value(name: str, of: Callable[[Seen], float | str], slack: float = 0.0) -> Check:
    def check(status: Json, seen: Seen, _: Beside) -> Iterator[str]:
        found = of(seen)
        yield from (
            _near(name, status[name], found, slack) if isinstance(found, float) else _says(name, status[name], found)
        )

    return check


CLAIMS: dict[str, Check] = {
    **dict.fromkeys(("fleet.leader", "fleet.leads", "fleet.hosts.host", "fleet.problem"), _fleet),
    "version": _value("version", lambda s: s.version),
    "host": _value("host", lambda s: s.hostname),
    "uptime_seconds": _value("uptime_seconds", lambda s: s.uptime_seconds, 6.0),
    "tick_age_seconds": _value("tick_age_seconds", lambda _: 0.0, 8.0),
    "mastodon_version": _value("mastodon_version", lambda s: s.code_version),
    "memory_total_bytes": _value("memory_total_bytes", lambda s: float(s.memory["MemTotal"])),
    "memory_available_bytes": _value("memory_available_bytes", lambda s: float(s.memory["MemAvailable"]), 2e9),
    "tick_failures_total": _value("tick_failures_total", lambda _: 0.0),
    "sources.name": _sources,
    "sources.ok": _sources,
    "sources.age_seconds": _source_ages,
    "sources.why": _source_words,
    "queues.name": _queue_names,
    "queues.length_jobs": _queue("length_jobs", lambda s, q: s.redis.lengths.get(q, 0) if s.redis else 0, _FLOW_JOBS),
    "queues.latency_seconds": _queue(
        "latency_seconds", lambda s, q: s.redis.ages_seconds.get(q, 0.0) if s.redis else 0.0, 4.0
    ),
    "queues.busy_threads": _queue("busy_threads", lambda s, q: s.redis.busy[q] if s.redis else 0, _FLOW_THREADS),
    "queues.target_seconds": _targets,
    "instances.number": _numbers,
    "instances.profile": _numbers,
    "instances.state": _states,
    "instances.threads": _of_instances("threads", _threads, lambda _: 0.0),
    "instances.busy_threads": _of_instances("busy_threads", _busy, lambda _: _FLOW_THREADS),
    "instances.resident_bytes": _of_instances("resident_bytes", lambda _, u: u.resident_bytes, lambda f: 0.5 * f),
    "profiles.name": _of_profiles("name", lambda _s, _b, name, _p: name),
    "profiles.order": _of_profiles(
        "order", lambda _s, _b, _n, p: "weighted" if p.get("order") == "weighted" else "strict"
    ),
    "profiles.min_instances": _of_profiles("min_instances", lambda _s, _b, _n, p: p["min"]),
    "profiles.max_instances": _of_profiles("max_instances", lambda _s, _b, _n, p: p.get("max", len(numbers_of(p)))),
    "profiles.running_instances": _of_profiles("running_instances", lambda s, _b, _n, p: _running(s, p)),
    "profiles.serving_instances": _of_profiles(
        "serving_instances",
        lambda s, _b, _n, p: sum(s.serves(unit) for unit in _units_of(s, p)),
    ),
    "connections.limit_connections": _postgres("limit_connections", lambda s: s.postgres.limit if s.postgres else 0),
    "connections.open_connections": _postgres("open_connections", lambda s: s.postgres.clients if s.postgres else 0, 6),
    "connections.claims_connections": _claimed,
    "connections.headroom_connections": _headroom,
    "connections.sources.limit_connections": _postgres(
        "limit_connections", lambda s: s.postgres.limit if s.postgres else 0
    ),
    "connections.sources.open_connections": _postgres(
        "open_connections", lambda s: s.postgres.clients if s.postgres else 0, 6
    ),
    "connections.sources.claims_connections": _claimed,
    "connections.sources.headroom_connections": _headroom,
    "connections.sources.others_seen_connections": _others_seen,
    "connections.claims.instances": _claimed_instances,
    "connections.claims.configured": _claims_left_over,
    "connections.claim_per_instance": _per_instance,
    "connections.more_instances": _more,
    "scheduler.processes": _scheduler_count,
    "scheduler.where": _scheduler_where,
    "scheduler.unit_state": _scheduler_unit,
    "ghost_heartbeats": _ghosts,
    "holds.kind": _holds,
    "mode": _mode,
    "instances.configured": _configured,
    "instances.died.deaths": _died,
    "instances.died.last.cause": _died,
    "instances.died.last.signal": _died,
    "scheduler.died.deaths": _died,
    "scheduler.died.last.cause": _died,
    "scheduler.died.last.signal": _died,
    "deaths.deaths": _deaths,
    "deaths.cause": _deaths,
    "connections.sources.limit_set.reserved_connections": _limit_set("reserved_connections", lambda p: p.reserved),
    "connections.sources.limit_set.to_connections": _limit_set("to_connections", lambda p: p.limit + p.reserved),
    "jobs.retry_jobs": _jobs("retry_jobs", lambda r: r.sets["retry"]),
    "jobs.dead_jobs": _jobs("dead_jobs", lambda r: r.sets["dead"]),
    "jobs.scheduled_jobs": _jobs("scheduled_jobs", lambda r: r.sets["schedule"]),
    "jobs.processed_jobs_total": _jobs("processed_jobs_total", lambda r: r.ended["processed"]),
    "jobs.failed_jobs_total": _jobs("failed_jobs_total", lambda r: r.ended["failed"]),
    "overrides.kind": _overrides,
    "overrides.what": _overrides,
    "problems": _problems,
}
_DECIDED, _TOLD, _COUNTED = "a decision of fleetd's", "words", "only fleetd can count it"
#: Claims that no other program can confirm, and why.
UNPROBED: dict[str, str] = {
    "fleet.generation": _COUNTED,
    "fleet.gathering": _DECIDED,
    "fleet.scheduler_host": _DECIDED,
    "fleet.differences": "of several hosts",
    "fleet.untold": "of several hosts",
    "fleet.hosts.silent_seconds": "by the clock that hosts share",
    "fleet.hosts.tick_seconds": "with its instances",
    "fleet.hosts.gone": "of several hosts",
    "fleet.hosts.instances": "with its instances",
    "fleet.hosts.claims_connections": "with its instances",
    "fleet.hosts.cores": "of several hosts",
    "fleet.hosts.held": _DECIDED,
    "fleet.hosts.fleetd": "with version",
    "fleet.hosts.mastodon": "with mastodon_version",
    "tick_duration_seconds": _COUNTED,
    "ticks_total": _COUNTED,
    "sources.errors_total": _COUNTED,
    "queues.need_threads": _DECIDED,
    "instances.state_age_seconds": "since fleetd first saw it",
    "instances.note": _TOLD,
    "profiles.queues": "what the order makes of them",
    "profiles.admitted_instances": _DECIDED,
    "profiles.needed_instances": _DECIDED,
    "profiles.clamps": _DECIDED,
    "profiles.clamps_before_admission": _DECIDED,
    "clamps": _DECIDED,
    "step_results": "what it did in this tick",
    "last_events": _TOLD,
    "next_sentence": _TOLD,
    "summary": _TOLD,
    "warnings": _TOLD,
    "connections.reserve_connections": "the configuration's, as headroom is computed with it",
    "connections.others_connections": "with peaks and declarations; seen ones are probed",
    "connections.sources.name": "which sources there are is probed by `sources`",
    **{
        f"connections.sources.{name}": _COUNTED
        for name in (
            "reserve_connections",
            "others_connections",
            "others_peak_connections",
            "others_declared_connections",
            "others_bound_connections",
            "consumers",
            "binds",
            "refused",
            "exact",
            "pool_connections",
            "active_servers",
            "waiting_clients",
            "longest_wait_seconds",
        )
    },
    "connections.claims.host": "with its instances",
    "connections.claims.profile": "with its instances",
    "connections.claims.connections": "their sum is claims_connections",
    "connections.unattributable": _TOLD,
    "connections.saturation": _TOLD,
    "scheduler.sentence": _TOLD,
    "holds.sentence": _TOLD,
    "holds.seconds_left": "of an order, as it was given",
    "overrides.sentence": _TOLD,
    "overrides.seconds_left": "of an order, as it was given",
    "rollout": _DECIDED,
    "would": _DECIDED,
    "deaths.profile": "of those that are counted",
    "jobs.processed_per_second": "of its own last minute",
    "jobs.failed_per_second": "of its own last minute",
    "jobs.failing_classes": "of Sidekiq 7 and later; Debian's is 6.4",
    "connections.sources.limit_set.by": "which of a server's limits counts: tests/adapters/database",
    **{
        f"{who}.died.{name}": "with its deaths"
        for who in ("instances", "scheduler")
        for name in ("at_least", "last_age_seconds", "last.clean", "last.exit_status")
    },
    "pressure": "of the last ten seconds, which nobody else has kept",
}
