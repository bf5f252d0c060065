"""How fleetctl reaches fleetd: the status and orders over the bus, and the exit statuses that follow.

When fleetd does not answer, systemd and the journal are asked instead (advice/postmortem.py).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
import msgspec

from fleetd import __version__
from fleetd.cli.advice import postmortem
from fleetd.core.instances.orders import Order
from fleetd.core.model.bounds import impossible_in
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError
from fleetd.words.plain import is_plain

#: On a machine that is out of CPU, which is when people ask, the bus and Python alone may need seconds.
ANSWER_SECONDS_MAX = 10.0
#: Redis is read for it.
FLEET_SECONDS_MAX = 10.0
EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_INTERRUPTED = 1, 3, 130


class AnswerError(FleetdError):
    """fleetd answered, but this fleetctl does not understand the answer."""


def fetch_from_bus(timeout_seconds: float) -> str:
    """The status as JSON over the system bus; raises SourceUnavailableError when nobody answers."""
    from fleetd.adapters.bus.client import fetch_status

    return fetch_status(timeout_seconds)


def order_over_bus(order: Order) -> str:
    """Give fleetd an order; returns its answer, raises FleetdError with the reason when it refuses."""
    from fleetd.adapters.bus.client import give_order

    return give_order(order)


def hosts_over_bus(timeout_seconds: float) -> str:
    """Every host of the fleet as JSON over the system bus; raises SourceUnavailableError when nobody answers."""
    from fleetd.adapters.bus.client import fetch_hosts

    return fetch_hosts(timeout_seconds)


@dataclass(frozen=True)
class Client:
    """How fleetd, other programs and the clock are reached; tests replace them."""

    fetch: Callable[[float], str] = fetch_from_bus
    order: Callable[[Order], str] = order_over_bus
    hosts: Callable[[float], str] = hosts_over_bus
    run: postmortem.Run = postmortem.run
    sleep: Callable[[float], None] = time.sleep

    def status(self, timeout_seconds: float = ANSWER_SECONDS_MAX) -> Status:
        """fleetd's status. Raises SourceUnavailableError if it does not answer, AnswerError as read_status does."""
        return read_status(self.fetch(timeout_seconds))

    def fleet(self, timeout_seconds: float = FLEET_SECONDS_MAX) -> FleetHosts:
        """Every host of the fleet. Raises SourceUnavailableError if fleetd does not answer, FleetdError else."""
        return read_hosts(self.hosts(timeout_seconds))


def client_of(context: click.Context) -> Client:
    """The client that main() was given, else one that asks over the bus."""
    return context.obj if isinstance(context.obj, Client) else Client()


def read_status(text: str) -> Status:
    """Parses fleetd's answer; fields of a newer fleetd are ignored. Raises AnswerError if it is no status."""
    try:
        return _status_of(text)
    except msgspec.ValidationError as error:
        said = fields_of(text)
        version, summary = said.get("version"), said.get("summary")
        who = f"fleetd {version[:40]}" if isinstance(version, str) else "fleetd"
        its_summary = f" Its summary: {summary[:300]}" if isinstance(summary, str) and summary else ""
        raise AnswerError(
            f"{who} answers in a form that this fleetctl {__version__} does not know ({error}). After an upgrade or "
            f"downgrade, restart fleetd: systemctl restart fleetd (workers keep running).{its_summary}"
        ) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise AnswerError(
            "What answered as org.fleetd1 did not send JSON: it is not fleetd, or it is broken. See "
            "journalctl -u fleetd, then systemctl restart fleetd (workers keep running)."
        ) from None


def read_hosts(text: str) -> FleetHosts:
    """Parses fleetd's answer. Raises AnswerError if it is none."""
    try:
        fleet = msgspec.json.decode(text, type=FleetHosts)
        if impossible_in(msgspec.json.decode(text)) is not None:
            raise msgspec.ValidationError("not a number that fleetd writes")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise AnswerError(
            f"fleetd answers in a form that this fleetctl {__version__} does not know. After an upgrade or downgrade, "
            "restart fleetd: systemctl restart fleetd (workers keep running)."
        ) from None
    return fleet


def _status_of(text: str) -> Status:
    status = msgspec.json.decode(text, type=Status)
    where = impossible_in(msgspec.json.decode(text))
    if where is not None:
        raise msgspec.ValidationError(f"{where} is not a number that fleetd writes")
    return status


def fields_of(text: str) -> dict[str, object]:
    """The fields of an answer of any version; none if it is no JSON object."""
    try:
        answer = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def exit_code(found: postmortem.Postmortem) -> int:
    """As systemctl status has it: 3 if fleetd does not run."""
    return EXIT_ERROR if found.running else EXIT_NOT_RUNNING


def tell_json(client: Client, document: Callable[[str, Status], str]) -> int:
    """Write one JSON document, made from fleetd's answer or of why there is none; returns the exit status."""
    try:
        answer = client.fetch(ANSWER_SECONDS_MAX)
        answer = document(answer, read_status(answer))
    except SourceUnavailableError as error:
        found = postmortem.examine(str(error), client.run)
        write_json(msgspec.json.encode(found).decode())
        return exit_code(found)
    except FleetdError as error:
        write_json(json.dumps({"error": str(error)}))
        return EXIT_ERROR
    write_json(answer)
    return 0


def _escaped(character: str) -> str:
    """RFC 8259, section 7: UTF-16, so beyond U+FFFF a pair."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def write_json(document: str) -> None:
    """Write to standard output; what is not plain in its strings becomes JSON's own escapes."""
    safe = "".join(c if c == "\n" or is_plain(c) else _escaped(c) for c in document.strip())
    sys.stdout.flush()
    sys.stdout.buffer.write(safe.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
