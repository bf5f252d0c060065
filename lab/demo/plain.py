"""The story as lines, for pipes, logs and CI."""

from __future__ import annotations

from fleetd.cli.advice.verdict import ROUTINE_CLAMPS
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.core.model.status import Status
from fleetd.words.formatting import UNKNOWN, count, duration, sentence
from lab.demo.samples import Sample
from lab.demo.screen import Scene, clock
from lab.demo.story import TARGETS_SECONDS


def plain_line(scene: Scene) -> str:
    """The latest sample and status in one line."""
    head = head_of(scene)
    if not scene.samples:
        return f"{head} nothing seen yet"
    sample = scene.samples[-1]
    limit = None if scene.status is None else scene.status.connections.limit_connections
    parts = [
        f"{count(sample.waiting_total)} jobs wait{slowest(sample)}",
        f"instances {_instances(sample)}",
        f"connections {count(sample.connections)} of {count(limit)}",
        f"schedulers {count(sample.schedulers)}",
    ]
    return f"{head} {', '.join(parts)}{'. ' + scene.silence if scene.silence else ''}"


def head_of(scene: Scene) -> str:
    """The time and the phase."""
    return f"{clock(scene.progress.story_seconds):>5}  {scene.progress.phase.name:<9}"


def slowest(sample: Sample) -> str:
    """In brackets the queue that waits the most times its target, if one is late."""
    waits = sample.waits_seconds or {}
    late = {queue: wait for queue, wait in waits.items() if wait > TARGETS_SECONDS.get(queue, 60)}
    if not late:
        return ""
    queue = max(late, key=lambda name: late[name] / TARGETS_SECONDS.get(name, 60))
    return f" ({queue} {duration(late[queue])}, target {duration(TARGETS_SECONDS.get(queue, 60))})"


def _instances(sample: Sample) -> str:
    if sample.serving_instances is None:
        return UNKNOWN
    said = str(sample.serving_instances)
    said += f" + {sample.starting_instances} starting" if sample.starting_instances else ""
    return said + (f" + {sample.stopping_instances} stopping" if sample.stopping_instances else "")


def news(before: Status | None, now: Status, who: str = "fleetd") -> list[str]:
    """What fleetd did and reported since `before`: its new events, and new clamps that are not routine."""
    return [*new_events(before, now, who), *new_clamps(before, now, who)]


def new_events(before: Status | None, now: Status, who: str) -> list[str]:
    """What fleetd did since `before`."""
    now = cleaned(now, ascii_only=False)
    seen = [event.sentence for event in cleaned(before, ascii_only=False).last_events] if before else []
    events = [event.sentence for event in now.last_events]
    fresh = events
    for skipped in range(len(seen) + 1):  # the list drops its oldest while it takes in new ones
        overlap = seen[skipped:]
        if events[: len(overlap)] == overlap:
            fresh = events[len(overlap) :]
            break
    return [f"{who}: {sentence(text)}" for text in fresh]


def new_clamps(before: Status | None, now: Status, who: str) -> list[str]:
    """What lowered a number, and is not routine."""
    now = cleaned(now, ascii_only=False)
    old = {(clamp.profile, clamp.code) for clamp in before.clamps} if before else set()
    clamps = [clamp for clamp in now.clamps if (clamp.profile, clamp.code) not in old]
    sentences = [
        f"{clamp.profile or 'fleet'} {clamp.before_instances}→{clamp.after_instances}, {clamp.code}: {clamp.sentence}"
        for clamp in clamps
        if clamp.code not in ROUTINE_CLAMPS and clamp.before_instances is not None
    ]
    return [f"{who}: {sentence(text)}" for text in sentences]
