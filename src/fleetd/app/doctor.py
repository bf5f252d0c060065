"""What `fleetctl doctor` finds: the world as fleetd meets it, with the rights of fleetd's own user.

Each check says what was seen, why that matters, and the line that mends it. Nothing is changed. Root is needed to read
Mastodon's settings and to take on the user fleetd; anybody else looks with their own rights.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleetd.adapters.database.login import own_role_line
from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.host.worker_account import Account, AccountError, account_of
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.given_env import given_env
from fleetd.app.pooler_search import found_before
from fleetd.app.route import OWN_ROLE
from fleetd.app.sources import close_sources, open_sources
from fleetd.app.worker_command import command_problem
from fleetd.config import Settings, load
from fleetd.core.capacity.budget import connection_limit
from fleetd.core.model.facts import (
    DatabaseFacts,
    HostFacts,
    Known,
    PgBouncerFacts,
    SidekiqFacts,
    Snapshot,
    SystemdFacts,
    Unknown,
    Value,
)
from fleetd.core.model.identity import SCHEDULER, unit_of
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import all_settings
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.words.formatting import numbers, size, times
from fleetd.words.units import fault_words, headline, way_over

Verdict = Literal["ok", "look", "broken"]
#: All sources together, with their deadlines.
LOOK_SECONDS: Final = 30.0
_UP: Final = ("active", "activating", "reloading")
_RENDER: Final = "sudo systemctl start fleetd-render"
_HELD: Final = "Without it fleetd holds everything as it is."
_NO_GROWTH: Final = "Without it nothing grows above min."


class Check(Value, frozen=True, kw_only=True):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    what: str
    why: str = ""  # it matters
    line: str = ""  # that mends it, to be pasted


def examine(file: Path) -> tuple[Check, ...]:
    """Everything, in the order in which to mend it. Never raises for what an admin can have got wrong."""
    try:
        settings = load(file)
        env = given_env(settings, {})
        endpoints = find_endpoints(settings, env, found_before(settings))
    except ConfigError as error:
        return tuple(
            Check(subject="configuration", verdict="broken", what=_what(problem), why=problem.cure)
            for problem in error.problems
        )
    found = [
        Check(subject="configuration", verdict="ok", what=f"{file}: fleetd takes it"),
        Check(subject="configuration", verdict="ok", what=endpoints.redis_sentence),
        Check(subject="configuration", verdict="ok", what=endpoints.sentence),
        *(
            Check(subject="configuration", verdict="look", what=warning)
            for warning in (*settings.warnings, *endpoints.warnings)
        ),
        *_units(settings),
    ]
    try:
        seen = as_account(_daemons_account(), lambda: _look(file, settings, endpoints), LOOK_SECONDS)
    except AccountError as error:
        what = f"fleetd's view could not be taken: {error}"
        return (*found, Check(subject="user fleetd", verdict="broken", what=what, line="sudo make install"))
    # What is to run comes last: workers that start before fleetd can log in have no names for their connections.
    return (*found, *msgspec.json.decode(seen, type=list[Check]), *_services(settings))


def _what(problem: ConfigProblem) -> str:
    return f"{problem.path}: {problem.what}" if problem.path else problem.what


def _daemons_account() -> Account | None:
    """None: we are not root, and look with our own rights."""
    return account_of({"LoadState": "loaded", "User": OWN_ROLE}) if os.geteuid() == 0 else None


def _look(file: Path, settings: Settings, endpoints: Endpoints) -> bytes:
    """With the rights of fleetd's user, and in a process of its own if we are root."""
    snapshot = asyncio.run(_observe(settings, endpoints))
    return msgspec.json.encode([*_rights(file, settings), *checks(settings, endpoints, snapshot)])


async def _observe(settings: Settings, endpoints: Endpoints) -> Snapshot:
    sources, _ = open_sources(settings, endpoints, BoottimeClock(runtime_directory=None))
    try:
        return await sources.observe(settings.policy.host)
    finally:
        await close_sources(sources)


