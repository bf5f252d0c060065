"""Reasons in words: the one table of every sentence that says why, for status, explain, log and history alike.

The fields of a template are those of its reason; the format of each follows the colon. Reasons that need more than a
template have a function below. Sentences begin with a small letter and end without a full stop, so that they can follow
a colon.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from fleetd.core.model import reasons
from fleetd.core.model.identity import SCHEDULER, TARGET_UNIT, InstanceKey, key_text, unit_name
from fleetd.words.connections import CONNECTION_REASONS
from fleetd.words.deaths import died_sentence
from fleetd.words.demand import DEMAND
from fleetd.words.evidence import EVIDENCE
from fleetd.words.fleet import FLEET_REASONS
from fleetd.words.formatting import (
    CONNECTION_SOURCES,
    are,
    names,
    often,
    release_command,
    short_name,
    span,
    times,
    who,
)
from fleetd.words.replies import REPLIES, restart_taken, set_taken
from fleetd.words.scheduler import SCHEDULER_REASONS
from fleetd.words.sharing import SHARING
from fleetd.words.units import unfit_words

_CHANGES = {
    reasons.Change.CONFIGURATION: "its settings in fleetd.toml changed",
    reasons.Change.POOL: "its pool changed (fleetd.toml, or pool= in Mastodon's settings)",
    reasons.Change.UNIT_FILE: "its unit file changed",
    reasons.Change.DROP_IN: "a drop-in of its unit changed",
    reasons.Change.UNIT: "its unit file or a drop-in changed",
}
_ROLLOUTS = {
    reasons.ReplaceCause.RESTART: "restart",
    reasons.ReplaceCause.OUTDATED: "rollout of changed settings",
    reasons.ReplaceCause.UNCONFIGURED: "drain of what is not in the configuration any more",
    reasons.ReplaceCause.MEMORY: "replacement for memory",
}
PINNED_BY_HAND = {
    reasons.PinKind.RUN: "started by hand",
    reasons.PinKind.STOPPED: "stopped by hand",
    reasons.PinKind.QUIET: "quieted by hand",
}
#: What holds the fleet, as a subject; a pause is told as an order, and a unit that is not fleetd's by itself.
HOLDS: dict[type[reasons.HoldReason], str] = {
    reasons.CodeChanged: "Mastodon's new code",
    reasons.UnitsUpgraded: "the change of the workers' units",
    reasons.TargetStopped: f"the stop of {TARGET_UNIT}",
    reasons.UnderMaintenance: "the maintenance of this host",
    reasons.MostQuietedByHand: "the quiet of most instances",
}
#: systemd.exec(5), $SERVICE_RESULT.
_SYSTEMD_RESULTS = {
    "start-limit-hit": "died at once, too often (start-limit-hit)",
    "oom-kill": "the kernel killed it for memory (oom-kill)",
    "resources": "its settings or directories are missing (resources)",
    "timeout": "did not get ready in time (timeout)",
    "assert": "its settings are not rendered (assert)",
    "exec-command": (
        "its command does not exist, or its user may not run it (203/EXEC): set mastodon.exec, which "
        "`journalctl -u fleetd-render` helps with"
    ),
    "exec-chdir": "its directory does not exist, or its user may not enter it (200/CHDIR): set mastodon.directory",
    "exec-user": "its user does not exist (217/USER): set mastodon.user",
    "exit-code": "its process exited with an error (exit-code)",
    "protocol": "its process ended before it was ready (protocol)",
    "signal": "its process was killed by a signal",
}


def sentence(reason: reasons.Reason) -> str:
    """The reason as a sentence."""
    said = _SENTENCES[type(reason)]
    if not isinstance(said, str):
        return said(reason)
    fields = {name: getattr(reason, name) for name in reason.__struct_fields__}
    return _FORMATTER.format(said, **fields)


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        write = _FORMATS.get(format_spec)
        return write(value) if write is not None else str(super().format_field(value, format_spec))


_FORMATTER = _Formatter()
_FORMATS: dict[str, Callable[[Any], str]] = {
    "key": short_name,
    "keys": names,
    "unit": unit_name,
    "list": ", ".join,
    "mib": lambda size_bytes: f"{size_bytes // 2**20} MiB",
    "span": span,
    "why": sentence,
    "source": CONNECTION_SOURCES.__getitem__,
    "often": often,
    "who": who,
    "are": lambda number: are(round(number)),
    "by_hand": PINNED_BY_HAND.__getitem__,
}


def _paused(r: reasons.Paused) -> str:
    whose = "the whole fleet is " if r.whole else f"{r.host} is " if r.host else ""
    one = f" --host {r.host}" if r.host and not r.whole else ""
    return f"{whose}paused by {who(r.person)}{f': {r.note}' if r.note else ''}; `fleetctl resume{one}` ends it"


def _under_maintenance(r: reasons.UnderMaintenance) -> str:
    note = f": {r.note}" if r.note else ""
    return (
        f"{r.host} is in maintenance, by {who(r.person)}{note}: its work moves to other hosts, nothing starts here; "
        f"`fleetctl maintenance {r.host} --end` ends it"
    )


def hold_subject(hold: reasons.HoldReason) -> str | None:
    """What holds, as a subject for the log; None: it is told otherwise, as an order that was given here is."""
    if isinstance(hold, reasons.Paused):
        return "the pause of the whole fleet" if hold.whole else f"the pause of {hold.host}" if hold.host else None
    return HOLDS.get(type(hold))


def _target_stopped(r: reasons.TargetStopped) -> str:
    return (
        f"all workers of this host were stopped {span(r.stopped_seconds)} ago, with {TARGET_UNIT}: nothing starts "
        f"until `systemctl start {TARGET_UNIT}`"
    )


def _once_held(hold: reasons.HoldReason | None) -> str:
    """What an answer adds while something has to end before the order takes effect."""
    return "" if hold is None else f" Nothing happens before this has ended: {sentence(hold)}."


def _code_changed(r: reasons.CodeChanged) -> str:
    return (
        f"Mastodon's code on disk{f' ({r.version})' if r.version else ''} is not what runs: nothing starts or stops "
        "until `fleetctl restart` (one at a time) or `fleetctl resume`"
    )


def _throughput_stays(r: reasons.ThroughputStays) -> str:
    jobs = f", {r.jobs_per_second:.1f} jobs a second" if r.jobs_per_second is not None else ""
    return f"more workers would not help: more threads brought no more throughput{jobs}, most wait in the database"


def _one_at_a_time(r: reasons.OneAtATime) -> str:
    why = "the database was the bottleneck"
    if r.strained is not None:
        why = _queries_wait(r.strained)
    return f"{why}: one more at a time, to see what it brings"


def _queries_wait(r: reasons.QueriesWait) -> str:
    queries = times(r.active_queries, "query", "queries")
    wait = "waits" if r.stalled_queries == 1 else "wait"
    return f"{r.stalled_queries} of {queries} in Postgres {wait} for locks or I/O"


def _run(instances: int) -> str:
    return f"{instances} {'runs' if instances == 1 else 'run'}"


def _too_many_run(r: reasons.TooManyRun) -> str:
    run = "runs" if r.running_instances == 1 else "run"
    return f"{r.running_instances} of {r.profile} {run}, {are(r.admitted_instances)} wanted"


def _wanted(r: reasons.Wanted) -> str:
    head = f"{r.admitted_instances} wanted, {_run(r.running_instances)}"
    clamp = sentence(r.clamp) if r.clamp is not None else ""
    if r.need is None:
        return f"{head}: {clamp}" if clamp else head
    but = f"; that needs {times(r.needed_instances, 'instance')}, but {clamp}" if clamp else ""
    return f"{head}: {sentence(r.need)}{but}"


def _systemd_result(r: reasons.SystemdResult) -> str:
    return _SYSTEMD_RESULTS.get(r.result, f"systemd says {r.result or 'nothing'}")


def _none_runs(keys: tuple[InstanceKey, ...]) -> str:
    """A loud warning if the scheduler is among them: without it nothing scheduled is done."""
    return ": NO SCHEDULER RUNS" if SCHEDULER in keys else ""


def _not_rendered(r: reasons.NotRendered) -> str:
    cure = "run `systemctl start fleetd-render`"
    return f"{names(r.keys)} not rendered as configured{_none_runs(r.keys)}: {cure}"


def unmask(units: Sequence[str]) -> str:
    """What ends it; without backticks, as it is for several units."""
    return f"systemctl unmask {' '.join(unit.removesuffix('.service') for unit in units)}"


def _units_masked(r: reasons.UnitsMasked) -> str:
    are = "is" if len(r.units) == 1 else "are"
    masked = ", ".join(unit.removesuffix(".service") for unit in r.units)
    return f"{masked} {are} masked, so systemd does not start {names(r.keys)}{_none_runs(r.keys)}: {unmask(r.units)}"


def failed(r: reasons.StartFailed) -> str:
    """How their starts failed, and what comes next; without their names."""
    if r.tried_key is None:
        return "would fail like the others: held"
    if r.given_up:
        return f"failed too often, so it is given up: mend it, then {release_command(r.tried_key)}"
    more = " (the others wait for it)" if len(r.keys) > 1 else ""
    cause = sentence(r.cause) if r.cause is not None else ""
    again = f"in {r.retry_seconds:.0f} s" if r.retry_seconds >= 1.0 else "when the next one is needed"
    return f"failed {often(r.failures)}: {cause}; {short_name(r.tried_key)} is tried again {again}{more}"


def _fewer_than_admitted(r: reasons.FewerThanAdmitted) -> str:
    said = f"{r.profile} has {r.running_instances} of {r.admitted_instances} wanted"
    if not r.instead_of:
        return said
    return f"{said}; takes over for {names(r.instead_of)}, stopped by people, because min is {r.min_instances}"


def changed(changes: tuple[reasons.Change, ...]) -> str:
    """What makes an instance outdated."""
    return " and ".join(_CHANGES[change] for change in changes) or "its settings changed"


def _cause(r: reasons.Replaced | reasons.InPlaceOf | reasons.BeingReplaced) -> str:
    match r.cause:
        case reasons.ReplaceCause.RESTART:
            return f"restarted by {who(r.person)}"
        case reasons.ReplaceCause.OUTDATED:
            return changed(r.changes)
        case reasons.ReplaceCause.UNCONFIGURED:
            return "not in the configuration any more"
        case reasons.ReplaceCause.MEMORY:
            return "holds too much memory"


def _in_place_of(r: reasons.InPlaceOf) -> str:
    return f"in place of {short_name(r.old_key)}, which is drained once this one serves: {_cause(r)}"


def _replaced(r: reasons.Replaced) -> str:
    return _cause(r) + (": started again once it is gone" if r.scheduler else "")


def _drains(r: reasons.Drains) -> str:
    left = "" if r.busy_threads is None else f", {times(r.busy_threads, 'job')} left"
    return f"{short_name(r.key)} drains{left}"


def _hangs_in_pushed_back_job(r: reasons.HangsInPushedBackJob) -> str:
    ends = f"`fleetctl drain {key_text(r.key)}` ends it within {span(r.drain_seconds_max)}"
    if r.key == SCHEDULER:  # which can't be drained
        ends = f"`systemctl restart {unit_name(r.key)}` ends it"
    return (
        f"{short_name(r.key)} hangs in a job that was pushed back before, so it is left alone, because that job may be "
        f"the cause; {ends}, and what it runs then starts over once more, or is lost if it does not react at all"
    )


def _rollout_ended(r: reasons.RolloutEnded) -> str:
    done = f"{r.done_instances} of {r.total_instances}"
    rollout = _ROLLOUTS[r.cause]
    if r.given_up is None:
        return f"{rollout}: {done} replaced"
    return f"{rollout} given up after {done}: {sentence(r.given_up)}"


def _up(keys: tuple[InstanceKey, ...]) -> str:
    return f"{names(keys)} {'is' if len(keys) == 1 else 'are'} up"


def _drained(keys: tuple[InstanceKey, ...]) -> str:
    return f"{names(keys)} {'has' if len(keys) == 1 else 'have'} drained"


_SENTENCES: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.Wanted: _wanted,
    # what holds the host
    reasons.TargetStopped: _target_stopped,
    reasons.Paused: _paused,
    reasons.UnderMaintenance: _under_maintenance,
    reasons.CodeChanged: _code_changed,
    reasons.UnitsUpgraded: (
        "an installation changed {units}: nothing starts or stops until `fleetctl restart` (one at a time), or "
        "`fleetctl resume`, with which running ones stay as they are"
    ),
    reasons.UnitUnfit: lambda r: unfit_words(r.unfit),
    reasons.MostQuietedByHand: (
        "{quieted_instances} of {present_instances} instances were quieted by hand: nothing starts or stops"
    ),
    reasons.OomHold: "an instance was killed for memory: nothing is added on this host for {left_seconds:.0f} s",
    reasons.MemoryStalled: (
        "this host stood still for memory {share:.0%} of the last minute (pressure.memory_max {limit:.0%})"
    ),
    reasons.MemoryBelowReserve: (
        "{available_bytes:mib} of memory are available on this host (memory.reserve {reserve_bytes:mib})"
    ),
    reasons.CoresShort: "work waited for a core {share:.0%} of the last minute (pressure.cpu_max {limit:.0%})",
    reasons.LoadHigh: (
        "the load average is {load_per_core:.1f} a core (at most {limit:.0f}; this kernel tells no pressure)"
    ),
    # what is left for more
    reasons.SystemdUnknown: "systemd can't be read: nothing starts or stops",
    reasons.HostMemoryUnknown: "this host's memory can't be read: nothing grows above min",
    reasons.NoMemoryLeft: "no memory left for one more instance",
    reasons.RoomKeptFor: "what is left is kept for {profile}, which is more important and late",
    reasons.GivesWay: "{to_profile} is more important and late: one of {profile} gives way to it",
    reasons.ShedForMemory: "{shortage:why}, for over a minute: the least important instance goes",
    reasons.QueriesWait: lambda r: f"more workers would not help: {_queries_wait(r)}",
    reasons.ThroughputStays: _throughput_stays,
    reasons.ThreadsDoLess: (
        "more workers would not help: {threads:.0f} threads do what {useful_threads:.0f} did while fewer ran, most "
        "wait in the database"
    ),
    reasons.GrowthTriedAgain: ("the database was the bottleneck: growth is tried again in {left_seconds:.0f} s"),
    reasons.OneAtATime: _one_at_a_time,
    reasons.ThroughputComesBack: ("throughput fell when one was let go, so that one comes back, and no more"),
    reasons.SteppedBack: "{saturated:why}: the least important instance goes",
    reasons.PoolNearlyAtWork: (
        "PgBouncer's pool of {pool_connections} is nearly all in use: one more would need about "
        "{needed_connections:.0f} of it, {left_connections:are} left"
    ),
    # why a unit failed
    reasons.SystemdResult: _systemd_result,
    reasons.StartHadNoEffect: "systemd was told to start it, and nothing happened",
    reasons.NeverHeardOf: "was up for {up_seconds:.0f} s without a heartbeat, while others beat",
    reasons.DiedTooOften: "died {deaths:often} in {seconds:.0f} s, never came to a heartbeat",
    reasons.BootTooLong: "did not get ready within {seconds:.0f} s",
    # starting
    reasons.PlanExpired: "no valid plan: nothing changes except back up to min",
    reasons.StartsPaced: (
        lambda r: f"at most {times(r.starts_per_tick, 'start')} a tick and {r.booting_max} booting at once"
    ),
    reasons.StoppedByHand: lambda r: f"{names(r.keys)} stopped by people and left so{_none_runs(r.keys)}",
    reasons.UnitsMasked: _units_masked,
    reasons.NotRendered: _not_rendered,
    reasons.StartFailed: lambda r: f"{names(r.keys)} {failed(r)}{_none_runs(r.keys)}",
    reasons.NoNumberFree: "every other number is in use or draining",
    reasons.FewerThanAdmitted: _fewer_than_admitted,
    reasons.InPlaceOf: _in_place_of,
    # letting go
    reasons.MoreThanAdmitted: "more of {profile} than is wanted",
    reasons.DrainedByPeople: "drained by {person:who}",
    reasons.KeptStoppedByPeople: "kept stopped by {person:who}",
    reasons.FoundQuiet: "found quiet; quiet can't be undone",
    reasons.Replaced: _replaced,
    reasons.Unresponsive: "unresponsive: no heartbeat while others beat; systemd's stop, with its timeout",
    reasons.EndedAsFailed: "{cause:why}: counted as a failure",
    reasons.StalledGoes: "it finishes nothing",
    reasons.TooManyRun: _too_many_run,
    reasons.StillBoots: "{cause:why}; it still boots",
    reasons.QuietNotConfirmed: "no heartbeat confirms quiet yet: {cause:why}",
    reasons.QuietAndIdle: "quiet and idle: {cause:why}",
    reasons.StopUnheeded: "the signal of its stop seems to be lost, so it is sent again: {cause:why}",
    reasons.NotIdleInTime: "not idle after {drain_seconds_max:.0f} s: stopped, and Sidekiq pushes unfinished jobs back",
    reasons.KeptByPeople: "{instances} started or pinned by people: kept",
    reasons.DrainsPaced: lambda r: f"at most {times(r.drains_per_tick, 'drain begins', 'drains begin')} in one tick",
    reasons.QuietsUnconfirmed: (
        "a quiet was never confirmed: nothing more is drained until one is, or an hour has passed"
    ),
    reasons.IgnoresQuiet: (
        "{key:key} was told to quiet, but its heartbeat does not say so: does its ExecStart pass signals on?"
    ),
    reasons.FinishesPushedBackJob: (
        "{key:key} is past its drain deadline, but runs a job that was pushed back before, so it may finish; "
        "`systemctl stop {key:unit}` ends it now, and what it runs starts over once more"
    ),
    reasons.WaitsForRedisWrites: (
        "{key:key} is past its drain deadline, but Redis takes no writes, so its jobs would be lost: it waits"
    ),
    reasons.Silent: "{key:key} has sent no heartbeat for {silent_seconds:.0f} s while others do",
    reasons.NoHeartbeatYet: (
        "{key:key} is up, but has sent no heartbeat yet while others do: it does not count as capacity"
    ),
    reasons.HangsInPushedBackJob: _hangs_in_pushed_back_job,
    # a rollout
    reasons.BeingReplaced: lambda r: f"{short_name(r.key)} is being replaced: {_cause(r)}",
    reasons.NoSpare: "replaced by stop, then start, because {refusal:why}",
    reasons.Held: "held: {hold:why}",
    reasons.ReplacementMissing: (
        "{profile} has {running_instances} of {wanted_instances}: one is started in place of the one before"
    ),
    reasons.ReplacementBoots: lambda r: f"waits until {_up(r.keys)}",
    reasons.Drains: _drains,
    reasons.DrainUnwatchable: "Redis can't be read, so a drain could not be watched",
    reasons.SettlesFirst: lambda r: f"waits until {_drained(r.keys) if r.what == 'drains' else _up(r.keys)}",
    reasons.SpareBoots: "{spare_key:key} boots to replace {old_key:key}",
    reasons.SpareWentAway: "the replacement of {old_key:key} went away",
    reasons.StartsFirst: "{profile} has fewer instances than wanted: one is started first",
    reasons.NoneComesUp: "nothing of {profile} comes up that could take over, because it is masked or fails",
    reasons.NotWhileLate: "not while {queues:list} waits longer than its target",
    reasons.NoConnectionForNext: "no connection is known to be free for what comes after {old_key:key}",
    reasons.NextNotRendered: "{old_key:key} is not rendered as configured, so nothing could come after it",
    reasons.SchedulerTooYoung: (
        "the scheduler is replaced at most every {age_seconds_min:span}: {left_seconds:.0f} s left"
    ),
    reasons.RollsElsewhere: lambda r: (
        f"{r.host} replaces instances now; of several hosts one at a time does"
        if r.host
        else "the host that leads the fleet has not said yet that it is this one's turn"
    ),
    reasons.SchedulerBetween: "the scheduler is stopped, and started again once none is live",
    reasons.RolloutGivenUp: (
        "{key:unit} failed ({cause:why}): the others are left as they are; mend it, then `fleetctl restart`"
    ),
    # what was noticed
    reasons.Rebooted: lambda r: (
        "this host was rebooted"
        f"{': pins, pauses and set counts from before no longer hold' if r.orders_forgotten else ''}"
    ),
    reasons.ResetByHand: "{key:unit} was reset by hand, so it is tried again",
    reasons.RestartedByHand: "{key:unit} was restarted by hand",
    reasons.RestartedByOthers: lambda r: (
        f"{names(r.keys)} restarted, not by fleetd: taken as that, not as an order to run more or fewer"
    ),
    reasons.PinnedByHand: "{key:unit} was {wants:by_hand}: left so for {kept_seconds:span}",
    reasons.Died: died_sentence,
    reasons.OomKilled: (
        "{key:unit} was killed for memory: an instance is now taken to need {grown_bytes:mib}, and none is added"
    ),
    reasons.RolloutEnded: _rollout_ended,
    **DEMAND,
    **EVIDENCE,
    **FLEET_REASONS,
    **REPLIES,
    **SCHEDULER_REASONS,
    **SHARING,
    **CONNECTION_REASONS,
    reasons.SetTaken: lambda r: f"{set_taken(r)}{_once_held(r.held)}",
    reasons.RestartTaken: lambda r: f"{restart_taken(r)}{_once_held(r.held)}",
}
