"""What is wrong, worst first: the headline of `fleetctl status` is the first of these.

Judged from the status alone; what fleetd itself calls a problem is taken over as it is.
"""

from __future__ import annotations

from enum import IntEnum

from fleetd.cli.wording import duration, sentence, times
from fleetd.core.decision import Clamp, ClampCode
from fleetd.core.facts import Value
from fleetd.core.status import QueueStatus, Status

#: A tick is due every few seconds; after this long fleetd is stuck, whatever its last words say.
TICK_AGE_SECONDS_MAX = 30.0

#: Clamps that are fleetd at its ordinary work; all others are worth an admin's look.
CALM_CLAMPS = frozenset(
    {
        ClampCode.MIN,
        ClampCode.TOLERANCE,
        ClampCode.HOLD_WINDOW,
        ClampCode.PACE,
        ClampCode.PINNED,
        ClampCode.SCHEDULER_LIVE,
    }
)


class Level(IntEnum):
    """How bad; higher is worse. Unknown outranks a warning: nobody can say how bad it is."""

    OK = 0
    MOVING = 1  # something is being done: starting, draining
    WARN = 2
    UNKNOWN = 3
    BAD = 4


class Finding(Value, frozen=True, kw_only=True):
    """One thing an admin should know."""

    level: Level
    sentence: str


def queue_level(queue: QueueStatus) -> Level:
    """Over the target is bad, the last fifth before it a warning."""
    if queue.latency_seconds is None:
        return Level.UNKNOWN
    if queue.latency_seconds > queue.target_seconds:
        return Level.BAD
    return Level.WARN if queue.latency_seconds > 0.8 * queue.target_seconds else Level.OK


def scheduler_level(status: Status) -> Level:
    """Exactly one process is right (law 1)."""
    processes = status.scheduler.processes
    if processes is None:
        return Level.UNKNOWN
    if processes == 1:
        return Level.OK
    if processes > 1:
        return Level.BAD
    coming = status.scheduler.unit_state in ("activating", "starting")
    held = any(clamp.code == ClampCode.SCHEDULER_TAKEOVER for clamp in status.clamps)
    return Level.WARN if coming or held else Level.BAD


def connection_level(status: Status) -> Level:
    """Over the limit is bad; no headroom is a warning, since then nothing can grow."""
    connections = status.connections
    used = _used_connections(status)
    if connections.limit_connections is None or used is None:
        return Level.UNKNOWN
    if used > connections.limit_connections:
        return Level.BAD
    short = any(clamp.code == ClampCode.CONNECTIONS for clamp in _all_clamps(status))
    return Level.WARN if short or connections.headroom_connections == 0 else Level.OK


def _used_connections(status: Status) -> int | None:
    """Others', claimed and kept free; None while any of them is unknown."""
    c = status.connections
    if c.others_connections is None or c.claims_connections is None or c.reserve_connections is None:
        return None
    return c.others_connections + c.claims_connections + c.reserve_connections


def _all_clamps(status: Status) -> list[Clamp]:
    return [*status.clamps, *(clamp for profile in status.profiles for clamp in profile.clamps)]


def findings(status: Status) -> tuple[Finding, ...]:
    """Everything that is not as it should be, worst first; empty when all is well."""
    found = [
        *_daemon(status),
        *_sources(status),
        *_queues(status),
        *_scheduler(status),
        *_instances(status),
        *_connections(status),
    ]
    return tuple(sorted(found, key=lambda finding: -finding.level))


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


def _daemon(status: Status) -> list[Finding]:
    found = []
    if status.tick_age_seconds > TICK_AGE_SECONDS_MAX:
        found.append(
            Finding(
                level=Level.BAD,
                sentence=f"fleetd is stuck: it last looked {duration(status.tick_age_seconds)} ago, and all"
                " below is as old. Its log says more: journalctl -u fleetd",
            )
        )
    found.extend(Finding(level=Level.BAD, sentence=sentence(problem)) for problem in status.problems)
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
    "postgres": "Connections are unknown, so nothing grows above min",
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
        if not source.ok
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


def _remedy(status: Status) -> str:
    """What is done against a long wait, or what stands in its way."""
    blocks = {c.code.value.replace("_", " ") for p in status.profiles for c in p.clamps} - {
        code.value.replace("_", " ") for code in CALM_CLAMPS
    }
    if blocks:
        return "; the fleet can't grow because of " + " and ".join(sorted(blocks))
    booting = sum(1 for instance in status.instances if instance.state == "starting")
    coming = sum(max(0, (p.wanted_instances or 0) - (p.running_instances or 0)) for p in status.profiles)
    return f"; {times(booting + coming, 'more instance')} on the way" if booting + coming else ""


def _scheduler(status: Status) -> list[Finding]:
    level = scheduler_level(status)
    if level == Level.UNKNOWN and _redis_is_down(status):
        return []  # said once, with its reason
    if level < Level.WARN:
        return []
    return [Finding(level=level, sentence=f"Scheduler: {sentence(status.scheduler.sentence)}")]


def _instances(status: Status) -> list[Finding]:
    failed = [str(instance.number) for instance in status.instances if instance.state == "failed"]
    if not failed:
        return []
    subject = "Instance " + failed[0] if len(failed) == 1 else "Instances " + ", ".join(failed[:4])
    rest = f" and {len(failed) - 4} more" if len(failed) > 4 else ""
    return [
        Finding(
            level=Level.BAD,
            sentence=f"{subject}{rest} failed: journalctl -u mastodon-sidekiq@{failed[0]} says why.",
        )
    ]


def _connections(status: Status) -> list[Finding]:
    connections = status.connections
    used = _used_connections(status)
    if connection_level(status) != Level.BAD or connections.limit_connections is None or used is None:
        return []
    over = used - connections.limit_connections
    return [
        Finding(
            level=Level.BAD,
            sentence=f"The database may run out of connections: claims and reserve exceed its limit of "
            f"{connections.limit_connections:,} by {over:,}. fleetd drains until they fit.",
        )
    ]
