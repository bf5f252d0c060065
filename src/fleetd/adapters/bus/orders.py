"""People's orders on the wire: each Command is one method of org.fleetd1.Manager.

What comes from the bus was typed by anybody: it is a Command only once every length, number and duration is known
to be sane. Whether the order makes sense (is there such a profile?) is for whoever obeys it.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from fleetd.core.model.commands import (
    ORDER_SECONDS_MAX,
    REASON_CHARACTERS_MAX,
    Command,
    DrainInstance,
    Number,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.errors import FleetdError

#: Method to its arguments: name and D-Bus type. Seconds of 0 mean the default; a number is "3" or "scheduler".
ORDERS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Pause": (("for_seconds", "d"), ("reason", "s")),
    "Resume": (),
    "SetInstances": (("profile", "s"), ("instances", "u"), ("for_seconds", "d")),
    "SetAuto": (("profile", "s"),),
    "Pin": (("number", "s"), ("for_seconds", "d")),
    "Release": (("number", "s"),),
    "Drain": (("number", "s"), ("for_seconds", "d")),
    "Restart": (("profile", "s"),),
}
INSTANCES_MAX = 9999
PROFILE_CHARACTERS_MAX = 64
_DAY_SECONDS = 86400.0


class BadOrderError(FleetdError):
    """Arguments that are no order, whatever the configuration says."""


def signature_of(method: str) -> str:
    return "".join(kind for _, kind in ORDERS[method])


def call_of(command: Command) -> tuple[str, tuple[object, ...]]:
    """The method and arguments that carry `command`."""
    match command:
        case Pause():
            return "Pause", (command.for_seconds, command.reason)
        case Resume():
            return "Resume", ()
        case SetInstances(instances=None):
            return "SetAuto", (command.profile,)
        case SetInstances():
            return "SetInstances", (command.profile, command.instances, command.for_seconds)
        case PinInstance():
            return "Pin", (str(command.number), command.for_seconds)
        case ReleaseInstance():
            return "Release", (str(command.number),)
        case DrainInstance():
            return "Drain", (str(command.number), command.for_seconds)
        case Restart():
            return "Restart", (command.profile,)


def command_of(method: str, arguments: list[Any]) -> Command:
    """The order that a call of `method` (of ORDERS, arguments of its signature) means; raises BadOrderError."""
    given = dict(zip((name for name, _ in ORDERS[method]), arguments, strict=True))
    for_seconds = _seconds(given.get("for_seconds", 0.0))
    match method:
        case "Pause":
            return Pause(for_seconds=for_seconds, reason=_reason(given["reason"]))
        case "Resume":
            return Resume()
        case "SetInstances":
            if given["instances"] > INSTANCES_MAX:
                raise BadOrderError(f"{given['instances']} instances are more than {INSTANCES_MAX}")
            profile = _named_profile(given["profile"])
            return SetInstances(profile=profile, instances=given["instances"], for_seconds=for_seconds)
        case "SetAuto":
            return SetInstances(profile=_named_profile(given["profile"]), instances=None)
        case "Pin":
            return PinInstance(number=_number(given["number"]), for_seconds=for_seconds)
        case "Release":
            return ReleaseInstance(number=_number(given["number"]))
        case "Drain":
            number = _number(given["number"])
            if number == "scheduler":
                raise BadOrderError(
                    "the scheduler is not drained, for then nothing would be scheduled: fleetctl restart replaces"
                    " it, systemctl stop mastodon-sidekiq-scheduler stops it"
                )
            return DrainInstance(number=number, for_seconds=for_seconds)
        case _:
            return Restart(profile=_profile(given["profile"]))


def described(command: Command) -> str:
    """The order in a few words, for the log."""
    method, arguments = call_of(command)
    words = [method]
    for (name, _), value in zip(ORDERS[method], arguments, strict=True):
        if name == "for_seconds":
            words += [f"for {value:g} s"] if value else []
        elif value != "":
            words.append(f"{name} {value}")
    return " ".join(words)


def _seconds(seconds: float) -> float:
    if not math.isfinite(seconds) or seconds < 0:
        raise BadOrderError(
            f"{seconds:g} seconds is no length of time; 0 is the default, a week the longest there is"
        )
    if seconds > ORDER_SECONDS_MAX:
        raise BadOrderError(
            f"{seconds:g} seconds is longer than {ORDER_SECONDS_MAX / _DAY_SECONDS:.0f} days: no order lasts longer"
        )
    return seconds


def _number(text: str) -> Number:
    if text == "scheduler":
        return "scheduler"
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise BadOrderError(f"{_shortened(text)} is no instance: a number of 1 to 9999, or scheduler")
    return int(text)


def _profile(text: str) -> str:
    if len(text) > PROFILE_CHARACTERS_MAX or not text.isprintable():
        raise BadOrderError(f"{_shortened(text)} is no profile's name; fleetctl status lists them")
    return text


def _named_profile(text: str) -> str:
    if not text:
        raise BadOrderError("which profile? fleetctl status lists them")
    return _profile(text)


def _reason(text: str) -> str:
    """One line of it: it stands in the log and on everybody's screen."""
    text = " ".join(text.split())
    if len(text) > REASON_CHARACTERS_MAX:
        raise BadOrderError(
            f"the reason has {len(text)} characters and may have {REASON_CHARACTERS_MAX}; say it in a sentence"
        )
    if not text.isprintable():
        raise BadOrderError("the reason has characters that can't be printed")
    return text


def _shortened(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")
