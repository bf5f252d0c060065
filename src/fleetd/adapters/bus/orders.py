"""People's orders on the wire: each Order is a method of org.fleetd1.Manager, its fields are the arguments.

Only the types are checked here. Whether an order makes sense (is there such a profile? is that a length of time?) is
for the order itself, which knows what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from fleetd.core.instances.orders import Order
from fleetd.core.model.identity import NUMBER_MAX, InstanceKey, key_of, key_text
from fleetd.core.sharing.orders.to_fleet import ORDERS as ALL_ORDERS
from fleetd.errors import FleetdError
from fleetd.words.plain import plain

#: `instances` of a SetInstances that means: as many as its queues need.
AUTO: Final = -1
_LOGGED_CHARACTERS_MAX = 200

#: Method to the order that it gives.
ORDERS: Final[dict[str, type[Order]]] = {order.__name__: order for order in ALL_ORDERS}


class BadOrderError(FleetdError):
    """Arguments that are no order, whatever the configuration says."""


class _Wire(NamedTuple):
    """How a field's type travels: its D-Bus type, and both ways."""

    kind: str
    sent: Callable[[Any], object]
    received: Callable[[Any], object]


def _key_received(text: str) -> InstanceKey:
    key = key_of(text)
    if key is None:
        raise BadOrderError(f"{_printable(text)} is no instance: a number of 1 to {NUMBER_MAX}, or scheduler")
    return key


_WIRES: Final[dict[Any, _Wire]] = {
    float: _Wire("d", float, float),
    str: _Wire("s", str, str),
    bool: _Wire("b", bool, bool),
    InstanceKey: _Wire("s", key_text, _key_received),
    int | None: _Wire(
        "i", lambda count: AUTO if count is None else count, lambda count: None if count == AUTO else count
    ),
}


def arguments_of(method: str) -> tuple[tuple[str, str], ...]:
    """The arguments of a method of ORDERS: name and D-Bus type."""
    return tuple((field.name, _WIRES[field.type].kind) for field in msgspec.structs.fields(ORDERS[method]))


def signature_of(method: str) -> str:
    return "".join(kind for _, kind in arguments_of(method))


def call_of(order: Order) -> tuple[str, tuple[object, ...]]:
    """The method and the arguments that carry `order`."""
    fields = msgspec.structs.fields(order)
    return type(order).__name__, tuple(_WIRES[f.type].sent(getattr(order, f.name)) for f in fields)


def order_of(method: str, arguments: list[Any]) -> Order:
    """The order that a call of `method` (of ORDERS, arguments of its signature) gives; raises BadOrderError."""
    fields = msgspec.structs.fields(ORDERS[method])
    return ORDERS[method](**{f.name: _WIRES[f.type].received(a) for f, a in zip(fields, arguments, strict=True)})


def described(order: Order) -> str:
    """The order in a few words, for the log: `Pause for_seconds 3600 reason disk swap`."""
    method, arguments = call_of(order)
    words = [method]
    for (name, _), value in zip(arguments_of(method), arguments, strict=True):
        if value is not False and (value not in ("", 0.0) or isinstance(value, int)):
            words.append(f"{name} {_printable(f'{value:g}' if isinstance(value, float) else str(value))}")
    return " ".join(words)


def _printable(text: str) -> str:
    """What anybody may have typed, as it may stand in a log."""
    text = text if len(text) <= _LOGGED_CHARACTERS_MAX else text[:_LOGGED_CHARACTERS_MAX] + "..."
    return plain(text) or "''"
