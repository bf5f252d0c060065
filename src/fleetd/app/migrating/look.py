"""Look at this host for a migration: units by systemd, heartbeats and connections with the rights of fleetd's user."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from fleetd.adapters.bus.client import fetch_status
from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.worker_account import AccountError
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.daemons_view import daemons_account, unfit_units
from fleetd.app.doctor.connections import left_at_min
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.given_env import given_env
from fleetd.app.migrating.plan import KEPT, SCHEDULER
from fleetd.app.migrating.seen import Record, Seen
from fleetd.app.migrating.units import Beat, find_units, is_up, missing_units, show, unstartable_units
from fleetd.app.pooler_search import found_before, who_answers
from fleetd.app.sources import observe_once
from fleetd.config import Settings, load
from fleetd.core.instances.scheduler import SETTLE_SECONDS
from fleetd.core.model.facts import HostFacts, Known, Snapshot, Value
from fleetd.core.model.identity import TARGET_UNIT
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.core.model.status import Status
from fleetd.core.model.worker_settings import not_rendered
from fleetd.errors import ConfigError, SourceUnavailableError

_LOOK_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 10.0


class _Readings(Value, frozen=True, kw_only=True):
    """What was read with the rights of fleetd's user."""

    beats: tuple[Beat, ...] = ()
    schedulers_elsewhere: int = 0
    short_connections: int | None = 0
    rendered: bool = False
    problems: tuple[str, ...] = ()


def look(file: Path, before: Record) -> Seen:
    """Everything that the next step depends on. What can't be read is among `problems`. Raises ConfigError.

    `before`: what the way back would start again.
    """
    settings = load(file)
    env = given_env(settings, {})
    find_endpoints(settings, env, found_before(settings))  # raises what is wrong with the configuration
    try:
        answer = as_account(daemons_account(), lambda: _read(settings, env), _LOOK_SECONDS)
        readings = msgspec.json.decode(answer, type=_Readings)
    except AccountError as error:
        readings = _Readings(problems=(f"fleetd's view could not be taken: {error}",))
    try:
        seen = _with_units(settings, readings, before)
    except SourceUnavailableError as error:
        return Seen(old=(), ours=(), problems=(*readings.problems, str(error)))
    seen = replace(seen, observes=str(file) if settings.policy.observes else "")
    return _with_status(seen) if seen.fleetd_active else seen


def _with_units(settings: Settings, readings: _Readings, before: Record) -> Seen:
    unfit = unfit_units(settings)
    hiding = tuple(dict.fromkeys(found.file for found in unfit.values() if found.foreign))
    units = find_units(settings, readings.beats, hidden=bool(hiding))
    own = show(("fleetd.service", TARGET_UNIT))
    strays = ", ".join(map(str, units.strays))
    stray = f"Sidekiq runs here outside of any service, PID {strays}: end it as you started it, then run this again"
    return Seen(
        old=units.old,
        ours=units.ours,
        named=units.named,
        missing=missing_units((*before.enabled, *before.active)),
        entangled=units.entangled,
        unstartable=unstartable_units(unfit),
        hiding=hiding,
        aside=tuple(path.name for path in Path(KEPT).glob("*")) if Path(KEPT).is_dir() else (),
        rendered=readings.rendered,
        fleetd_active=is_up(own.get("fleetd.service", {})),
        fleetd_enabled=own.get("fleetd.service", {}).get("UnitFileState") == "enabled",
        target_enabled=own.get(TARGET_UNIT, {}).get("UnitFileState") == "enabled",
        wanted_instances=sum(profile.min_instances for profile in settings.policy.profiles),
        scheduler_here=settings.policy.scheduler.place != "elsewhere",
        takeover_seconds=_takeover_seconds(settings.policy),
        scheduler_serves=any(unit.name == SCHEDULER and unit.beats and not unit.quiet for unit in units.ours),
        schedulers_elsewhere=readings.schedulers_elsewhere,
        short_connections=readings.short_connections,
        problems=(*readings.problems, *((stray,) if strays else ())),
    )


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
        Beat(pid=p.pid, busy_threads=p.busy_threads, quiet=p.quiet, scheduler=SCHEDULER_QUEUE in p.queues)
        for p in snapshot.sidekiq.value.processes
        if p.hostname == host
    )
    readings = _Readings(
        beats=tuple(beats),
        schedulers_elsewhere=sum(
            p.hostname != host and not p.quiet and SCHEDULER_QUEUE in p.queues for p in snapshot.sidekiq.value.processes
        ),
        short_connections=None if left is None else max(0, -left),
        rendered=_is_rendered(settings, endpoints, snapshot),
    )
    return msgspec.json.encode(readings)


def _is_rendered(settings: Settings, endpoints: Endpoints, snapshot: Snapshot) -> bool:
    if not isinstance(snapshot.machine, Known):
        return False
    facts: HostFacts = snapshot.machine.value
    return not not_rendered(endpoints.policy(settings.policy), facts.rendered, name_connections=endpoints.countable)


def _with_status(seen: Seen) -> Seen:
    try:
        status = msgspec.json.decode(fetch_status(_ASK_SECONDS), type=Status)
    except (SourceUnavailableError, msgspec.MsgspecError) as error:
        return replace(seen, why_not=str(error))
    lost = [f"{source.name}: {source.why}" for source in status.sources if not source.ok]
    return replace(
        seen,
        answers=not lost,
        daemon_observes=status.mode == "observe",
        why_not="; ".join(lost),
        serving_instances=sum(min(p.serving_instances or 0, p.min_instances) for p in status.profiles),
        target_stopped=any(hold.kind == "stopped" for hold in status.holds),
        held=next((hold.sentence for hold in status.holds if hold.kind != "stopped"), ""),
        pins=tuple(one.what.removeprefix("@") for one in status.overrides if one.kind == "pin"),
        scheduler_says=status.scheduler.sentence,
    )
