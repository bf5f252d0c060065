"""What is wrong, worst first: the headline of `fleetctl status` is the first of these.

Judged from the status alone; what fleetd itself calls a problem is taken over as it is. What is wrong with the
connections also stands alone, for `fleetctl connections`.
"""

from __future__ import annotations

from fleetd.cli.advice.verdict import (
    CALM_CLAMPS,
    ORDERED_CLAMPS,
    Finding,
    Level,
    binding,
    connection_level,
    doubt_costs,
    queue_level,
    scheduler_level,
    used_connections,
)
from fleetd.core.model.decision import Clamp, ClampCode
from fleetd.core.model.status import Status
from fleetd.words.formatting import CONNECTION_SOURCES, capitalised, duration, sentence, times

#: A tick is due every few seconds; after this long fleetd is stuck, whatever its last words say.
TICK_AGE_SECONDS_MAX = 30.0


def findings(status: Status) -> tuple[Finding, ...]:
    """Everything that is not as it should be, worst first; empty when all is well.

    Holds come before all else but a fleetd that is stuck: who looks must not take what they keep still for a fault.
    """
    found = [
        *_problems(status),
        *_sources(status),
        *_queues(status),
        *_scheduler(status),
        *_roll(status),
        *_instances(status),
        *connection_findings(status),
    ]
    return (*stuck(status), *_holds(status), *sorted(found, key=lambda finding: -finding.level))


def headline(status: Status) -> Finding:
    """The sentence to read first."""
    found = findings(status)
    if found:
        return found[0]
    clamped = [p.name for p in status.profiles if any(c.code not in CALM_CLAMPS for c in p.clamps)]
    if clamped:
        return Finding(
            level=Level.OK,
            sentence=f"Queues are within their targets, but {' and '.join(clamped)} can't grow further.",
        )
    return Finding(level=Level.OK, sentence="All is well: every queue waits less than its target.")


def stuck(status: Status) -> list[Finding]:
    if status.tick_age_seconds <= TICK_AGE_SECONDS_MAX:
        return []
    return [
        Finding(
            level=Level.BAD,
            sentence=f"fleetd is stuck: it last looked {duration(status.tick_age_seconds)} ago, and all"
            " below is as old. Its log says more: journalctl -u fleetd",
        )
    ]


def _holds(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.WARN,
            banner=hold.kind.upper()
            if hold.seconds_left is None
            else f"{hold.kind.upper()}, {duration(hold.seconds_left)} left",
            sentence=sentence(hold.sentence),
        )
        for hold in status.holds
    ]


def _problems(status: Status) -> list[Finding]:
    found = [Finding(level=Level.BAD, sentence=sentence(problem)) for problem in status.problems]
    for result in status.step_results:
        if result.result in ("failed", "refused", "timeout"):
            why = f": {result.sentence}" if result.sentence else ""
            found.append(
                Finding(
                    level=Level.WARN,
                    sentence=sentence(f"{result.step.verb} {result.step.unit} {_went(result.result)}{why}"),
                )
            )
    return found


def _went(result: str) -> str:
    return {"failed": "failed", "refused": "was refused", "timeout": "took too long"}[result]


_LOST = {
    "redis": "How long jobs wait is unknown, so nothing is stopped",
    "systemd": "What runs is unknown, so nothing is started or stopped",
    "host": "Memory is unknown, so nothing grows above min",
}


def _sources(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.UNKNOWN,
            sentence=f"{_LOST[source.name]}: {sentence(source.why or source.name + ' gave no reading')}",
        )
        for source in status.sources
        if not source.ok and source.name in _LOST
    ]


def _redis_is_down(status: Status) -> bool:
    return any(not source.ok and source.name == "redis" for source in status.sources)


def _queues(status: Status) -> list[Finding]:
    found = []
    late = [queue for queue in status.queues if queue_level(queue) == Level.BAD]
    if late:
        worst = sorted(late, key=lambda q: (q.latency_seconds or 0.0) / max(q.target_seconds, 0.001))[::-1]
        named = ", ".join(
            f"{q.name} {duration(q.latency_seconds)} (target {duration(q.target_seconds)})" for q in worst[:2]
        )
        rest = f" and {len(late) - 2} more" if len(late) > 2 else ""
        subject = "1 queue waits" if len(late) == 1 else f"{len(late)} queues wait"
        found.append(
            Finding(level=Level.BAD, sentence=f"{subject} too long: {named}{rest}{_remedy(status)}.")
        )
    if _redis_is_down(status):
        return found  # said once, with its reason
    unknown = [queue.name for queue in status.queues if queue_level(queue) == Level.UNKNOWN]
    if unknown:
        subject = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        found.append(Finding(level=Level.UNKNOWN, sentence=f"How long {subject} waits is unknown."))
    return found


def _blocks(clamp: Clamp) -> bool:
    if clamp.code in ORDERED_CLAMPS:  # people may also order more than is needed
        return (clamp.after_instances or 0) < (clamp.before_instances or 0)
    return clamp.code not in CALM_CLAMPS


