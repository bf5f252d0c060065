"""What systemd says of the units that run Sidekiq here, and which heartbeat belongs to which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.host.unit_files import UNIT_FILES, UnitFiles
from fleetd.adapters.mastodon.sidekiq_units import own_sidekiqs
from fleetd.app.migrating.plan import SCHEDULER
from fleetd.app.migrating.seen import WorkerUnit
from fleetd.config import Settings
from fleetd.core.model.facts import UnfitUnit, Value
from fleetd.core.model.identity import TEMPLATE_UNIT, key_of_unit
from fleetd.core.model.unit_rules.values import span_seconds
from fleetd.errors import SourceUnavailableError

_ASK_SECONDS: Final = 10.0
_UP: Final = ("active", "activating", "reloading", "deactivating")
_SHOWN: Final = "Id,LoadState,ActiveState,UnitFileState,MainPID,TimeoutStopUSec,RequiredBy,BoundBy,FragmentPath"


class Beat(Value, frozen=True, kw_only=True):
    """A heartbeat of a process on this host."""

    pid: int
    busy_threads: int
    quiet: bool
    scheduler: bool


class Units(Value, frozen=True, kw_only=True):
    """Sorted. `named`: what only has our names, while ours are hidden; `strays`: processes of no service."""

    old: tuple[WorkerUnit, ...]
    ours: tuple[WorkerUnit, ...]
    named: tuple[WorkerUnit, ...]
    strays: tuple[int, ...]
    entangled: tuple[str, ...]


def find_units(settings: Settings, beats: tuple[Beat, ...], *, hidden: bool) -> Units:
    """Those that serve `scheduler` come last among the old ones. Raises SourceUnavailableError."""
    numbers = {key for profile in settings.policy.profiles for key in profile.numbers}
    by_unit, strays = _beats_by_unit(beats)
    names = [name for file in own_sidekiqs(settings.directory) for name in _instances(file)]
    ours_now = (*_instances(TEMPLATE_UNIT), SCHEDULER)
    names += [name for name in by_unit if name not in ours_now]
    shown = show((*names, *ours_now))
    old, ours, named = list[WorkerUnit](), list[WorkerUnit](), list[WorkerUnit]()
    for name, properties in shown.items():
        unit = _unit(name, properties, by_unit.get(name, []))
        if name == SCHEDULER or key_of_unit(name) in numbers:
            (named if hidden else ours).append(unit)
        elif unit.active or unit.enabled or name in names:
            old.append(unit)
    live = (tuple(unit for unit in units if unit.active or unit.enabled) for units in (ours, named))
    return Units(
        old=tuple(sorted(old, key=lambda unit: unit.scheduler)),
        ours=next(live),
        named=next(live),
        strays=strays,
        entangled=tuple(said for unit in old for said in _entangled(unit, shown[unit.name], set(shown))),
    )


def missing_units(names: Iterable[str]) -> tuple[str, ...]:
    """Those that systemd can't load. Raises SourceUnavailableError."""
    return tuple(name for name, found in show(names).items() if found.get("LoadState") == "not-found")


def unstartable_units(unfit: Mapping[str, UnfitUnit]) -> tuple[str, ...]:
    """Of fleetd's units those that it leaves alone, or that are masked or missing."""
    changed = [unit for unit, found in unfit.items() if not found.foreign]
    gone = [unit for unit in UNIT_FILES if UnitFiles().text(unit) is None]
    return tuple(dict.fromkeys((*changed, *gone)))


def is_up(properties: dict[str, str]) -> bool:
    """Whether a process of the unit may live."""
    return properties.get("ActiveState") in _UP


def _entangled(unit: WorkerUnit, properties: dict[str, str], known: set[str]) -> tuple[str, ...]:
    """What `systemctl disable --now` of it would stop or disable besides (systemd.unit(5), Requires=, Also=)."""
    if not (unit.active or unit.enabled):
        return ()
    needs = f"{properties.get('RequiredBy', '')} {properties.get('BoundBy', '')}".split()
    stopped = sorted(set(needs) - known)
    also = _also(Path(properties.get("FragmentPath", "")))
    found = []
    if stopped and unit.active:
        said = f"stopping {unit.name} would stop {', '.join(stopped)}, which require it: take that out"
        found.append(f"{said} (Requires=, BindsTo=), `systemctl daemon-reload`, then run this again")
    if extra := sorted(set(also) - known):
        found.append(
            f"disabling {unit.name} would disable {', '.join(extra)} (Also=): take that out, then run this again"
        )
    return tuple(found)


def _also(file: Path) -> list[str]:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return []
    return [name for line in re.findall(r"^\s*Also=(.*)$", text, re.MULTILINE) for name in line.split()]


def _instances(file: str) -> Iterable[str]:
    """Of a template the instances that systemd knows; of any other unit itself."""
    if "@." not in file:
        return (file,)
    pattern = file.replace("@.", "@*.")
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", "--full", pattern, seconds=_ASK_SECONDS)
    if listed is None:
        raise SourceUnavailableError("systemd did not say which units there are")
    return tuple(line.split()[0] for line in listed.splitlines() if line.split())


def show(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """By unit what systemd says of it. Raises SourceUnavailableError."""
    asked = tuple(dict.fromkeys(names))
    text = systemctl("show", f"--property={_SHOWN}", "--", *asked, seconds=_ASK_SECONDS) if asked else ""
    if text is None:
        raise SourceUnavailableError("systemd did not say how the units are")
    blocks = (dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in text.split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


def _unit(name: str, properties: dict[str, str], beats: list[Beat]) -> WorkerUnit:
    main_pid = int(properties.get("MainPID", "0") or 0)
    unit = WorkerUnit(
        name=name,
        active=is_up(properties),
        enabled=properties.get("UnitFileState") in ("enabled", "enabled-runtime"),
        stop_seconds=span_seconds(properties.get("TimeoutStopUSec", "")) or 0.0,
    )
    if not beats:
        return unit
    loud = tuple(beat.pid for beat in beats if not beat.quiet)
    return replace(
        unit,
        pid=beats[0].pid,
        loud_pids=() if loud == (main_pid,) else loud,
        busy_threads=sum(beat.busy_threads for beat in beats),
        quiet=all(beat.quiet for beat in beats),
        scheduler=any(beat.scheduler for beat in beats),
    )


def _beats_by_unit(beats: tuple[Beat, ...]) -> tuple[dict[str, list[Beat]], tuple[int, ...]]:
    """By the control group that each process is in, and the rest; those that have ended are left out."""
    found: dict[str, list[Beat]] = {}
    strays = list[int]()
    for beat in beats:
        try:
            groups = Path(f"/proc/{beat.pid}/cgroup").read_text()
        except OSError:
            continue
        unit = re.search(r"/([^/\n]+\.service)(?:/|$)", groups, re.MULTILINE)
        if unit is None or "/user.slice/" in groups:  # started by hand, or by a container's runtime
            strays.append(beat.pid)
        else:
            found.setdefault(unit[1], []).append(beat)
    return found, tuple(strays)
