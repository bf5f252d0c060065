"""The proposal as a fleetd.toml: each number with its reason as a comment.

Host names, units and the words of servers come from others, so a comment is one plain line and never ends early.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from fleetd.app.init.mastodon_table import mastodon_keys, takes, written
from fleetd.app.init.propose import Proposal, ProposedProfile
from fleetd.app.init.sentences import (
    arithmetic,
    claim_reason,
    found_lines,
    growth_lines,
    max_reason,
    min_reason,
    origin,
    place_reason,
    replaced_units,
    scheduler_threads_reason,
    threads_reason,
    unknown_lines,
)
from fleetd.core.model.policy_tables import MemoryPolicy, SchedulerPolicy
from fleetd.words.plain import plain

_WIDTH = 120
_COMMENT_LENGTH_MAX = 600
_COLUMN = 24


def file_text(proposal: Proposal) -> str:
    """The whole file. It loads, whatever was found."""
    lines = [
        "# fleetd's first configuration for this host, written by `fleetctl init` from what it found. It is yours to",
        "# change; config.example.toml explains every key. Next: sudo fleetctl check-config",
        "#",
        "# Found:",
        *(line for sentence in found_lines(proposal) for line in _comment(sentence, "#   ")),
        *(line for sentence in unknown_lines(proposal) for line in _comment(f"Not found out: {sentence}")),
        *(line for sentence in growth_lines(proposal) for line in _comment(sentence)),
        *_replaces(proposal),
        "",
        *_fleet(proposal),
    ]
    for profile in proposal.profiles:
        lines += [*_profile(profile, proposal), ""]
    lines += [*_scheduler(proposal), "", *_memory(proposal), *_claims(proposal), *_mastodon(proposal)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _replaces(proposal: Proposal) -> Iterator[str]:
    units = replaced_units(proposal)
    if units:
        yield from _comment(f"After that, fleetctl migrate lets fleetd take over from {' '.join(units)}.")


def _fleet(proposal: Proposal) -> Iterator[str]:
    yield "[fleet]"
    if proposal.fleet_host is not None:
        yield from _key("host", proposal.fleet_host, "the machine's own name has signs that fleetd's names can't have")
    mode = '#mode = "observe"'
    yield f"{mode:<{_COLUMN}} # to begin with: only show what it would do, start and stop nothing"
    yield ""


def _profile(profile: ProposedProfile, proposal: Proposal) -> Iterator[str]:
    wish = profile.wish
    yield from _comment(origin(profile, proposal))
    yield f"[profiles.{wish.name}]"
    if wish.stock:
        yield from _key("order", "weighted", "Mastodon's own weights")
    elif wish.weighted:
        weights = ", ".join(f"{json.dumps(queue)} = {weight}" for queue, weight in wish.queues)
        yield f"weights = {{ {weights} }}"
    else:
        yield f"queues = {json.dumps([queue for queue, _ in wish.queues])}"
    yield from _key("threads", profile.threads, threads_reason(profile, proposal))
    low, high = profile.numbers
    yield from _key("instances", f"{low}-{high}", "one number more than max, so that a replacement can start first")
    yield from _key("min", profile.min_instances, min_reason(profile, proposal))
    yield from _key("max", profile.max_instances, max_reason(profile, proposal))


def _scheduler(proposal: Proposal) -> Iterator[str]:
    yield "[scheduler]"
    yield from _key("place", proposal.place, place_reason(proposal))
    if proposal.place != "elsewhere" and proposal.scheduler_threads != SchedulerPolicy().threads:
        yield from _key("threads", proposal.scheduler_threads, scheduler_threads_reason(proposal))


def _memory(proposal: Proposal) -> Iterator[str]:
    memory, usual = proposal.room.memory, MemoryPolicy()
    if memory is None or memory.size_from == "default":
        return
    mebibytes = 1024**2
    yield "[memory]"
    if memory.instance_bytes != usual.instance_bytes:
        why = (
            "what a Sidekiq here holds after a day"
            if memory.size_from == "measured"
            else "a quarter of this small host"
        )
        yield from _key("instance", f"{memory.instance_bytes // mebibytes} MiB", why)
    if memory.reserve_bytes != usual.reserve_bytes:
        yield from _key("reserve", f"{memory.reserve_bytes // mebibytes} MiB", "an eighth of this small host")
    yield ""


def _claims(proposal: Proposal) -> Iterator[str]:
    yield "# What others may open at most; if more is seen, that counts."
    for source in proposal.room.sources:
        yield from _comment(f"{arithmetic(source, proposal)}.")
        if source.pool_connections is not None:
            yield from _comment(
                f"PgBouncer's pool lends Mastodon {source.pool_connections} connections to Postgres: more busy threads "
                "than that wait for each other."
            )
    for claim in proposal.room.claims:
        yield "[[connections.claims]]"
        yield f"name = {json.dumps(claim.declared.name)}"
        if claim.declared.on == "replica":
            yield 'on = "replica"'
        yield from _key("connections", claim.declared.connections, claim_reason(claim))
        yield ""


def _mastodon(proposal: Proposal) -> Iterator[str]:
    lines = []
    for key, value in mastodon_keys(proposal.found.mastodon).items():
        if takes(key, value):
            lines += _key(key, value, "as the units that run now have it")
        else:
            lines += _comment(f"mastodon.{key} is not {value}, which fleetd can't take: set it by hand.")
    if lines:
        yield from ["[mastodon]", *lines]


def _key(key: str, value: str | int, reason: str) -> list[str]:
    """The line with its reason behind it or, if that is too long, above it."""
    line = written(key, value)
    both = f"{line:<{_COLUMN}} # {_one_line(reason)}"
    return [both] if len(both) <= _WIDTH else [*_comment(reason), line]


def _comment(sentence: str, begin: str = "# ") -> list[str]:
    text = _one_line(sentence)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=begin, subsequent_indent=begin, break_on_hyphens=False, break_long_words=True
    ) or [begin.rstrip()]


def _one_line(text: str) -> str:
    return plain(" ".join(text.split()))[:_COMMENT_LENGTH_MAX]