_BLOCK_WORDS = {
    ClampCode.PAUSED: "the pause",
    ClampCode.SET: "fleetctl set",
    ClampCode.UPGRADE: "the upgrade",
    ClampCode.OTHERS_UNATTRIBUTABLE: "connections that may be others'",
    ClampCode.DATABASE_SATURATED: "the database, which is the bottleneck",
}


def _remedy(status: Status) -> str:
    """What is done against a long wait, or what stands in its way."""
    blocks = {clamp.code for profile in status.profiles for clamp in profile.clamps if _blocks(clamp)}
    if blocks:
        words = sorted(_BLOCK_WORDS.get(code, code.value.replace("_", " ")) for code in blocks)
        return "; the fleet can't grow because of " + " and ".join(words)
    booting = sum(1 for instance in status.instances if instance.state == "starting")
    coming = sum(max(0, (p.admitted_instances or 0) - (p.running_instances or 0)) for p in status.profiles)
    return f"; {times(booting + coming, 'more instance')} on the way" if booting + coming else ""


def _scheduler(status: Status) -> list[Finding]:
    level = scheduler_level(status)
    if level == Level.UNKNOWN and _redis_is_down(status):
        return []  # said once, with its reason
    if level < Level.WARN:
        return []
    return [Finding(level=level, sentence=f"Scheduler: {sentence(status.scheduler.sentence)}")]


def _roll(status: Status) -> list[Finding]:
    roll = status.rollout
    if roll is None or roll.ended != "given_up":
        return []
    what = "The restart" if roll.cause == "restart" else "Replacing what is outdated"
    if roll.cause == "memory":
        what = "Replacing what holds too much memory"
    far = f"{roll.done_instances} of {roll.total_instances}"
    return [Finding(level=Level.WARN, sentence=sentence(f"{what} was given up at {far}: {roll.sentence}"))]


#: States that need a look, worst first, and what they mean where fleetd adds no note.
_SICK = {
    "failed": (Level.BAD, ""),
    "unresponsive": (Level.BAD, "it runs, but has sent no heartbeat for long"),
    "undrainable": (Level.WARN, "it was told to take no more jobs and goes on"),
}


def _instances(status: Status) -> list[Finding]:
    """One finding a state, however many instances are in it."""
    found = []
    for state, (level, meaning) in _SICK.items():
        sick = [instance for instance in status.instances if instance.state == state]
        if not sick:
            continue
        subject = ("Instance " if len(sick) == 1 else "Instances ") + ", ".join(
            str(instance.number) for instance in sick[:4]
        )
        rest = f" and {len(sick) - 4} more" if len(sick) > 4 else ""
        verb = " failed" if state == "failed" else f" {'is' if len(sick) == 1 else 'are'} {state}"
        why = (sick[0].note if len(sick) == 1 else "") or meaning
        if not why:
            why = f"journalctl -u mastodon-sidekiq@{sick[0].number} says why"
        said = f" {why}" if why.startswith(state) else f"{verb}: {why}"
        found.append(Finding(level=level, sentence=sentence(f"{subject}{rest}{said}")))
    return found


_LOST_CONNECTIONS = {
    "postgres": "Connections are unknown, so nothing grows above min",
    "pgbouncer": "PgBouncer's connections are unknown, so nothing grows above min",
    "replica": "The replica's connections are unknown, so nothing grows above min",
}


def connection_findings(status: Status) -> list[Finding]:
    """What can't be read, who refuses, what doesn't fit, what can't be told apart, where more would not help."""
    doubt = status.connections.unattributable if doubt_costs(status) else ""
    told = (doubt, status.connections.saturation)
    return [
        *_lost(status),
        *_refused(status),
        *_over(status),
        *(Finding(level=Level.WARN, sentence=sentence(capitalised(text))) for text in told if text),
    ]


def _lost(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.UNKNOWN,
            sentence=f"{_LOST_CONNECTIONS[source.name]}: {sentence(source.why or source.name + ' gave no reading')}",
        )
        for source in status.sources
        if not source.ok and source.name in _LOST_CONNECTIONS
    ]


def _refused(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.BAD,
            sentence=f"{capitalised(CONNECTION_SOURCES[source.name])} refuses new clients, too many already: web and"
            " workers that need a connection fail now, and nothing is started.",
        )
        for source in status.connections.sources
        if source.refused
    ]


def _over(status: Status) -> list[Finding]:
    connections, source = status.connections, binding(status)
    used = used_connections(status)
    if connection_level(status) != Level.BAD or connections.limit_connections is None or used is None:
        return []
    over = used - connections.limit_connections
    if over <= 0:
        return []
    who = (
        capitalised(CONNECTION_SOURCES[source.name])
        if source and source.name != "postgres"
        else "The database"
    )
    return [
        Finding(
            level=Level.BAD,
            sentence=f"{who} may run out of connections: claims and reserve exceed its limit of "
            f"{connections.limit_connections:,} by {over:,}. fleetd drains until they fit.",
        )
    ]
