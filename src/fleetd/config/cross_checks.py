"""From the tables of the file to the core's Policy, with the checks that concern more than one key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import structs

from fleetd.config.access_tables import POOL_FROM_THREADS, ConnectionsSection, File
from fleetd.config.profiles import build_profiles, check_pool
from fleetd.config.toml_reader import join, nearest, show
from fleetd.core.demand.needed import home
from fleetd.core.model.policy_tables import (
    CLAIM_MARGIN_CONNECTIONS,
    QUEUES_BY_IMPORTANCE,
    SCHEDULER_QUEUE,
    ConnectionPolicy,
    DeclaredClaim,
    MemoryPolicy,
    Policy,
    PolicyTables,
    SchedulerPolicy,
    Target,
    targets_seconds,
)
from fleetd.errors import ConfigProblem

#: The longest a job should wait in each queue. Mastodon's admins alert at 30 s; `default` is what people see (their own
#: home feed); nobody waits for what `pull` and `fasp` fetch.
DEFAULT_TARGETS_SECONDS = {"default": 5.0, "push": 30.0, "ingress": 30.0, "mailers": 60.0, "pull": 300.0, "fasp": 300.0}


def build_policy(file: File, machine_host: str, problems: list[ConfigProblem]) -> tuple[Policy, tuple[str, ...]]:
    """The policy and the warnings; what is wrong goes to `problems`."""
    if not file.profiles and not any(p.path.startswith("profiles") for p in problems):
        cure = 'Add at least one, e.g. [profiles.default-first] with instances = "1-4".'
        problems.append(ConfigProblem("profiles", "no profile, so there is nothing to run", cure))
    tables: dict[str, Any] = {name: getattr(file, name) for name in PolicyTables.__struct_fields__}
    tables |= {"scheduler": _scheduler(file.scheduler, problems), "connections": _connections(file.connections)}
    policy = Policy(
        host=_host(file.fleet.host, machine_host, problems),
        profiles=build_profiles(file.profiles, problems),
        targets_seconds={**DEFAULT_TARGETS_SECONDS, **targets_seconds(file.targets)},
        mode=file.fleet.mode,
        **tables,
    )
    _check_memory(policy.memory, problems)
    _refuse_min_over_budget(policy, problems)
    return policy, _warnings(policy, file.targets)


def _host(configured: str | None, machine_host: str, problems: list[ConfigProblem]) -> str:
    host = configured if configured is not None else machine_host
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", host):
        cure = "Set fleet.host to 1 to 64 letters, digits, dots, dashes or underscores."
        problems.append(ConfigProblem("fleet.host", f"this machine's name {show(host)} can't be used", cure))
        return "unnamed"
    return host


def _scheduler(section: SchedulerPolicy, problems: list[ConfigProblem]) -> SchedulerPolicy:
    if section.db_pool == POOL_FROM_THREADS:
        section = structs.replace(section, db_pool=section.threads + CLAIM_MARGIN_CONNECTIONS)
    check_pool("scheduler", section.threads, section.db_pool, problems)
    if SCHEDULER_QUEUE not in section.queues:
        what = f"{show(list(section.queues))} lacks the scheduler queue, so no cron job would ever run"
        problems.append(ConfigProblem("scheduler.queues", what, 'Add "scheduler", first.'))
    if len(set(section.queues)) != len(section.queues):
        problems.append(
            ConfigProblem("scheduler.queues", f"{show(list(section.queues))} names a queue twice", "Name it once.")
        )
    return section


def _connections(section: ConnectionsSection) -> ConnectionPolicy:
    others = [DeclaredClaim(name="others", connections=section.others)] if section.others else []
    policy = msgspec.convert(section, ConnectionPolicy, from_attributes=True)
    return structs.replace(policy, declared=(*others, *section.claims))


def _check_memory(memory: MemoryPolicy, problems: list[ConfigProblem]) -> None:
    if memory.max_bytes is not None and memory.max_bytes < memory.instance_bytes:
        what = "less than memory.instance, what one is expected to grow to"
        problems.append(ConfigProblem("memory.max", what, "Raise max, or lower instance."))


def _refuse_min_over_budget(policy: Policy, problems: list[ConfigProblem]) -> None:
    """A limit below what a boot starts in any case can't be kept (law 2 against law 5): the admin must decide."""
    limit = policy.connections.limit
    if limit is None:
        return
    others = policy.connections.declared_connections("database")
    budget, claims = limit - policy.connections.reserve - others, policy.min_connections
    if claims > budget:
        what = (
            f"{limit} − reserve {policy.connections.reserve} − others {others} leaves {budget} "
            f"connections, and the min instances and the scheduler claim {claims}"
        )
        cure = "Raise limit, or lower min, threads or db_pool."
        problems.append(ConfigProblem("connections.limit", what, cure))


def _warnings(policy: Policy, targets: dict[str, Target]) -> tuple[str, ...]:
    served = {queue for profile in policy.profiles for queue, _ in profile.queues}
    known = served | set(QUEUES_BY_IMPORTANCE)
    sentences = [
        f"No profile here serves the queue {queue}: its jobs wait for ever unless another host serves it."
        for queue in QUEUES_BY_IMPORTANCE
        if policy.profiles and queue not in served | set(policy.scheduler.queues)
    ]
    for queue in targets:
        if queue not in known:
            meant = nearest(queue, known)
            sentences.append(
                f"{join('targets', queue)}: no profile here serves this queue and Mastodon has none of this name"
                + (f"; did you mean {meant}?" if meant else ".")
            )
    sentences += _starved(policy)
    for profile in policy.profiles:
        unusual = [queue for queue, _ in profile.queues if queue not in QUEUES_BY_IMPORTANCE]
        guesses = sorted({m for q in unusual if (m := nearest(q, QUEUES_BY_IMPORTANCE))})
        hint = f" (did you mean {', '.join(guesses)}?)" if guesses else ""
        if unusual:
            names = ", ".join(unusual)
            sentences.append(f"Profile {profile.name} serves {names}, which stock Mastodon does not have{hint}.")
    return tuple(sentences)


def _starved(policy: Policy) -> Iterator[str]:
    """Queues with a target that are served only after one that may wait for ever."""
    for profile in policy.profiles:
        names = [queue for queue, _ in profile.queues] if profile.order == "strict" else []
        first = next((queue for queue in names if math.isinf(policy.target_seconds(queue))), None)
        behind = names[names.index(first) + 1 :] if first is not None else []
        starved = [q for q in behind if math.isfinite(policy.target_seconds(q)) and home(policy, q) == profile]
        if starved:
            yield (
                f'Profile {profile.name} serves {first}, which may wait for ever (target "none"), before'
                f" {', '.join(starved)}: nothing is started to clear {first} for them."
            )
