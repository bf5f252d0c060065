"""What the ledger in Redis says of the fleet: whose it is, who is in it, names, and where the scheduler may run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fleetd.app.doctor.check import Check
from fleetd.app.doctor.members import Member, members_of, silent_seconds
from fleetd.app.doctor.redis_seen import RedisSeen
from fleetd.core.evidence.whereabouts import BEATS_NOW_SECONDS
from fleetd.core.fleet.rules import name_ms, waits_for
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model import reasons
from fleetd.core.model.facts import HostFacts, Known, ProcessFacts, Snapshot
from fleetd.core.model.heartbeats import is_foreign, other_hosts
from fleetd.core.model.identity import InstanceKey, parse_tag, unit_name
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy
from fleetd.core.sharing.differences import differences
from fleetd.words.formatting import span
from fleetd.words.reasons import sentence

_FLEET: Final = "the fleet"
_SCHEDULER: Final = "the scheduler"
_TAKEOVER: Final = "scheduler.takeover_seconds"
_NOBODY: Final = "Without one nobody enqueues scheduled jobs."


def fleet_checks(policy: Policy, fleet: str, snapshot: Snapshot, seen: RedisSeen) -> Iterator[Check]:
    """`fleet`: which Mastodon this is. Of a ledger that can't be read for want of rights, redis_checks.py says so."""
    processes = snapshot.sidekiq.value.processes if isinstance(snapshot.sidekiq, Known) else ()
    yield from _named_twice(processes)
    state = seen.ledger
    if state is None:
        yield from _no_ledger(seen, other_hosts(processes, policy.host))
        return
    if seen.ledger_of(fleet) is None:
        what = sentence(reasons.LedgerUnusable(fault="fleet", fleet=state.fleet))
        why = f"This host's is {fleet or 'not named (LOCAL_DOMAIN)'}, and it is refused: it grows nothing above min."
        yield Check(subject=_FLEET, verdict="broken", what=what, why=why)
        return
    machine: HostFacts | None = snapshot.machine.value if isinstance(snapshot.machine, Known) else None
    now_ms = seen.server.now_ms if seen.server is not None else None
    members = members_of(policy, state, now_ms, machine)
    yield _who(state, members)
    yield from _own_name(policy, state, seen, members, now_ms)
    yield from _not_there(state, members, other_hosts(processes, policy.host))
    serving = [process for process in processes if SCHEDULER_QUEUE in process.queues and not process.quiet]
    yield from _places(members, serving if isinstance(snapshot.sidekiq, Known) else None)
    yield from _alike(state, members)


def _no_ledger(seen: RedisSeen, others: Sequence[str]) -> Iterator[Check]:
    if seen.ledger_why:
        if seen.server is not None and not {"+hgetall", "%R~*"} & set(seen.server.missing):
            yield Check(subject=_FLEET, verdict="broken", what=seen.ledger_why, why="Nothing grows above min then.")
    elif others:
        what = f"workers of {_listed(others)} beat, and the hosts' ledger in Redis is empty"
        why = 'fleetd is stopped there, or older, or has [fleet] ledger = "local": see `fleetctl hosts` on each.'
        yield Check(subject=_FLEET, verdict="look", what=what, why=why)
    else:
        yield Check(subject=_FLEET, verdict="ok", what="no host has told anything yet; the first fleetd that runs does")


def _who(state: LedgerState, members: Sequence[Member]) -> Check:
    leader, holder = state.leader, state.scheduler_host
    names = [member.host for member in members]
    hosts = f"{names[0]} is the only host" if len(names) == 1 else f"{_listed(names)} share it"
    leads = f"; {leader} leads" if leader and len(names) > 1 else ""
    runs = f"; {holder} has the scheduler" if holder and len(names) > 1 else ""
    return Check(subject=_FLEET, verdict="ok", what=f"{state.fleet or 'without a name'}: {hosts}{leads}{runs}")


