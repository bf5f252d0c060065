"""People's orders to a fleet, as the ledger keeps them: pauses, hosts in maintenance, counts of a profile, restarts.

Law 6: every host obeys what it heard last, also while Redis is away. Law 7: each order ends by itself, by the fleet
clock and on each host by its own, whichever says so first. What can't be read, because no fleetd wrote it, is no order.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, structs

from fleetd.core.fleet.calls import BeatReply
from fleetd.core.fleet.view import FleetKnown, FleetView
from fleetd.core.model.bounds import impossible_in
from fleetd.core.model.facts import Value
from fleetd.core.model.person import Person

#: No order lasts longer than a week.
ORDER_SECONDS_MAX = 7 * 86400.0
#: A restart is begun by hosts that hear of it within this time. What has begun goes on.
RESTART_SECONDS = 86400.0
NOTE_CHARACTERS_MAX = 200

_PAUSE, _MAINTENANCE, _SET, _RESTART = "pause", "maintenance", "set", "restart"
_KINDS = (_PAUSE, _MAINTENANCE, _SET, _RESTART)


class FleetOrder(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A person's order to the fleet or to one of its hosts.

    `force`: also if no other host serves (maintenance). `instances`: of a set. `profile`: of a restart; "": of all. A
    restart is known by its end, which RESTART_SECONDS after it was ordered is no other's.
    """

    until_ms: Annotated[int, Meta(ge=0, le=2**53)]  # by the fleet clock
    note: Annotated[str, Meta(max_length=NOTE_CHARACTERS_MAX)] | None = None  # what the person wrote
    person: Person | None = None
    force: bool = False
    instances: Annotated[int, Meta(ge=0, le=2**20)] | None = None
    profile: Annotated[str, Meta(max_length=64)] = ""


class OrderHeard(Value, frozen=True, kw_only=True):
    """An order in force, and how long it still holds."""

    order: FleetOrder
    left_seconds: float


def about_pause(host: str = "") -> str:
    """The name under which the ledger keeps a pause; "": of the whole fleet."""
    return f"{_PAUSE} {host}" if host else _PAUSE


def about_maintenance(host: str) -> str:
    return f"{_MAINTENANCE} {host}"


def about_set(profile: str, host: str = "") -> str:
    """The name of a count for a profile; "": of all hosts together."""
    return f"{_SET} {profile} {host}".rstrip()


def about_restart(host: str = "") -> str:
    """The name of a restart; "": of all hosts."""
    return f"{_RESTART} {host}".rstrip()


def written(order: FleetOrder) -> str:
    return msgspec.json.encode(order).decode()


def read(text: str) -> FleetOrder | None:
    """None: no fleetd wrote it."""
    try:
        order = msgspec.json.decode(text, type=FleetOrder)
        if impossible_in(msgspec.json.decode(text)) is not None:
            return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None
    names = () if order.person is None else (order.person.user, order.person.login)
    shown = [order.note or "", order.profile, *names]  # to people, as it is
    return order if all(text.isprintable() and len(text) <= NOTE_CHARACTERS_MAX for text in shown) else None


def timed(known: FleetKnown, before: FleetKnown, boot_id: str, now_seconds: float) -> FleetKnown:
    """With the time at which each order is over by this host's own clock, counted from when it was first heard.

    `before`: what was known before this reading. Another boot's times mean nothing, so they are counted anew.
    """
    same = before.orders_boot_id == boot_id
    until: dict[str, float] = {}
    for about, text in known.orders.items():
        order = read(text)
        if same and before.orders.get(about) == text and about in before.orders_until:
            until[about] = before.orders_until[about]
        elif order is not None:
            left = max(0.0, (order.until_ms - known.clock_ms) / 1000)
            until[about] = now_seconds + min(left, ORDER_SECONDS_MAX)
    if until == known.orders_until and known.orders_boot_id == boot_id:
        return known
    return structs.replace(known, orders_until=until, orders_boot_id=boot_id)


def lost(before: FleetKnown, reply: BeatReply) -> dict[str, str]:
    """Orders that this host knows and a ledger that was lost does not, to be told to it again.

    Only while it gathers: who was away meanwhile does not know what people have ended since.
    """
    if reply.gathering is None or reply.orders is None or reply.generation != before.generation + 1:
        return {}
    kept = ((about, read(text)) for about, text in before.orders.items() if about not in reply.orders)
    return {a: before.orders[a] for a, order in kept if order is not None and order.until_ms > reply.clock_ms}


