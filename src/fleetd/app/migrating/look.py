"""Look at this host for a migration: units by systemd, heartbeats and connections with the rights of fleetd's user."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from fleetd.adapters.bus.client import fetch_status
from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.other_mastodons import own_sidekiqs
from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.host.worker_account import AccountError
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.daemons_view import daemons_account
from fleetd.app.doctor.connections import left_at_min
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.given_env import given_env
from fleetd.app.migrating.plan import KEPT, SCHEDULER, TARGET
from fleetd.app.migrating.seen import Seen, WorkerUnit
from fleetd.app.pooler_search import found_before, who_answers
from fleetd.app.sources import observe_once
from fleetd.config import Settings, load
from fleetd.core.instances.scheduler import SETTLE_SECONDS
from fleetd.core.model.facts import HostFacts, Known, Snapshot, Value
from fleetd.core.model.identity import InstanceKey, key_of_unit
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.core.model.status import Status
from fleetd.core.model.unit_rules.values import span_seconds
from fleetd.core.model.worker_settings import all_settings
from fleetd.errors import ConfigError, SourceUnavailableError

_LOOK_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 10.0
_UP: Final = ("active", "activating", "reloading", "deactivating")
_SHOWN: Final = "Id,ActiveState,UnitFileState,MainPID,TimeoutStopUSec"


class _Beat(Value, frozen=True, kw_only=True):
    """A heartbeat of a process on this host."""

    pid: int
    busy_threads: int
    quiet: bool
    scheduler: bool


class _Readings(Value, frozen=True, kw_only=True):
    """What was read with the rights of fleetd's user."""

    beats: tuple[_Beat, ...] = ()
    short_connections: int = 0
    rendered: bool = False
    problems: tuple[str, ...] = ()


def look(file: Path) -> Seen:
    """Everything that the next step depends on. What can't be read is among `problems`. Raises ConfigError."""
    settings = load(file)
    env = given_env(settings, {})
    find_endpoints(settings, env, found_before(settings))  # raises what is wrong with the configuration
    try:
        answer = as_account(daemons_account(), lambda: _read(settings, env), _LOOK_SECONDS)
        readings = msgspec.json.decode(answer, type=_Readings)
    except AccountError as error:
        readings = _Readings(problems=(f"fleetd's view could not be taken: {error}",))
    hiding = tuple(unfit.file for unfit in UnitFiles().unfit().values() if unfit.foreign)
    units = _units(settings, readings.beats, hidden=bool(hiding))
    own = _show(("fleetd.service", TARGET))
    seen = Seen(
        old=units[0],
        ours=units[1],
        named=units[2],
        hiding=hiding,
        aside=any(Path(KEPT).glob("*")) if Path(KEPT).is_dir() else False,
        rendered=readings.rendered,
        fleetd_active=own.get("fleetd.service", {}).get("ActiveState") in _UP,
        fleetd_enabled=own.get("fleetd.service", {}).get("UnitFileState") == "enabled",
        target_enabled=own.get(TARGET, {}).get("UnitFileState") == "enabled",
        wanted_instances=sum(profile.min_instances for profile in settings.policy.profiles),
        scheduler_here=settings.policy.scheduler.place != "elsewhere",
        takeover_seconds=_takeover_seconds(settings.policy),
        short_connections=readings.short_connections,
        problems=readings.problems,
    )
    return _with_status(seen) if seen.fleetd_active else seen


def _takeover_seconds(policy: Policy) -> float:
    return SETTLE_SECONDS if policy.scheduler.place == "here" else policy.scheduler.takeover_seconds


def _read(settings: Settings, env: EnvFile) -> bytes:
    found = asyncio.run(who_answers(settings, env)) or found_before(settings)
    try:
        endpoints = find_endpoints(settings, env, found)
    except ConfigError as error:
        return msgspec.json.encode(_Readings(problems=tuple(map(str, error.problems))))
    snapshot = asyncio.run(observe_once(settings, endpoints))
    if not isinstance(snapshot.sidekiq, Known):
        return msgspec.json.encode(_Readings(problems=(f"Redis: {snapshot.sidekiq.why}",)))
    left = left_at_min(endpoints.policy(settings.policy), snapshot)
    host = socket.gethostname()
    beats = (
        _Beat(pid=p.pid, busy_threads=p.busy_threads, quiet=p.quiet, scheduler=SCHEDULER_QUEUE in p.queues)
        for p in snapshot.sidekiq.value.processes
        if p.hostname == host
    )
    problems = () if left is not None else ("the database can't be read: see `sudo fleetctl doctor`",)
    readings = _Readings(
        beats=tuple(beats),
        short_connections=max(0, -(left or 0)),
        rendered=_is_rendered(settings, endpoints, snapshot),
        problems=problems,
    )
    return msgspec.json.encode(readings)


