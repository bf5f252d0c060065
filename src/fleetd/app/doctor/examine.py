"""What `fleetctl doctor` finds: the world as fleetd meets it, with the rights of fleetd's own user.

Nothing is changed. Root is needed to read Mastodon's settings and to take on the user fleetd; anybody else looks with
their own rights.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.worker_account import AccountError
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.daemons_view import daemons_account, unfit_units
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.readings import reading_checks
from fleetd.app.doctor.redis_seen import RedisSeen, look_at_redis
from fleetd.app.doctor.units import others_running, rights, services, worker_units
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.given_env import given_env
from fleetd.app.pooler_search import found_before, who_answers
from fleetd.app.sources import observe_once
from fleetd.config import Settings, load
from fleetd.core.model.facts import Snapshot
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import ConfigError, ConfigProblem
from fleetd.words.observing import ACT_AGAIN

#: All sources together, with their deadlines, and the question who answers before them.
LOOK_SECONDS: Final = 30.0


def examine(file: Path) -> tuple[Check, ...]:
    """Everything, in the order in which to mend it. Never raises for what an admin can have got wrong."""
    try:
        settings = load(file)
        env = given_env(settings, {})
        found = found_before(settings)
        find_endpoints(settings, env, found)
    except ConfigError as error:
        return tuple(_problems(error))
    taken = Check(subject="configuration", verdict="ok", what=f"{file}: fleetd takes it")
    looks = [Check(subject="configuration", verdict="look", what=warning) for warning in settings.warnings]
    if settings.policy.observes:
        why = f"It starts and stops only what you order with fleetctl. To let it act, {ACT_AGAIN}."
        looks.insert(0, Check(subject="configuration", verdict="look", what="fleetd only observes", why=why))
    unfit, others = unfit_units(settings), others_running(settings)
    checks = (taken, *looks, *worker_units(settings, unfit))
    try:
        seen = as_account(daemons_account(), lambda: _look(file, settings, env, found, others), LOOK_SECONDS)
    except AccountError as error:
        what = f"fleetd's view could not be taken: {error}"
        return (*checks, Check(subject="user fleetd", verdict="broken", what=what, line=_install_line()))
    # What is to run comes last: workers that start before fleetd can log in have no names for their connections.
    return (*checks, *msgspec.json.decode(seen, type=list[Check]), *services(settings, unfit, others))


def _install_line() -> str:
    """What makes user fleetd anew: this is the Debian package's environment, or that of `make install`."""
    return "sudo apt-get install --reinstall fleetd" if sys.prefix == "/usr/lib/fleetd" else "sudo make install"


def _problems(error: ConfigError) -> Iterator[Check]:
    for problem in error.problems:
        yield Check(subject="configuration", verdict="broken", what=_what(problem), why=problem.cure)


def _what(problem: ConfigProblem) -> str:
    return f"{problem.path}: {problem.what}" if problem.path else problem.what


def _look(file: Path, settings: Settings, env: EnvFile, before: FoundPooler | None, others: tuple[str, ...]) -> bytes:
    """With the rights of fleetd's user, and in a process of its own if we are root."""
    found = asyncio.run(who_answers(settings, env)) or before
    try:
        endpoints = find_endpoints(settings, env, found)
    except ConfigError as error:  # PgBouncer was found just now, and what it takes to ask it is missing
        return msgspec.json.encode([*rights(file, settings), *_problems(error)])
    snapshot, seen = asyncio.run(_observed(settings, endpoints))
    seen = structs.replace(seen, settings_hidden=env.forbidden)
    return msgspec.json.encode(
        [*_places(endpoints), *rights(file, settings), *reading_checks(settings, endpoints, snapshot, others, seen)]
    )


async def _observed(settings: Settings, endpoints: Endpoints) -> tuple[Snapshot, RedisSeen]:
    """One reading of everything, and what else Redis says, at the same time."""
    return await asyncio.gather(observe_once(settings, endpoints), look_at_redis(settings, endpoints))


def _places(endpoints: Endpoints) -> Iterator[Check]:
    for sentence in (endpoints.redis_sentence, endpoints.sentence):
        yield Check(subject="configuration", verdict="ok", what=sentence)
    for warning in endpoints.warnings:
        yield Check(subject="configuration", verdict="look", what=warning)
