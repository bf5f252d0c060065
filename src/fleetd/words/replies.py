"""What people are answered to their orders: the rows of reasons.py for core/model/reasons/replies.py and saving.py.

reasons.py adds what holds the fleet to two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.core.model.identity import unit_name
from fleetd.words.formatting import names, release_command, span, times
from fleetd.words.sharing import code_words

#: Hosts that one answer names.
_NAMED_MAX = 8
_KEPT = {
    reasons.PinKind.RUN: "runs and is kept running",
    reasons.PinKind.STOPPED: "is stopped and kept so",
    reasons.PinKind.QUIET: "is kept quiet",
}


def _pause_taken(r: reasons.PauseTaken) -> str:
    drains = times(r.drains_going_on, "drain under way goes on", "drains under way go on")
    more = f"; {drains}, because quiet can't be undone"
    note = f" ({r.note})" if r.note else ""
    return (
        f"Paused for {span(r.for_seconds)}{note}: nothing starts or stops of its own accord, "
        "but for instances above min whose connections others need, and a second scheduler"
        f"{more if r.drains_going_on else ''}."
    )


def _resume_taken(r: reasons.ResumeTaken) -> str:
    ended = ["the pause has ended"] if r.pause_ended else []
    if r.code_accepted:
        version = f" ({r.version})" if r.version else ""
        ended.append(
            f"Mastodon's code on disk{version} is accepted: new instances start with it, running ones keep "
            "the old one until `fleetctl restart`"
        )
    if r.units_accepted:
        ended.append("the workers' new units are accepted: running ones keep theirs until `fleetctl restart`")
    return f"Resumed: {'; '.join(ended)}."


def set_taken(r: reasons.SetTaken) -> str:
    low = f" That is below min ({r.min_instances})." if r.instances < r.min_instances else ""
    return (
        f"{r.profile} is set to {r.instances} for {span(r.for_seconds)}, as far as connections and memory "
        f"allow; `fleetctl set {r.profile} auto` ends it.{low}"
    )


def _release_taken(r: reasons.ReleaseTaken) -> str:
    said = "fleetd decides about it again"
    if r.is_drained:
        said = "it is drained now, because quiet can't be undone"
    if r.forgotten_failures:
        said += f"; {times(r.forgotten_failures, 'failure is', 'failures are')} forgotten, so it may be tried again"
    return f"{unit_name(r.key)} is released: {said}."


def _pin_taken(r: reasons.PinTaken) -> str:
    return f"{unit_name(r.key)} {_KEPT[r.wants]} for {span(r.for_seconds)}; {release_command(r.key)} ends it."


def _drain_taken(r: reasons.DrainTaken) -> str:
    busy = "" if r.busy_threads is None else f", {times(r.busy_threads, 'job')} to finish"
    kept = f", and kept stopped for {span(r.for_seconds)}; {release_command(r.key)} ends that."
    if r.left_over:
        kept = ". fleetd.toml names it no more, so it does not come back."
    return (
        f"{unit_name(r.key)} is drained{busy}: stopped once idle, at the latest after {span(r.drain_seconds_max)}{kept}"
    )


def _drain_under_way(r: reasons.DrainUnderWay) -> str:
    busy = "" if r.busy_threads is None else f", {times(r.busy_threads, 'job')} to finish"
    kept = f"; kept stopped for {span(r.for_seconds)}, which {release_command(r.key)} ends" if r.for_seconds else ""
    return f"{unit_name(r.key)} is being {'drained' if r.drained else 'stopped'} already{busy}{kept}."


def restart_taken(r: reasons.RestartTaken) -> str:
    more = " What is on disk is accepted for all profiles, so whatever starts runs it." if r.code_for_all else ""
    if r.tried_again:
        more += f" What failed before is tried again: {', '.join(map(unit_name, r.tried_again))}."
    more += f" {times(r.pins_ended, 'pin on them ends', 'pins on them end')}." if r.pins_ended else ""
    if r.left_out:
        is_masked = "is masked and goes" if len(r.left_out) == 1 else "are masked and go"
        more += f" {names(r.left_out)} {is_masked} on as before: systemctl unmask first."
    return f"{r.instances} to restart, one at a time, each once its jobs are done.{more}"


def _fleet_pause_taken(r: reasons.FleetPauseTaken) -> str:
    note = f" ({r.note})" if r.note else ""
    ends = f"fleetctl resume --host {r.host}" if r.host else "fleetctl resume"
    whole = f"The whole fleet ({times(r.hosts, 'host')}) is" if not r.host else f"{r.host} is"
    return (
        f"{whole} paused for {span(r.for_seconds)}{note}: nothing starts or stops of its own accord, but for instances "
        "above min whose connections others need, and a second scheduler; drains under way go on. Each host hears it "
        f"with its next tick; `{ends}`, on any host, ends it."
    )


def _fleet_resume_taken(r: reasons.FleetResumeTaken) -> str:
    ended = ["the pause of the whole fleet has ended"] if r.whole else []
    ended += [f"the pause of {', '.join(r.hosts)} has ended"] if r.hosts else []
    if r.here is not None:
        ended.append(f"on this host: {_resume_taken(r.here).removeprefix('Resumed: ').removesuffix('.')}")
    still = ", but the whole fleet is still paused; `fleetctl resume` ends that too" if r.still_paused else ""
    return f"Resumed: {'; '.join(ended)}{still}."


def _maintenance_taken(r: reasons.MaintenanceTaken) -> str:
    what = "its instances" if r.instances is None else f"its {times(r.instances, 'instance')}"
    one = r.instances == 1
    if r.serving:
        where = ", ".join(r.serving[:4])
        they = "it ends" if one else "they end"
        how = f"{what} {'moves' if one else 'move'} to {where} as far as there is room, then {they} on {r.host}"
    else:
        how = f"{what} {'ends' if one else 'end'} although no other host serves, so jobs wait"
    scheduler = ", then its scheduler if another host may run it" if r.scheduler else ""
    return (
        f"{r.host} is in maintenance for {span(r.for_seconds)}: {how}{scheduler}; nothing starts there, and what a "
        f"boot starts ends again. `fleetctl hosts` shows how far it is, `fleetctl maintenance {r.host} --end` ends it."
    )


def _deaf(hosts: tuple[reasons.DeafHost, ...]) -> str:
    if not hosts:
        return ""
    named = [f"{one.host} (fleetd {one.fleetd})" if one.fleetd else one.host for one in hosts[:_NAMED_MAX]]
    named += [f"{len(hosts) - _NAMED_MAX} more"] if len(hosts) > _NAMED_MAX else []
    runs = "runs" if len(hosts) == 1 else "run"
    return f" {', '.join(named)} {runs} another fleetd, which does not know this order: upgrade it there."


def _not_moved(hosts: tuple[reasons.NotTaken, ...], what: str) -> str:
    if not hosts:
        return ""
    return f" {what}: {', '.join(f'{one.host} ({code_words(one.why)})' for one in hosts[:_NAMED_MAX])}."


def _fleet_set_taken(r: reasons.FleetSetTaken) -> str:
    where = f"on {r.host}" if r.host else f"on all hosts together ({', '.join(r.hosts[:_NAMED_MAX])})"
    end = f"fleetctl set {r.profile} auto{f' --host {r.host}' if r.host else ''}"
    said = (
        f"{r.profile} is set to {r.instances} {where} for {span(r.for_seconds)}, as far as connections and memory "
        f"allow; `{end}`, on any host, ends it."
    )
    said += f" That is below min ({r.min_instances})." if r.instances < r.min_instances else ""
    if r.own:
        own = ", ".join(f"{count} on {host}" for host, count in r.own[:_NAMED_MAX])
        said += f" What is set on one host counts in it: {own}."
    said += _not_moved(r.held, "As they are until that ends")
    leads = f" {r.leader} leads and is one of them, so nothing changes before that." if r.leader else ""
    return said + _deaf(r.deaf) + leads


def _fleet_auto_taken(r: reasons.FleetAutoTaken) -> str:
    where = ["on all hosts together"] if r.whole else []
    where += [f"on {', '.join(r.hosts)}"] if r.hosts else []
    where += ["on this host"] if r.here else []
    left = f" What was ordered on {', '.join(r.left)} while Redis was away is ended there." if r.left else ""
    return f"{r.profile}: its queues decide again, {' and '.join(where) or 'on no host'}.{left}"


def _fleet_restart_taken(r: reasons.FleetRestartTaken) -> str:
    of = f" of {r.profile}" if r.profile else ""
    each = ", ".join(f"{count} on {host}" for host, count in r.hosts[:_NAMED_MAX])
    more = len(r.hosts) - _NAMED_MAX
    each += f" and others on {times(more, 'more host')}" if more > 0 else ""
    turn = "" if r.host else ", on one host after the other"
    total = sum(count for _, count in r.hosts)
    said = f"{total}{of} to restart ({each}), one at a time{turn}, each once its jobs are done."
    if r.upgraded:
        said += f" What is on disk on {', '.join(r.upgraded[:_NAMED_MAX])} is accepted there."
    return said + _not_moved(r.held, "It waits on") + _deaf(r.deaf)


def _fleet_restart_under_way(r: reasons.FleetRestartUnderWay) -> str:
    of = f" of {r.profile}" if r.profile else ""
    where = f"on {r.host}" if r.host else "of all hosts"
    done = f"{r.done_instances} of {r.total_instances} done"
    return f"A restart{of} {where} is under way, {done}; `fleetctl pause` holds it."


def _host_forgotten(r: reasons.HostForgotten) -> str:
    # Postgres goes by a number in the ledger, which says nothing to anybody.
    freed = [
        f"{times(connections, 'connection')} of {'Postgres' if source.isdigit() else source}"
        for source, connections in r.claims
        if connections
    ]
    freed += ["the scheduler's place"] if r.scheduler else []
    freed += ["the lead"] if r.led else []
    freed += [times(r.orders, "order about it", "orders about it")] if r.orders else []
    what = f"free now: {', '.join(freed)}" if freed else "it had nothing any more"
    return (
        f"{r.host} is forgotten, after {span(r.silent_seconds)} of silence; {what}. If its fleetd beats again it joins "
        "as a new host."
    )


def _memory_unsaved(r: reasons.MemoryUnsaved) -> str:
    if r.kept_in is not None:
        return f"fleetd's memory is in {r.kept_in} until its own file can be written: {r.why}"
    return f"fleetd's memory can't be saved, so a restart of fleetd would forget orders and drains: {r.why}"


def _memory_unread(r: reasons.MemoryUnread) -> str:
    if not r.fields:
        return "no fleetd wrote what is in the file of fleetd's memory: orders, drains and windows in it are forgotten"
    writer = f"fleetd {r.writer}" if r.writer else "another version of fleetd"
    return (
        f"{writer} wrote fleetd's memory, and what this version can't read of it is forgotten: in {', '.join(r.fields)}"
    )


def answer(reply: str, unsaved: reasons.MemoryUnsaved | None) -> str:
    """What a person is told: `reply`, and how long it is remembered where it can't be saved."""
    if unsaved is None:
        return reply
    if unsaved.kept_in is not None:
        return f"{reply} It is kept in {unsaved.kept_in}, where a restart of fleetd finds it: {unsaved.why}."
    return f"{reply} It is obeyed now, but a restart of fleetd would forget it: {unsaved.why}."