def _is_rendered(settings: Settings, endpoints: Endpoints, snapshot: Snapshot) -> bool:
    if not isinstance(snapshot.machine, Known):
        return False
    facts: HostFacts = snapshot.machine.value
    policy = endpoints.policy(settings.policy)
    wanted = {s.key: s.digest for s in all_settings(policy, name_connections=endpoints.countable)}
    return all(key in facts.rendered and facts.rendered[key].digest == digest for key, digest in wanted.items())


def _units(settings: Settings, beats: tuple[_Beat, ...], *, hidden: bool) -> tuple[tuple[WorkerUnit, ...], ...]:
    """The old ones, those that serve `scheduler` last, ours, and what only has our names, if these are hidden."""
    numbers = {key for profile in settings.policy.profiles for key in profile.numbers}
    names = [name for file in own_sidekiqs(settings.directory) for name in _instances(file)]
    shown = _show((*names, *_instances("mastodon-sidekiq@.service"), SCHEDULER))
    by_unit = _beats_by_unit(beats)
    old, ours, named = list[WorkerUnit](), list[WorkerUnit](), list[WorkerUnit]()
    for name, properties in shown.items():
        unit = _unit(name, properties, by_unit.get(name, []))
        if name == SCHEDULER or _key(name) in numbers:
            (named if hidden else ours).append(unit)
        elif unit.active or unit.enabled or name in names:
            old.append(unit)
    sorts = sorted(old, key=lambda unit: unit.scheduler), ours, named
    return tuple(tuple(unit for unit in units if unit in old or unit.active or unit.enabled) for units in sorts)


def _key(name: str) -> InstanceKey | None:
    return key_of_unit(name)


def _instances(file: str) -> Iterable[str]:
    """Of a template the instances that systemd knows; of any other unit itself."""
    if "@." not in file:
        return (file,)
    pattern = file.replace("@.", "@*.")
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--full", pattern, seconds=_ASK_SECONDS) or ""
    return tuple(line.split()[0] for line in listed.splitlines() if line.split())


def _show(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """By unit what systemd says of it."""
    asked = tuple(dict.fromkeys(names))
    text = systemctl("show", f"--property={_SHOWN}", "--", *asked, seconds=_ASK_SECONDS) if asked else ""
    blocks = (dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in (text or "").split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


def _unit(name: str, properties: dict[str, str], beats: list[_Beat]) -> WorkerUnit:
    main_pid = int(properties.get("MainPID", "0") or 0)
    unit = WorkerUnit(
        name=name,
        active=properties.get("ActiveState") in _UP,
        enabled=properties.get("UnitFileState") in ("enabled", "enabled-runtime"),
        stop_seconds=span_seconds(properties.get("TimeoutStopUSec", "")) or 0.0,
    )
    if not beats:
        return unit
    main = next((beat for beat in beats if beat.pid == main_pid), beats[0])
    return replace(
        unit,
        pid=main.pid,
        is_main_pid=main.pid == main_pid,
        busy_threads=sum(beat.busy_threads for beat in beats),
        quiet=all(beat.quiet for beat in beats),
        scheduler=any(beat.scheduler for beat in beats),
    )


def _beats_by_unit(beats: tuple[_Beat, ...]) -> dict[str, list[_Beat]]:
    """By the control group that each process is in; those that have ended are left out."""
    found: dict[str, list[_Beat]] = {}
    for beat in beats:
        try:
            groups = Path(f"/proc/{beat.pid}/cgroup").read_text()
        except OSError:
            continue
        unit = re.search(r"/([^/\n]+\.service)(?:/|$)", groups, re.MULTILINE)
        if unit is not None:
            found.setdefault(re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), unit[1]), []).append(beat)
    return found


def _with_status(seen: Seen) -> Seen:
    try:
        status = msgspec.json.decode(fetch_status(_ASK_SECONDS), type=Status)
    except (SourceUnavailableError, msgspec.MsgspecError) as error:
        return replace(seen, why_not=str(error))
    lost = [f"{source.name}: {source.why}" for source in status.sources if not source.ok]
    return replace(
        seen,
        answers=not lost,
        why_not="; ".join(lost),
        serving_instances=sum(min(p.serving_instances or 0, p.min_instances) for p in status.profiles),
        schedulers=status.scheduler.processes,
    )
