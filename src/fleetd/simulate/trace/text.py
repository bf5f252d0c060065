"""A trace as TOML, as trace.py reads it: what is read back is the same trace."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from fleetd.core.model.policy import Profile
from fleetd.simulate.trace.keys import Points
from fleetd.simulate.trace.trace import Fault, QueueTraffic, Trace

#: Points of a curve on one line.
POINTS_A_LINE = 6


def trace_text(trace: Trace, comments: tuple[str, ...] = ()) -> str:
    """The file's content. `comments` stand above it; the profiles' numbers are given out anew when it is read."""
    return "\n".join([*(f"# {_one_line(comment)}" for comment in comments), *_lines(trace)]) + "\n"


def _lines(trace: Trace) -> Iterator[str]:
    yield f"name = {_quoted(trace.name)}"
    yield f"seed = {trace.seed}"
    yield f"duration_seconds = {_number(trace.duration_seconds)}"
    yield f"tick_seconds = {_number(trace.tick_seconds)}"
    yield f"boot_seconds = {_pair(trace.boot_seconds)}"
    yield f"beat_seconds = {trace.beat_seconds}"
    yield f"initial_instances = {trace.initial_instances}"
    if trace.targets_seconds:
        yield "\n[targets]"
        yield from (f"{_key(q)} = {_number(s)}" for q, s in trace.targets_seconds.items())
    for queue in trace.queues:
        yield from _queue(queue)
    for profile in trace.profiles:
        yield from _profile(profile)
    yield "\n[database]"
    yield f"max_connections = {trace.max_connections}"
    yield f"others = {_points(trace.others)}"
    if trace.knee_busy_threads is not None:
        yield f"knee_busy_threads = {_number(trace.knee_busy_threads)}"
    yield "\n[host]"
    yield f"memory_bytes = {_number(trace.memory_bytes)}"
    yield f"instance_memory_bytes = {_pair(trace.instance_memory_bytes)}"
    for fault in trace.faults:
        yield from _fault(fault)


def _queue(queue: QueueTraffic) -> Iterator[str]:
    yield f"\n[queues.{_key(queue.name)}]"
    yield f"arrivals_per_second = {_points(queue.arrivals_per_second)}"
    yield f"bursts = {_points(queue.bursts)}"
    mean, sigma = _number(queue.service_mean_seconds), _number(queue.service_sigma)
    yield f"service_seconds = {{ mean = {mean}, sigma = {sigma} }}"


def _profile(profile: Profile) -> Iterator[str]:
    yield f"\n[profiles.{_key(profile.name)}]"
    yield f'order = "{profile.order}"'
    if profile.order == "weighted":
        weights = ", ".join(f"{_key(queue)} = {weight}" for queue, weight in profile.queues)
        yield f"weights = {{ {weights} }}"
    else:
        yield f"queues = [{', '.join(_quoted(queue) for queue, _ in profile.queues)}]"
    yield f"threads = {profile.threads}"
    yield f"db_pool = {profile.db_pool}"
    yield f"instances = {profile.max_instances}"
    yield f"min = {profile.min_instances}"


def _fault(fault: Fault) -> Iterator[str]:
    yield "\n[[faults]]"
    yield f"at = {_number(fault.at_seconds)}"
    if fault.kill_instances:
        yield f"kill_instances = {fault.kill_instances}"
    else:
        yield f"for_seconds = {_number(fault.until_seconds - fault.at_seconds)}"
        yield f'source = "{fault.source}"'


def _number(value: float) -> str:
    """Exactly, and without a point where there is no fraction."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _pair(pair: tuple[float, float]) -> str:
    return f"[{_number(pair[0])}, {_number(pair[1])}]"


def _points(points: Points) -> str:
    if len(points) <= POINTS_A_LINE:
        return f"[{', '.join(map(_pair, points))}]"
    rows = [points[i : i + POINTS_A_LINE] for i in range(0, len(points), POINTS_A_LINE)]
    return "[\n" + "".join(f"  {', '.join(map(_pair, row))},\n" for row in rows) + "]"


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