REPLIES: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.PauseTaken: _pause_taken,
    reasons.ResumeTaken: _resume_taken,
    reasons.AutoTaken: "{profile}: its queues decide again.",
    reasons.PinTaken: _pin_taken,
    reasons.ReleaseTaken: _release_taken,
    reasons.DrainTaken: _drain_taken,
    reasons.DrainUnderWay: _drain_under_way,
    reasons.RestartUnderWay: (
        "A restart of them is under way, {done_instances} of {total_instances} done; `fleetctl pause` holds it."
    ),
    reasons.FleetPauseTaken: _fleet_pause_taken,
    reasons.FleetResumeTaken: _fleet_resume_taken,
    reasons.MaintenanceTaken: _maintenance_taken,
    reasons.MaintenanceEnded: "{host} is in maintenance no more: it starts again what the leader's plan has for it.",
    reasons.FleetSetTaken: _fleet_set_taken,
    reasons.FleetAutoTaken: _fleet_auto_taken,
    reasons.FleetRestartTaken: _fleet_restart_taken,
    reasons.FleetRestartUnderWay: _fleet_restart_under_way,
    reasons.HostForgotten: _host_forgotten,
    reasons.MemoryUnsaved: _memory_unsaved,
    reasons.MemoryUnread: _memory_unread,
}
