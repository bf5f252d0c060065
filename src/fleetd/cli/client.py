"""The one way from fleetctl to fleetd: the answer over the bus as a value, orders, and exit statuses.

When nobody answers, what systemd and the journal know is asked for instead (advice/postmortem.py).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import click
import msgspec

from fleetd import __version__
from fleetd.cli.advice import postmortem
from fleetd.core.model.commands import Command
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError

ANSWER_SECONDS_MAX = 5.0
WATCH_SECONDS = 2.0
EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_INTERRUPTED = 1, 3, 130


class AnswerError(FleetdError):
    """fleetd answered, but not what this fleetctl understands."""


def fetch_from_bus(timeout_seconds: float) -> str:
    """The status as JSON over the system bus; raises SourceUnavailableError when nobody answers."""
    from fleetd.adapters.bus.client import fetch_status

    return fetch_status(timeout_seconds)


def order_over_bus(command: Command) -> str:
    """Have fleetd obey; returns its answer, raises FleetdError with the reason when it doesn't."""
    from fleetd.adapters.bus.client import give_order

    return give_order(command)


@dataclass(frozen=True)
class Reach:
    """How the outside is reached; tests put something else here."""

    fetch: Callable[[float], str] = fetch_from_bus
    order: Callable[[Command], str] = order_over_bus
    run: postmortem.Run = postmortem.run
    sleep: Callable[[float], None] = field(default=time.sleep)


def reach_of(context: click.Context) -> Reach:
    return context.obj if isinstance(context.obj, Reach) else Reach()


def read_status(text: str) -> Status:
    """The answer as a value. Unknown fields of a newer fleetd are passed over; anything else raises AnswerError."""
    try:
        return msgspec.json.decode(text, type=Status)
    except msgspec.ValidationError as error:
        raise AnswerError(
            f"{_said_by(text)} answers in a form that this fleetctl {__version__} does not know ({error}). "
            "If fleetd was upgraded or downgraded, run what is installed: systemctl restart fleetd (workers keep "
            f"running).{_summary(text)}"
        ) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise AnswerError(
            "What answered as org.fleetd1 did not send JSON, so it is not fleetd or it is broken: see "
            "journalctl -u fleetd, then systemctl restart fleetd (workers keep running)."
        ) from None


def loose(text: str) -> dict[str, object]:
    """Whatever fields an answer has that isn't a Status."""
    try:
        answer = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _said_by(text: str) -> str:
    version = loose(text).get("version")
    return f"fleetd {version[:40]}" if isinstance(version, str) else "fleetd"


def _summary(text: str) -> str:
    """The one sentence that is in every version's answer, if it is."""
    summary = loose(text).get("summary")
    return f" It says: {summary[:300]}" if isinstance(summary, str) and summary else ""


def exit_code(found: postmortem.Postmortem) -> int:
    return EXIT_ERROR if found.running else EXIT_NOT_RUNNING


def tell_json(reach: Reach, document: Callable[[str, Status], str]) -> int:
    """Standard output gets exactly one JSON document, made of fleetd's answer, or of why there is none."""
    try:
        answer = reach.fetch(ANSWER_SECONDS_MAX)
        answer = document(answer, read_status(answer))
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), reach.run)
        write_json(msgspec.json.encode(found).decode())
        return exit_code(found)
    except FleetdError as error:
        write_json(json.dumps({"error": str(error)}))
        return EXIT_ERROR
    write_json(answer)
    return 0


def write_json(document: str) -> None:
    """Control characters of the 8-bit kind as JSON's own escapes: the same document, but none steers a terminal."""
    safe = re.sub(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda m: f"\\u{ord(m[0]):04x}", document.strip())
    sys.stdout.flush()
    sys.stdout.buffer.write(safe.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