def _own_name(
    policy: Policy, state: LedgerState, seen: RedisSeen, members: Sequence[Member], now_ms: int | None
) -> Iterator[Check]:
    host, tick_ms = policy.host, round(1000 * policy.pace.tick_seconds)
    entry, named = state.hosts.get(host), f"this machine is called {seen.hostname}, and in the fleet {host}"
    taken = entry is not None and silent_seconds(state, entry, now_ms) * 1000 < name_ms(tick_ms)
    if entry is not None and taken and not _same_boot(entry.boot_id, seen.boot_id):
        why = "This one is refused, and grows nothing above min, while the other one beats."
        what = sentence(reasons.LedgerUnusable(fault="name_taken", host=host))
        yield Check(subject=_FLEET, verdict="broken", what=what, why=why)
    called = {seen.hostname, seen.hostname.partition(".")[0]}
    if not seen.hostname or host in called:
        return
    if any(member.host in called for member in members):
        why = f"Another host is {seen.hostname} there. A copied fleetd.toml needs a fleet.host of its own, or none."
        yield Check(subject=_FLEET, verdict="look", what=named, why=why)
    else:
        yield Check(subject=_FLEET, verdict="ok", what=named)


def _same_boot(theirs: str, ours: str) -> bool:
    """By fleetd's mark of each boot; where one of the two has none, by the kernel's id.

    In a container fleetd, whose /proc is its own (ProtectProc=), sees another id of the kernel than the doctor does.
    """
    if not theirs or not ours:
        return True
    (their_kernel, _, their_mark), (our_kernel, _, our_mark) = theirs.partition("."), ours.partition(".")
    return their_mark == our_mark if their_mark and our_mark else their_kernel == our_kernel


def _named_twice(processes: Iterable[ProcessFacts]) -> Iterator[Check]:
    """One unit that beats from two machines, or twice: of a clone, whose kernel has the same name."""
    beating: dict[tuple[str, InstanceKey], list[ProcessFacts]] = {}
    for process in processes:
        tag = parse_tag(process.tag)
        if tag is not None and process.beat_age_seconds < BEATS_NOW_SECONDS:
            beating.setdefault((tag.host, tag.key), []).append(process)
    twice = {unit: found for unit, found in beating.items() if len(found) > 1}
    for host in sorted({host for host, _ in twice}):
        (key, found) = min((key, found) for (of, key), found in twice.items() if of == host)
        where = sorted(f"{process.hostname} (pid {process.pid})" for process in found)
        what = f"{unit_name(key)} of {host} beats from {_listed(where)}"
        why = "If that stays so, two machines have one name: give each its own fleet.host, and restart its workers."
        yield Check(subject=_FLEET, verdict="look", what=what, why=why)


def _not_there(state: LedgerState, members: Sequence[Member], beating: Sequence[str]) -> Iterator[Check]:
    """Hosts that tell nothing, now or at all."""
    own = next(member.host for member in members if member.own)
    waits = [host for host in waits_for(state) if host] if state.gathering_ms is not None else []
    others = [host for host in waits if host != own]
    if others:
        what = sentence(reasons.FleetGathers(waits_for=tuple(waits)))
        why = f"It is over after 5 minutes at the latest. {_forget(others[0])}"
        yield Check(subject=_FLEET, verdict="look", what=what, why=why)
    for member in members:
        if member.silent:
            why = "fleetd is stopped there, or can't reach Redis; its connections stay set aside meanwhile."
            what = f"{member.host} has been silent for {span(member.silent_seconds)}"
            yield Check(subject=_FLEET, verdict="look", what=what, why=f"{why} {_forget(member.host)}")
        elif member.report is None and not member.own:
            why = "Its workers count by their heartbeats. Another version of fleetd runs there, or it has just begun."
            what = f"{member.host} has told nothing that this fleetd can read"
            yield Check(subject=_FLEET, verdict="look", what=what, why=why)
    unknown = [host for host in beating if host not in {member.host for member in members}]
    if unknown:
        why = 'They count as capacity. fleetd is stopped there, or older, or has [fleet] ledger = "local".'
        what = f"workers of {_listed(unknown)} beat, which told nothing of themselves"
        yield Check(subject=_FLEET, verdict="look", what=what, why=why)


