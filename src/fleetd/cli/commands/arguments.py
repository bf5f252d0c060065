"""What people type after a command: lengths of time, instances, profiles. Shells complete them from fleetd's status."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from fleetd.cli.client import client_of
from fleetd.cli.terminal.safe_text import clean
from fleetd.core.model.identity import InstanceKey, key_of, key_of_unit
from fleetd.errors import FleetdError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from fleetd.core.model.status import Status

#: Nobody waits longer for a suggestion.
COMPLETION_SECONDS_MAX = 1.0
COUNT_MAX = 9999
PAST_SECONDS_MAX = 31 * 86_400.0
_TYPED_CHARACTERS_MAX = 200
_UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LENGTH = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,6}}){unit})?" for unit in _UNIT_SECONDS))


def seconds_of(text: str) -> float:
    """The seconds of `90s`, `30m`, `2h`, `1h30m` or `1d`; more than 0. How long an order may last is for fleetd to say.

    Raises click.BadParameter with a sentence for anything else.
    """
    typed = "".join(text[:_TYPED_CHARACTERS_MAX].lower().split()).replace("min", "m")
    match = _LENGTH.fullmatch(typed)
    seconds = 0
    if match is not None:
        seconds = sum(_UNIT_SECONDS[unit] * int(part) for unit, part in match.groupdict("0").items())
    if seconds == 0:
        unit = " without a unit" if re.fullmatch(r"[0-9]+", typed) else ""
        raise click.BadParameter(
            f"'{_shortened(text)}' is no length of time{unit}. Write it as 90s, 30m, 2h, 1h30m or 1d."
        )
    return float(seconds)


def key_typed(text: str) -> InstanceKey:
    """`3`, `@3`, `mastodon-sidekiq@3`, with `.service` or without; `scheduler`.

    Raises ValueError with a sentence for anything else.
    """
    name = text.strip()[:_TYPED_CHARACTERS_MAX].removesuffix(".service")
    key = key_of(name.removeprefix("@"))
    if key is None:
        key = key_of_unit(f"{name}.service")
    if key is None:
        raise ValueError(
            f"'{_shortened(text)}' is no instance. Write 3, @3 or mastodon-sidekiq@3 for an instance, or scheduler."
        )
    return key


def _shortened(text: str) -> str:
    text = clean(text, ascii_only=True)
    return text if len(text) <= 60 else text[:57] + "..."


def to_seconds(_context: click.Context, _parameter: click.Parameter, typed: str | None) -> float:
    """For click's callback: the seconds of --for; 0.0, the default, when it is left out."""
    return 0.0 if typed is None else seconds_of(typed)


def to_past_seconds(_context: click.Context, _parameter: click.Parameter, typed: str) -> float:
    """For click's callback: how far back --since goes, in seconds, at most 31 days."""
    seconds = seconds_of(typed)
    if seconds > PAST_SECONDS_MAX:
        raise click.BadParameter(f"'{_shortened(typed)}' is out of range: write at most 31d, e.g. 2h or 1d.")
    return seconds


def to_key(_context: click.Context, _parameter: click.Parameter, typed: str) -> InstanceKey:
    """For click's callback: which instance."""
    try:
        return key_typed(typed)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def to_count(_context: click.Context, _parameter: click.Parameter, typed: str) -> int | None:
    """For click's callback: how many instances; None for `auto`."""
    if typed == "auto":
        return None
    if not re.fullmatch(r"[0-9]{1,4}", typed):
        raise click.BadParameter(f"'{_shortened(typed)}' is no count. Write 0 to {COUNT_MAX}, or auto.")
    return int(typed)


def complete_key(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Instances, in the way in which one is being typed."""
    status = _status(context)
    known = {} if status is None else {str(i.number): f"{i.profile}, {i.state}" for i in status.instances}
    if status is not None:
        known["scheduler"] = status.scheduler.sentence
    before = "".join(incomplete.rpartition("@")[:2])
    return _items({before + name: about for name, about in known.items()}, incomplete)


def complete_profile(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Profiles, with their queues."""
    status = _status(context)
    profiles = () if status is None else status.profiles
    return _items({p.name: " ".join(p.queues) for p in profiles}, incomplete)


def complete_host(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Hosts of the fleet."""
    status = _status(context)
    fleet = None if status is None else status.fleet
    return _items({host.host: "" for host in fleet.hosts} if fleet is not None else {}, incomplete)


def _status(context: click.Context) -> Status | None:
    try:
        return client_of(context).status(COMPLETION_SECONDS_MAX)
    except FleetdError:  # a shell that completes has no place for it
        return None


def _items(known: dict[str, str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(name, help=clean(about, ascii_only=True)[:60])
        for name, about in known.items()
        if name.startswith(incomplete) and re.fullmatch(r"[\w@.-]+", name)
    ]