def pause_of(view: FleetView, host: str, now_seconds: float) -> tuple[OrderHeard, bool] | None:
    """The pause that holds this host, and whether it is one of the whole fleet. None: neither holds."""
    for about in (about_pause(), about_pause(host)):
        heard = _heard(view, about, now_seconds)
        if heard is not None:
            return heard, about == about_pause()
    return None


def maintenance_of(view: FleetView, host: str, now_seconds: float) -> OrderHeard | None:
    """The order that has this host in maintenance; None: it is not."""
    return _heard(view, about_maintenance(host), now_seconds)


def in_maintenance(view: FleetView, now_seconds: float) -> dict[str, OrderHeard]:
    """Every host that is in maintenance."""
    names = [about.removeprefix(f"{_MAINTENANCE} ") for about in view.known.orders if about.startswith(_MAINTENANCE)]
    found = {name: maintenance_of(view, name, now_seconds) for name in sorted(names)}
    return {name: heard for name, heard in found.items() if heard is not None}


def set_heard(view: FleetView, profile: str, host: str, now_seconds: float) -> OrderHeard | None:
    """The count that a person wants of a profile on a host; host "": on all of them together. None: no such order."""
    heard = _heard(view, about_set(profile, host), now_seconds)
    return heard if heard is not None and heard.order.instances is not None else None


def sets_of_fleet(view: FleetView, now_seconds: float) -> dict[str, OrderHeard]:
    """By profile, as whoever ordered calls it: what people want of it on all hosts together."""
    subjects = map(subject_of, view.known.orders)
    names = sorted(profile for kind, host, profile in subjects if kind == _SET and not host)
    found = {name: set_heard(view, name, "", now_seconds) for name in names}
    return {name: heard for name, heard in found.items() if heard is not None}


def restarts_heard(view: FleetView, host: str, now_seconds: float) -> dict[str, OrderHeard]:
    """By its name: the restarts that concern this host."""
    found = {about: _heard(view, about, now_seconds) for about in (about_restart(), about_restart(host))}
    return {about: heard for about, heard in found.items() if heard is not None}


def subject_of(about: str) -> tuple[str, str, str]:
    """What an order is about: its kind, the host ("": all) and the profile ("": of all, or of none)."""
    kind, _, rest = about.partition(" ")
    if kind != _SET:
        return kind, rest, ""
    profile, _, host = rest.partition(" ")
    return kind, host, profile


def _heard(view: FleetView, about: str, now_seconds: float) -> OrderHeard | None:
    known = view.known
    if not view.shared or about not in known.orders:
        return None
    order = read(known.orders[about])
    if order is None:
        return None
    left = known.orders_until.get(about, now_seconds + ORDER_SECONDS_MAX) - now_seconds
    if isinstance(view.reply, BeatReply):
        left = min(left, (order.until_ms - view.reply.clock_ms) / 1000)
    return OrderHeard(order=order, left_seconds=left) if left > 0.0 else None


class KeptOrder(Value, frozen=True, kw_only=True):
    """An order as the ledger keeps it. `host`: "": of the whole fleet. `profile`: "": of all, or of none."""

    about: str
    kind: str
    host: str
    profile: str
    order: FleetOrder


def kept_orders(orders: dict[str, str], clock_ms: int) -> tuple[KeptOrder, ...]:
    """Those that are not over yet."""
    found = []
    for about, text in sorted(orders.items()):
        kind, host, profile = subject_of(about)
        order = read(text) if kind in _KINDS else None
        if order is None or order.until_ms <= clock_ms or (kind == _SET and order.instances is None):
            continue
        found.append(KeptOrder(about=about, kind=kind, host=host, profile=profile or order.profile, order=order))
    return tuple(found)


def over(orders: dict[str, str], clock_ms: int) -> tuple[str, ...]:
    """What those orders are about that are over. Of what is no order, or a later fleetd's, nothing is said."""
    ours = ((about, read(text)) for about, text in sorted(orders.items()) if subject_of(about)[0] in _KINDS)
    return tuple(about for about, order in ours if order is not None and order.until_ms <= clock_ms)


def abouts_of(host: str, orders: dict[str, str]) -> tuple[str, ...]:
    """Under which names orders about this host are kept."""
    return tuple(about for about in sorted(orders) if subject_of(about)[1] == host)