def checks(settings: Settings, endpoints: Endpoints, snapshot: Snapshot) -> Iterator[Check]:
    """What a snapshot says."""
    yield from _redis(endpoints, snapshot.sidekiq)
    watched: tuple[tuple[str, Known[DatabaseFacts] | Known[PgBouncerFacts] | Unknown | None], ...] = (
        ("Postgres", snapshot.database),
        ("PgBouncer", snapshot.pgbouncer),
        ("the replica", snapshot.replica),
    )
    for name, reading in watched:
        if isinstance(reading, Unknown):
            by_user = name == "Postgres" and endpoints.postgres is not None and endpoints.postgres.user == OWN_ROLE
            line = own_role_line(endpoints.postgres.port) if by_user and endpoints.postgres is not None else ""
            yield Check(subject=name, verdict="broken", what=reading.why, why=_NO_GROWTH, line=line)
        elif isinstance(reading, Known):
            yield from _connections(name, settings.policy, endpoints, reading.value)
    yield from _systemd(settings, snapshot.systemd)
    yield from _host(settings, endpoints, snapshot.machine)


def _redis(endpoints: Endpoints, reading: Known[SidekiqFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        yield Check(subject="Redis", verdict="broken", what=reading.why, why=_HELD)
        return
    facts = reading.value
    what = f"{endpoints.redis.place}: {times(len(facts.queues), 'queue')}, {times(len(facts.processes), 'heartbeat')}"
    yield Check(subject="Redis", verdict="ok", what=what)
    for fault in facts.faults:
        yield Check(subject="Redis", verdict="look", what=f"{fault.key}: {fault.why}", why="What it holds is unknown.")
    if facts.workers_endpoint:
        what = f"fleetd reads {facts.endpoint}, the workers use {facts.workers_endpoint}"
        yield Check(subject="Redis", verdict="look", what=what, why="fleetd then sees none of their jobs.")


def _connections(
    name: str, policy: Policy, endpoints: Endpoints, facts: DatabaseFacts | PgBouncerFacts
) -> Iterator[Check]:
    if facts.refused:
        yield Check(subject=name, verdict="broken", what="it lets no more clients in", why=_NO_GROWTH)
        return
    if isinstance(facts, PgBouncerFacts):
        limit, taken = facts.client_limit_connections, facts.client_connections - facts.own_connections
        others = taken
    else:
        limit = connection_limit(policy.connections.limit, facts)
        others = facts.client_connections - facts.own_connections - sum(facts.worker_connections.values())
    at_min = _claims_at_min(policy)
    left = limit - policy.connections.reserve - others - at_min
    arithmetic = (
        f"limit {limit}, less reserve {policy.connections.reserve}, less others' {others}, less {at_min} that the "
        f"profiles claim at min: {left} left"
    )
    smallest = min((profile.claim_connections for profile in policy.profiles), default=0)
    if left < 0:
        why = "Then nothing starts above min, and at min clients may be refused. See `fleetctl connections`."
        yield Check(subject=name, verdict="broken", what=arithmetic, why=why)
    elif left < smallest:
        why = f"No further instance fits, the smallest claims {smallest}: fewer threads, or a higher limit."
        yield Check(subject=name, verdict="look", what=arithmetic, why=why)
    else:
        yield Check(subject=name, verdict="ok", what=arithmetic)
    if isinstance(facts, DatabaseFacts) and not facts.exact and endpoints.postgres is not None:
        yield Check(
            subject=name,
            verdict="look",
            what="it hides the kind of other roles' connections from fleetd",
            why="Every one of them then counts as a client, which may be too many.",
            line=f"sudo -u postgres psql -c 'GRANT pg_monitor TO {endpoints.postgres.user}'",
        )


def _claims_at_min(policy: Policy) -> int:
    scheduler = 0 if policy.scheduler.place == "elsewhere" else policy.scheduler.claim_connections
    return sum(p.min_instances * p.claim_connections for p in policy.profiles) + scheduler


def _systemd(settings: Settings, reading: Known[SystemdFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        line = "systemctl status dbus"
        yield Check(subject="systemd", verdict="broken", what=reading.why, why=_HELD, line=line)
        return
    odd = [u for u in reading.value.units.values() if u.load_state not in ("loaded", "not-found")]
    for unit in odd:
        line = f"systemctl status {unit.name}"
        yield Check(subject="systemd", verdict="broken", what=f"{unit.name} is {unit.load_state}", line=line)
    if not odd:
        running = sum(unit.active_state == "active" for unit in reading.value.units.values())
        yield Check(subject="systemd", verdict="ok", what=f"{times(running, 'unit')} of fleetd's run")


def _host(settings: Settings, endpoints: Endpoints, reading: Known[HostFacts] | Unknown) -> Iterator[Check]:
    if isinstance(reading, Unknown):
        yield Check(subject="this host", verdict="broken", what=reading.why, why=_HELD)
        return
    facts, policy = reading.value, endpoints.policy(settings.policy)
    wanted = {s.key: s.digest for s in all_settings(policy, name_connections=endpoints.countable)}
    missing = [
        key for key, digest in wanted.items() if key not in facts.rendered or facts.rendered[key].digest != digest
    ]
    if missing:
        names = ", ".join(unit_of(key) for key in missing[:4]) + (" …" if len(missing) > 4 else "")
        why = "They would not start, or with the settings of before."
        yield Check(subject="settings", verdict="broken", what=f"not rendered: {names}", why=why, line=_RENDER)
    else:
        ranges = numbers(tuple(key for key in wanted if key != SCHEDULER))
        yield Check(subject="settings", verdict="ok", what=f"rendered for {ranges} and the scheduler")
    if facts.code is None:
        why = "fleetd then can't hold while an upgrade changes it."
        what = "Mastodon's code has no stamp"
        yield Check(subject="settings", verdict="look", what=what, why=why, line="sudo systemctl start fleetd-stamp")
    need = sum(p.min_instances for p in policy.profiles) * policy.memory.instance_bytes
    total = facts.memory_total_bytes
    what = f"min takes about {size(need)} of {size(total)}"
    yield Check(subject="memory", verdict="ok" if need < total else "broken", what=what)


def _rights(file: Path, settings: Settings) -> Iterator[Check]:
    """Asked by fleetd's user."""
    if not os.access(file, os.R_OK):
        line = f"sudo chgrp {OWN_ROLE} {file} && sudo chmod 0640 {file}"
        what = f"user {OWN_ROLE} can't read {file}"
        yield Check(subject="rights", verdict="broken", what=what, why="fleetd would not start.", line=line)
    state = Path(settings.state.directory)
    if state.exists() and not os.access(state, os.W_OK | os.X_OK):
        line = f"sudo chown -R {OWN_ROLE}: {state}"
        why = "Orders would be forgotten by a restart."
        yield Check(
            subject="rights", verdict="broken", what=f"user {OWN_ROLE} can't write to {state}", why=why, line=line
        )


def _units(settings: Settings) -> Iterator[Check]:
    """Workers' units that are somebody else's or were changed, and a command that is not there."""
    problem = command_problem(settings) if os.geteuid() == 0 else ""  # only root can look as the workers do
    if problem:
        yield Check(subject="workers' units", verdict="broken", what=problem, why="No worker can start.")
    for unfit in UnitFiles().unfit(settings.directory).values():
        why = "; ".join(map(fault_words, unfit.faults))
        lines = " && ".join(f"sudo {command}" for command in way_over(unfit)) if unfit.foreign else ""
        yield Check(subject="workers' units", verdict="broken", what=headline(unfit), why=why, line=lines)


def _services(settings: Settings) -> Iterator[Check]:
    """Units that are not fleetd's to read each tick."""
    stock = systemctl("show", "--property=ActiveState", "--value", "mastodon-sidekiq.service", seconds=10.0)
    if stock is not None and stock.strip() == "active" and settings.policy.scheduler.place == "here":
        yield Check(
            subject="systemd",
            verdict="broken",
            what="mastodon-sidekiq.service runs here and serves every queue, `scheduler` too",
            why="fleetd then starts no scheduler of its own, and two must never run.",
            line="sudo systemctl disable --now mastodon-sidekiq",
        )
    for unit, why in (
        # fleetd first: it then finds out whether workers may name their connections before they start.
        ("fleetd.service", "After a reboot fleetd would not run."),
        ("mastodon-sidekiq.target", "After a reboot no worker would be started."),
    ):
        shown = systemctl("show", "--property=UnitFileState,ActiveState", unit, seconds=10.0)
        state = dict(line.split("=", 1) for line in (shown or "").splitlines() if "=" in line)
        if state and state.get("UnitFileState") != "enabled":
            line = f"sudo systemctl enable --now {unit}"
            yield Check(subject="systemd", verdict="look", what=f"{unit} is not enabled", why=why, line=line)
        elif unit == "fleetd.service" and state.get("ActiveState", "active") not in _UP:
            what, line = f"{unit} is {state['ActiveState']}", f"sudo systemctl start {unit}"
            nobody = "Nothing decides how many workers run. See `journalctl -u fleetd`."
            yield Check(subject="systemd", verdict="broken", what=what, why=nobody, line=line)