def _forget(host: str) -> str:
    return f"If it is gone for good: `fleetctl hosts forget {host}`."


def _places(members: Sequence[Member], serving: Sequence[ProcessFacts] | None) -> Iterator[Check]:
    """`serving`: schedulers that beat; None: that can't be read."""
    here = [member for member in members if member.place == "here"]
    if len(here) > 1:
        names = _listed([member.host for member in here])
        why = 'Each starts it 20 s after it is gone, whichever had it. Let one keep "here", and others have "auto".'
        yield Check(subject=_SCHEDULER, verdict="look", what=f'{names} have place = "here"', why=why)
    if all(member.place == "elsewhere" for member in members):
        yield _nowhere(members, serving)
        return
    may = [member for member in members if member.place != "elsewhere" and not member.silent]
    if not may:
        silent = _listed([member.host for member in members if member.place != "elsewhere"])
        what = f'only {silent} may run it, and its fleetd is silent; every other host has place = "elsewhere"'
        why = f'{_NOBODY} Start fleetd there, or set place = "auto" on another host.'
        yield Check(subject=_SCHEDULER, verdict="broken" if serving == [] else "look", what=what, why=why)
    else:
        for member in (member for member in here if member.silent):
            why = "Once nobody has seen a scheduler for takeover_seconds, another one starts it."
            what = f'{member.host} has place = "here" and is silent'
            yield Check(subject=_SCHEDULER, verdict="look", what=what, why=why)
    if len(members) > 1:
        said = ", ".join(f"{member.host} {member.place or 'unknown'}" for member in members)
        yield Check(subject=_SCHEDULER, verdict="ok", what=f"place: {said}")


def _nowhere(members: Sequence[Member], serving: Sequence[ProcessFacts] | None) -> Check:
    who = "this host has" if len(members) == 1 else "every host has"
    what = f'{who} place = "elsewhere", so fleetd starts none'
    if any(is_foreign(process) for process in serving or ()):
        return Check(subject=_SCHEDULER, verdict="ok", what=f"{what}; one that is not fleetd's serves it")
    why = f'{_NOBODY} Set place = "auto" on the hosts that may run it.'
    return Check(subject=_SCHEDULER, verdict="look" if serving is None else "broken", what=what, why=why)


def _alike(state: LedgerState, members: Sequence[Member]) -> Iterator[Check]:
    """What should be the same everywhere: takeover, other settings, and the releases."""
    takeovers = {
        m.host: m.takeover_seconds for m in members if m.takeover_seconds is not None and m.place != "elsewhere"
    }
    if len(set(takeovers.values())) > 1:
        said = ", ".join(f"{host} {seconds:g}" for host, seconds in takeovers.items())
        why = "Each host waits its own, so the shortest decides when a silent host's scheduler is taken over."
        yield Check(subject=_SCHEDULER, verdict="look", what=f"takeover_seconds differ: {said}", why=why)
    reports = {member.host: member.report for member in members if member.report is not None and not member.silent}
    leader = reports.get(state.leader)
    for report in reports.values() if leader is not None else ():
        for found in differences(leader, report) if leader is not None else ():
            if found.setting != _TAKEOVER:
                yield Check(subject=_FLEET, verdict="look", what=sentence(found))
    for name, releases in (
        ("fleetd", {member.host: member.fleetd for member in members if member.fleetd}),
        ("Mastodon", {member.host: member.mastodon for member in members if member.mastodon}),
    ):
        if len(set(releases.values())) > 1:
            said = ", ".join(f"{release} on {host}" for host, release in releases.items())
            why = "That is so while hosts are upgraded one after the other; not for long."
            yield Check(subject=_FLEET, verdict="look", what=f"{name} {said}", why=why)


def _listed(names: Sequence[str]) -> str:
    """`w1, w2 and w3`."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
