"""What is wrong, worst first: the headline of `fleetctl status` is the first of these.

Judged from the status alone. What fleetd itself reports as a problem is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Sized

from fleetd import __version__
from fleetd.cli.advice.verdict import (
    LATE_SECONDS,
    ORDERED_CLAMPS,
    Finding,
    Level,
    clamp_level,
    doubt_costs,
    is_silent,
    late_queues,
    queue_level,
    scheduler_level,
    told_as_full,
)
from fleetd.core.model.identity import SCHEDULER, InstanceKey, unit_name
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, Status
from fleetd.words.deaths import died_words, ending_words
from fleetd.words.formatting import (
    capitalised,
    duration,
    names,
    often,
    rate,
    sentence,
    short_name,
    times,
)
from fleetd.words.observing import OBSERVES

#: A tick is due every few seconds. If the last one is older than this, fleetd is stuck.
TICK_AGE_SECONDS_MAX = 30.0


def findings(status: Status) -> tuple[Finding, ...]:
    """Everything that is not as it should be, worst first; empty when all is well.

    Holds come first, so that nobody takes what they keep still for a fault; only a stuck fleetd comes before them.
    """
    found = [
        *(Finding(Level.BAD, sentence(problem)) for problem in status.problems),
        *(Finding(Level.WARN, sentence(capitalised(warning))) for warning in status.warnings),
        *_failed_steps(status),
        *_lost_sources(status, _LOST),
        *_jobs(status),
        *_queues(status),
        *_scheduler(status),
        *_silent_hosts(status),
        *_rollout(status),
        *_instances(status),
        *_deaths(status),
        *_connections(status),
        *other_version(status),
    ]
    return (*stuck(status), *observes(status), *_holds(status), *sorted(found, key=lambda finding: -finding.level))


def headline(status: Status) -> Finding:
    """The sentence to read first."""
    found = findings(status)
    if found:
        return found[0]
    rollout = status.rollout
    if rollout is not None and not rollout.ended:
        done = f"{rollout.done_instances} of {rollout.total_instances} done"
        return Finding(Level.OK, f"Queues are within their targets. {_ROLLOUTS[rollout.cause]} is under way, {done}.")
    short = [p.name for p in status.profiles if any(_keeps_below(c) for c in p.clamps)]
    if short:
        said = f"Queues are within their targets, but {' and '.join(short)} can't grow further."
        return Finding(Level.OK, said)
    return Finding(Level.OK, "All is well: every queue waits less than its target.")


def connection_findings(status: Status) -> list[Finding]:
    """What is wrong with the connections, worst first."""
    return sorted(_connections(status), key=lambda finding: -finding.level)


def _keeps_below(clamp: ClampStatus) -> bool:
    """Whether more was wanted, and something out of the ordinary left less of it."""
    before, after = clamp.before_instances, clamp.after_instances
    return clamp_level(clamp) > Level.OK and before is not None and after is not None and after < before


def stuck(status: Status) -> list[Finding]:
    """A finding if fleetd answers, but has not finished a tick for long."""
    age = status.tick_age_seconds
    if age <= TICK_AGE_SECONDS_MAX:
        return []
    said = f"fleetd is stuck: its last tick ended {duration(age)} ago, and everything below is as old."
    return [Finding(Level.BAD, f"{said} See its log: journalctl -u fleetd")]


def other_version(status: Status) -> list[Finding]:
    """A finding if fleetd is of another version than this fleetctl: it may mean other things by its answer."""
    if status.version == __version__:
        return []
    said = f"fleetd {status.version[:40]} runs, and this is fleetctl {__version__}: what is shown may be misread."
    return [Finding(Level.WARN, f"{said} To run the fleetd that is installed: systemctl restart fleetd")]


def observes(status: Status) -> list[Finding]:
    """A banner while fleetd only observes, which is no fault."""
    return [] if status.mode == "act" else [Finding(Level.OK, sentence(OBSERVES), banner="OBSERVES ONLY")]


def _holds(status: Status) -> list[Finding]:
    found = []
    for hold in status.holds:
        left = "" if hold.seconds_left is None else f", {duration(hold.seconds_left)} left"
        # The others end by themselves, or with an upgrade; and beside units of the admin's own fleetd may well observe.
        level = Level.BAD if hold.kind == "units" and status.mode == "act" else Level.WARN
        found.append(Finding(level, sentence(hold.sentence), banner=hold.kind.upper() + left))
    return found


_STEP_RESULTS = {"failed": "failed", "refused": "was refused", "timeout": "took too long"}


def _failed_steps(status: Status) -> list[Finding]:
    found = []
    for result in status.step_results:
        if result.result in _STEP_RESULTS:
            why = f": {result.sentence}" if result.sentence else ""
            said = f"{result.verb} {result.unit} {_STEP_RESULTS[result.result]}{why}"
            found.append(Finding(Level.WARN, sentence(said)))
    return found


#: What a lost source means for the fleet.
_LOST = {
    "redis": "How long jobs wait is unknown, so nothing is stopped",
    "systemd": "What runs is unknown, so nothing is started or stopped",
    "host": "Memory is unknown, so nothing grows above min",
}
_LOST_CONNECTIONS = {
    "postgres": "Connections are unknown, so nothing grows above min",
    "pgbouncer": "PgBouncer's connections are unknown, so nothing grows above min",
    "replica": "The replica's connections are unknown, so nothing grows above min",
}


def _lost_sources(status: Status, consequences: dict[str, str]) -> list[Finding]:
    return [
        Finding(Level.UNKNOWN, f"{consequences[s.name]}: {sentence(s.why or f'there is no reading of {s.name}')}")
        for s in status.sources
        if not s.ok and s.name in consequences
    ]


def _redis_is_lost(status: Status) -> bool:
    return any(not source.ok and source.name == "redis" for source in status.sources)


def _queues(status: Status) -> list[Finding]:
    found = []
    late = late_queues(status)
    if late:
        named = ", ".join(
            f"{q.name} {duration(q.latency_seconds)} (target {duration(q.target_seconds)})" for q in late[:2]
        )
        subject = times(len(late), "queue waits", "queues wait")
        said = f"{subject} too long: {named}{_and_more(late, 2)}{_remedy(status)}."
        found.append(Finding(Level.BAD, said))
    unknown = [queue.name for queue in status.queues if queue_level(queue) == Level.UNKNOWN]
    if unknown and not _redis_is_lost(status):
        said = f"How long {', '.join(unknown[:3])}{_and_more(unknown, 3)} waits is unknown."
        found.append(Finding(Level.UNKNOWN, said))
    return found


#: Of all jobs. Some always fail, as other servers are down; so many fail only if something here is wrong.
_MANY_FAIL_SHARE, _NEARLY_ALL_FAIL_SHARE = 0.5, 0.9
_FAIL_PER_SECOND_MIN = 0.1


def _jobs(status: Status) -> list[Finding]:
    """That most jobs fail. Their queues are then as short as if all were well."""
    done, failed = status.jobs.processed_per_second or 0.0, status.jobs.failed_per_second or 0.0
    if failed < max(_FAIL_PER_SECOND_MIN, _MANY_FAIL_SHARE * done):
        return []
    nearly_all = failed >= _NEARLY_ALL_FAIL_SHARE * done
    said = f"{'Nearly all' if nearly_all else 'Most'} jobs fail, {rate(failed)} of {rate(done)}, and are retried later"
    return [Finding(Level.BAD if nearly_all else Level.WARN, f"{said}: journalctl -e -u 'mastodon-sidekiq@*'")]


def _and_more(all_of_them: Sized, named: int) -> str:
    return f" and {len(all_of_them) - named} more" if len(all_of_them) > named else ""


def _blocks_growth(clamp: ClampStatus) -> bool:
    if clamp.code in ORDERED_CLAMPS:  # people may also order more than is needed
        return (clamp.after_instances or 0) < (clamp.before_instances or 0)
    return clamp_level(clamp) > Level.OK


_OBSTACLES = {
    ClampCode.PAUSED: "the pause",
    ClampCode.MAINTENANCE: "the maintenance of this host",
    ClampCode.STOPPED: "the stopped mastodon-sidekiq.target",
    ClampCode.SET: "fleetctl set",
    ClampCode.MASKED: "a masked unit",
    ClampCode.UPGRADE: "the upgrade",
    ClampCode.FOREIGN_UNIT: "the unit that is not fleetd's",
    ClampCode.OTHERS_UNATTRIBUTABLE: "connections that may be others'",
    ClampCode.DATABASE_SATURATED: "the database, which is the bottleneck",
}


def _remedy(status: Status) -> str:
    """What fleetd does about late queues, or what keeps it from doing anything."""
    codes = {clamp.code for profile in status.profiles for clamp in profile.clamps if _blocks_growth(clamp)}
    if codes:
        obstacles = sorted(_OBSTACLES.get(code, code.value.replace("_", " ")) for code in codes)
        return "; the fleet can't grow because of " + " and ".join(obstacles)
    if status.mode == "observe":
        return ""
    booting = sum(1 for instance in status.instances if instance.state == "starting")
    coming = sum(max(0, (p.admitted_instances or 0) - (p.running_instances or 0)) for p in status.profiles)
    return f"; {times(booting + coming, 'more instance')} on the way" if booting + coming else ""


def _scheduler(status: Status) -> list[Finding]:
    level = scheduler_level(status)
    if level < Level.WARN or (level == Level.UNKNOWN and _redis_is_lost(status)):
        return []
    return [Finding(level, f"Scheduler: {sentence(status.scheduler.sentence)}")]


_ROLLOUTS = {
    "restart": "The restart",
    "outdated": "Replacing outdated instances",
    "unconfigured": "Draining instances that fleetd.toml names no more",
    "memory": "Replacing instances that hold too much memory",
}


def _rollout(status: Status) -> list[Finding]:
    rollout = status.rollout
    if rollout is None or rollout.ended != "given_up":
        return []
    done = f"{rollout.done_instances} of {rollout.total_instances}"
    said = f"{_ROLLOUTS[rollout.cause]} was given up at {done}: {rollout.sentence}"
    return [Finding(Level.WARN, sentence(said))]


#: States that need a look, worst first: the words for one instance, for several, and the reason if fleetd gives none.
_SICK = {
    "failed": (Level.BAD, "has failed", "have failed", "see journalctl -u mastodon-sidekiq@{number}"),
    "unresponsive": (Level.BAD, "is unresponsive", "are unresponsive", "alive, but no heartbeat for long"),
    "stalled": (Level.BAD, "is stalled", "are stalled", "it beats, but finishes nothing"),
    "undrainable": (Level.WARN, "is undrainable", "are undrainable", "told to take no more jobs, and goes on"),
}


def _silent_hosts(status: Status) -> list[Finding]:
    """Hosts that the leader does not hear of. No other host is told."""
    hosts = () if status.fleet is None else status.fleet.hosts
    silent = [h for h in hosts if not h.gone and is_silent(h, LATE_SECONDS)]
    if not silent:
        return []
    named = ", ".join(f"{h.host} for {duration(h.silent_seconds or 0.0)}" for h in silent[:4])
    said = f"Not heard of: {named}{_and_more(silent, 4)}. Its fleetd is down, or cut off from Redis, or the whole host"
    return [Finding(Level.WARN, f"{said} is: see fleetctl hosts.")]


def _instances(status: Status) -> list[Finding]:
    """One finding for each state, however many instances are in it."""
    found = []
    for state, (level, one, several, meaning) in _SICK.items():
        sick = [instance for instance in status.instances if instance.state == state]
        why = meaning.format(number=sick[0].number) if sick else ""
        if len(sick) == 1:
            found.append(Finding(level, sentence(f"Instance {sick[0].number} {one}: {sick[0].note or why}")))
        elif sick:
            numbers = ", ".join(str(instance.number) for instance in sick[:4])
            found.append(Finding(level, sentence(f"Instances {numbers}{_and_more(sick, 4)} {several}: {why}")))
    return found


def _deaths(status: Status) -> list[Finding]:
    """One finding, however many instances died in the last hour."""
    died = {InstanceKey(i.number): i.died for i in status.instances if i.died is not None}
    if status.scheduler.died is not None:
        died[SCHEDULER] = status.scheduler.died
    if not died:
        return []
    key, last = min(died.items(), key=lambda item: item[1].last_age_seconds)
    if len(died) == 1:
        said = f"{capitalised(short_name(key))} {died_words(last)}: journalctl -u {unit_name(key)}"
        return [Finding(Level.WARN, said)]
    keys = [key, *(other for other in died if other != key)]
    count = sum(one.deaths for one in died.values())
    at_least = "at least " if any(one.at_least for one in died.values()) else ""
    said = (
        f"{capitalised(names(keys[:4]))}{_and_more(keys, 4)} died {at_least}{often(count)} in the last hour, last "
        f"{short_name(key)} {ending_words(last.last)}, {duration(last.last_age_seconds)} ago: "
        f"journalctl -u {unit_name(key)}"
    )
    return [Finding(Level.WARN, said)]


def _connections(status: Status) -> list[Finding]:
    doubt = status.connections.unattributable if doubt_costs(status) else ""
    told = (doubt, status.connections.saturation)
    return [
        *_lost_sources(status, _LOST_CONNECTIONS),
        *_full(status),
        *(Finding(Level.WARN, sentence(capitalised(text))) for text in told if text),
    ]


def _full(status: Status) -> list[Finding]:
    """Sources that refuse clients, or whose limit others and our claims exceed."""
    full = [clamp.sentence for clamp in status.clamps if told_as_full(clamp)]
    return [Finding(Level.BAD, sentence(capitalised(said))) for said in full]
