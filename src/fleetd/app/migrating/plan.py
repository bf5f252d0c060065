"""The next step of a migration, from what is seen now: so a run that was interrupted goes on from where things stand.

There: fleetd runs beside the old units, which then take no more jobs, finish what they have, and go, one at a time.
Back: the same with the roles changed. Law 1: our scheduler is started by fleetd once the old one takes no more jobs,
and is gone before the old one is started again. Law 4: a unit is stopped only once a heartbeat says that it is quiet
and idle.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Final, Literal

from msgspec.structs import replace

from fleetd.adapters.rendering.worker_unit import DROPIN, WORKER_UNITS
from fleetd.app.migrating.seen import Record, Seen, WorkerUnit
from fleetd.core.model.facts import Value
from fleetd.core.model.identity import TARGET_UNIT
from fleetd.core.model.unit_rules.judge import STOP_SECONDS_MIN
from fleetd.words.units import BOOT_LINKS

SCHEDULER: Final = "mastodon-sidekiq-scheduler.service"
#: Where files that hid fleetd's units wait for the way back.
KEPT: Final = "/var/lib/mastodon-sidekiq/before-fleetd"
#: More than any host has units.
_STEPS_MAX: Final = 500

Kind = Literal["do", "wait", "stuck", "done"]


class NextStep(Value, frozen=True, kw_only=True):
    """What to do now. `commands`: as a person would run them; `says`: why, or how far it is, or what is wrong."""

    kind: Kind
    says: str
    commands: tuple[str, ...] = ()
    until: str = ""  # what is waited for
    then: Seen | None = None  # what is seen once it is done or waited for, if all goes well


def next_step(seen: Seen) -> NextStep:
    """On the way to fleetd."""
    if seen.problems:
        return NextStep(kind="stuck", says="; ".join(seen.problems))
    missing = _lacks_for_the_way_there(seen)
    if missing:
        return NextStep(kind="stuck", says=missing)
    if not seen.rendered:
        says = "fleetd's settings for each instance are written"
        return _do(says, replace(seen, rendered=True), "systemctl start fleetd-render")
    if seen.hiding:
        says = "what hides fleetd's units is put aside; what was started from it runs on"
        return _do(says, replace(seen, hiding=()), *_aside(seen.hiding))
    hasty = next((unit for unit in seen.old if unit.active and unit.stop_seconds < STOP_SECONDS_MIN), None)
    if hasty is not None:
        says = f"{hasty.name} gets the time to push its jobs back when it is stopped"
        return _do(says, _with(seen, replace(hasty, stop_seconds=60.0)), *_more_time(hasty.name))
    if not (seen.fleetd_active and seen.fleetd_enabled):
        says = "fleetd is started; beside a unit that serves `scheduler` it starts no scheduler"
        return _do(says, replace(seen, fleetd_active=True, fleetd_enabled=True), "systemctl enable --now fleetd")
    if not seen.answers:
        until = "fleetd reads Redis, the database and systemd"
        return _wait(until, replace(seen, answers=True), f"fleetd is not ready: {seen.why_not}")
    if seen.daemon_observes:
        return _do("fleetd acts from now on", replace(seen, daemon_observes=False), "systemctl reload fleetd")
    if seen.pins:
        says = f"fleetd decides again on what was started or stopped by hand: {', '.join(seen.pins)}"
        return _do(says, replace(seen, pins=()), *(f"fleetctl release {what}" for what in seen.pins))
    if not seen.target_enabled or seen.target_stopped:
        says = "each profile's min runs beside what runs now"
        then = replace(seen, target_enabled=True, target_stopped=False)
        return _do(says, then, f"systemctl enable --now {TARGET_UNIT}")
    if seen.serving_instances < seen.wanted_instances:
        says = f"{seen.serving_instances} of {seen.wanted_instances} instances of min serve"
        return _wait("all instances of min serve", replace(seen, serving_instances=seen.wanted_instances), says)
    return _let_go_old(seen)


def _let_go_old(seen: Seen) -> NextStep:
    for unit in seen.old:
        if unit.active or unit.enabled:
            if unit.scheduler and unit.active and not (seen.scheduler_here or seen.schedulers_elsewhere):
                return NextStep(kind="stuck", says=_last_scheduler(unit))
            return _let_go(seen, unit, "fleetd's instances take them", disable=True)
    if not (seen.scheduler_serves or seen.schedulers_elsewhere):
        says = f"fleetd starts the scheduler {seen.takeover_seconds:.0f} s after the last one took no more jobs"
        then = replace(seen, scheduler_serves=True)
        if not seen.scheduler_here:
            says = 'place = "elsewhere", and no other host serves `scheduler`: start it there'
        return _wait("a scheduler serves", then, says if not seen.scheduler_says else f"{says}. {seen.scheduler_says}")
    return NextStep(kind="done", says="fleetd runs Mastodon's Sidekiq: see `fleetctl status`")


def next_step_back(seen: Seen, record: Record) -> NextStep:
    """On the way back to the units of before. fleetd goes first, so that nothing is started against it."""
    if seen.problems:
        return NextStep(kind="stuck", says="; ".join(seen.problems))
    wanted = dict.fromkeys((*record.enabled, *record.active))
    if not wanted:
        says = f"no unit of before is recorded: start the one you want, then `systemctl disable --now {TARGET_UNIT}`"
        return NextStep(kind="stuck", says=says)
    if seen.missing:
        says = (
            f"{', '.join(seen.missing)}: systemd doesn't know it any more. Put its unit file back, then run this again"
        )
        return NextStep(kind="stuck", says=says)
    if seen.fleetd_active or seen.fleetd_enabled:
        says = "fleetd is stopped; its workers run on"
        return _do(says, replace(seen, fleetd_active=False, fleetd_enabled=False), "systemctl disable --now fleetd")
    scheduler = next((unit for unit in seen.ours if unit.name == SCHEDULER and unit.active), None)
    if scheduler is not None:
        return _let_go(seen, scheduler, "none is scheduled until the old unit is up", disable=False)
    if any(_was_aside(path, seen) for path in record.moved):
        return _back_with_files(seen, record)
    for name in wanted:
        known = (unit for unit in (*seen.old, *seen.named) if unit.name == name)
        unit = next(known, WorkerUnit(name=name, stop_seconds=60.0))
        ran, booted = name in record.active, name in record.enabled
        there = _with(seen, replace(unit, active=unit.active or ran, enabled=booted, pid=1 if ran else 0, quiet=False))
        verbs = [*(["enable"] if booted and not unit.enabled else []), *(["start"] if ran and not unit.active else [])]
        if verbs:
            commands = [f"systemctl {verb} {shlex.quote(name)}" for verb in verbs]
            return _do(f"{name} is as it was before", there, *commands)
        if ran and not unit.beats:
            return _wait(f"{name} beats in Redis", there, f"{name} boots")
    return _let_go_ours(seen)


def _back_with_files(seen: Seen, record: Record) -> NextStep:
    """Both have the same names, so ours end before those of before can start."""
    if any(unit.active for unit in seen.ours):
        return _let_go_ours(seen)
    back = [path for path in record.moved if _was_aside(path, seen)]
    commands = [f"mv {shlex.quote(kept_as(path))} {shlex.quote(path)}" for path in back]
    # What fleetd-render wrote for ours would change any unit of that name.
    commands.append(f"rm -f {' '.join(f'/etc/systemd/system/{unit}.d/{DROPIN}' for unit in WORKER_UNITS)}")
    then = replace(seen, aside=(), hiding=record.moved, ours=(), named=seen.ours)
    return _do("the files of before are put back", then, *commands, "systemctl daemon-reload")


def _let_go_ours(seen: Seen) -> NextStep:
    for unit in seen.ours:
        if unit.active:
            return _let_go(seen, unit, "the units of before take them", disable=False)
    if seen.target_enabled:
        says = "a boot starts fleetd's workers no more"
        return _do(says, replace(seen, target_enabled=False), f"systemctl disable --now {TARGET_UNIT}")
    return NextStep(kind="done", says="the units of before run Mastodon's Sidekiq, and fleetd is off")


def _let_go(seen: Seen, unit: WorkerUnit, jobs: str, *, disable: bool) -> NextStep:
    """Quiet, wait until it is idle, stop."""
    name = shlex.quote(unit.name)
    if unit.active and not unit.beats:
        says = f"{unit.name} runs without a heartbeat in Redis: it boots, or it uses another Redis"
        return _wait(f"{unit.name} beats in Redis", _with(seen, replace(unit, pid=1)), says)
    if unit.active and not unit.quiet:
        command = f"systemctl kill --kill-who=main --signal=TSTP {name}"
        if unit.loud_pids:
            command = f"kill -TSTP {' '.join(map(str, unit.loud_pids))}   # of {unit.name}"
        quiet = replace(unit, quiet=True, loud_pids=())
        return _do(f"{unit.name} takes no more jobs: {jobs}", _with(seen, quiet), command)
    if unit.active and unit.busy_threads:
        jobs_left = "1 job" if unit.busy_threads == 1 else f"{unit.busy_threads} jobs"
        then = _with(seen, replace(unit, busy_threads=0))
        return _wait(f"{unit.name} has finished its jobs", then, f"{unit.name} finishes {jobs_left}")
    says = f"{unit.name} is idle and goes" if unit.active else f"a boot starts {unit.name} no more"
    gone = _with(seen, replace(unit, active=False, enabled=False, pid=0))
    return _do(says, gone, f"systemctl {'disable --now' if disable else 'stop'} {name}")


def steps_of(seen: Seen, record: Record | None = None) -> tuple[NextStep, ...]:
    """All steps that are left, if each goes well; the last one is done or stuck. `record`: on the way back."""
    found: list[NextStep] = []
    now: Seen | None = seen
    while now is not None and len(found) < _STEPS_MAX:
        step = next_step(now) if record is None else next_step_back(now, record)
        found.append(step)
        now = step.then
    return tuple(found)


def _with(seen: Seen, unit: WorkerUnit) -> Seen:
    """With this unit as it is now."""
    if any(one.name == unit.name for one in seen.ours):
        return replace(seen, ours=tuple(unit if one.name == unit.name else one for one in seen.ours))
    if any(one.name == unit.name for one in seen.named):
        return replace(seen, named=tuple(unit if one.name == unit.name else one for one in seen.named))
    others = [one for one in seen.old if one.name != unit.name]
    place = next((i for i, one in enumerate(seen.old) if one.name == unit.name), len(others))
    return replace(seen, old=(*others[:place], unit, *others[place:]))


def _do(says: str, then: Seen, *commands: str) -> NextStep:
    return NextStep(kind="do", says=says, commands=commands, then=then)


def _wait(until: str, then: Seen, says: str) -> NextStep:
    return NextStep(kind="wait", says=says, until=until, then=then)


def _lacks_for_the_way_there(seen: Seen) -> str:
    """What must be mended before a unit that works is touched; "": nothing."""
    if seen.observes:
        act = 'set mode = "act" under [fleet], then run this again'
        return f"fleetd is to observe only, so it would start nothing: in {seen.observes}, {act}"
    if seen.serving_instances >= seen.wanted_instances and not any(unit.active or unit.enabled for unit in seen.old):
        return ""
    if seen.entangled:
        return "; ".join(seen.entangled)
    if seen.unstartable and not seen.hiding:
        units = ", ".join(seen.unstartable)
        return f"fleetd would not start {units}: `sudo fleetctl doctor` says why. Mend that, then run this again"
    if seen.held:
        return f"fleetd starts nothing now: {seen.held} Then run this again"
    if seen.serving_instances < seen.wanted_instances:
        if seen.short_connections is None:
            return "the database can't be read: see `sudo fleetctl doctor`"
        return _short(seen) if seen.short_connections else ""
    return ""


def _last_scheduler(unit: WorkerUnit) -> str:
    return (
        f'{unit.name} is the only scheduler, and place = "elsewhere" keeps fleetd from starting one here. Start '
        'fleetd\'s on the other host first, or set place = "here" in fleetd.toml, then run this again'
    )


def _was_aside(path: str, seen: Seen) -> bool:
    return PurePosixPath(path).name in seen.aside


def kept_as(path: str) -> str:
    """Where a file that was put aside is."""
    return f"{KEPT}/{PurePosixPath(path).name}"


def _aside(paths: tuple[str, ...]) -> tuple[str, ...]:
    moves = []
    for path in paths:
        moves += [
            f"find /etc/systemd/system -lname {shlex.quote(path)} -not -path '{BOOT_LINKS}' -delete",
            f"mv {shlex.quote(path)} {shlex.quote(kept_as(path))}",
        ]
    return (f"mkdir -p {KEPT}", *moves, "systemctl daemon-reload", "systemctl restart fleetd-render")


def _more_time(unit: str) -> tuple[str, ...]:
    folder = f"/run/systemd/system/{unit}.d"
    line = f"printf '[Service]\\nTimeoutStopSec=60\\n' > {shlex.quote(f'{folder}/zzz-fleetd.conf')}"
    return (f"mkdir -p {shlex.quote(folder)}", line, "systemctl daemon-reload")


def _short(seen: Seen) -> str:
    return (
        f"for a while both need connections to the database, and {seen.short_connections} are missing: raise "
        "max_connections, or set fewer threads or a smaller min in fleetd.toml, then run this again. `sudo fleetctl "
        "doctor` has the numbers"
    )
