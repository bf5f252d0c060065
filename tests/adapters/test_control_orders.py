"""People's orders over org.fleetd1: they arrive as they were given, from those who may, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.bus import BusCallError, Connection
from fleetd.adapters.control_client import _client_error, give_order
from fleetd.adapters.control_orders import (
    INSTANCES_MAX,
    ORDERS,
    BadOrderError,
    call_of,
    command_of,
    described,
    signature_of,
)
from fleetd.core.commands import (
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
from fleetd.errors import FleetdError, SourceUnavailableError
from tests.adapters.control_story import ADMINS, Daemon, busctl, call, play
from tests.adapters.private_bus import PrivateBus, private_bus

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="orders need root, and strangers need another user")

MANAGER = ("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager")
PAUSE = ("call", *MANAGER, "Pause", "ds", "3600", "disk swap")
EXAMPLES: list[Command] = [
    Pause(for_seconds=7200.0, reason="disk swap – back at 3"),
    Pause(),
    Resume(),
    SetInstances(profile="default-first", instances=0, for_seconds=1.5),
    SetInstances(profile="pull", instances=INSTANCES_MAX),
    SetInstances(profile="pull", instances=None),
    PinInstance(number=3, for_seconds=ORDER_SECONDS_MAX),
    PinInstance(number="scheduler"),
    ReleaseInstance(number=9999),
    ReleaseInstance(number="scheduler"),
    DrainInstance(number=1),
    Restart(),
    Restart(profile="default-first"),
]


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as bus:
        yield bus


@as_root
def test_every_order_arrives_as_it_was_given_and_is_answered(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        for command in EXAMPLES:
            answer = await asyncio.to_thread(give_order, command, bus_address=bus.address)
            assert answer == "it is done – ünïcode too"
        assert daemon.orders == EXAMPLES

    play(bus, story)


def test_every_kind_of_order_has_a_method() -> None:
    assert {type(command) for command in EXAMPLES} == set(get_args(Command))
    assert {call_of(command)[0] for command in EXAMPLES} == set(ORDERS)


@as_root
def test_a_refusal_is_told_in_the_words_of_the_daemon(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        daemon.refusal = "there is no instance 12: the configuration names 1-6"
        with pytest.raises(FleetdError, match=f"^{daemon.refusal}$") as refused:
            await asyncio.to_thread(give_order, DrainInstance(number=12), bus_address=bus.address)
        assert not isinstance(refused.value, SourceUnavailableError)
        daemon.refusal = "bug"
        with pytest.raises(FleetdError, match="its journal says why") as bug:
            await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        assert "secret" not in str(bug.value)

    play(bus, story)


@as_root
def test_only_root_and_the_admin_group_give_orders(bus: PrivateBus) -> None:
    admins = grp.getgrnam(ADMINS).gr_gid

    async def story(daemon: Daemon) -> None:
        assert "Access denied" in await busctl(bus, *PAUSE, groups=[])
        for method in ORDERS:
            values = {"d": "1", "s": "3", "u": "1"}
            given = [values[kind] for kind in signature_of(method)]
            orders = [signature_of(method), *given] if given else []
            said = await busctl(bus, "call", *MANAGER, method, *orders, groups=[])
            assert "Access denied" in said, method
        assert daemon.orders == []
        assert 's "it is done' in await busctl(bus, *PAUSE, groups=[admins])
        assert daemon.orders == [Pause(for_seconds=3600.0, reason="disk swap")]

    play(bus, story)


@as_root
def test_the_log_says_who_ordered_what_and_how_it_went(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        with structlog.testing.capture_logs() as lines:
            await busctl(bus, *PAUSE)
            daemon.refusal = "no profile is called x"
            await busctl(bus, "call", *MANAGER, "SetInstances", "sud", "x", "4", "0")
        assert [line["event"] for line in lines] == [
            "ordered by uid 0: Pause for 3600 s reason disk swap — it is done – ünïcode too",
            "ordered by uid 0: SetInstances profile x instances 4 — refused: no profile is called x",
        ]

    play(bus, story)


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("Pause", (math.nan, ""), "nan seconds is no length of time"),
        ("Pause", (math.inf, ""), "inf seconds is no length of time"),
        ("Pause", (-1.0, ""), "-1 seconds is no length of time"),
        ("Pause", (ORDER_SECONDS_MAX + 1, ""), "longer than 7 days"),
        ("Pause", (0.0, "x" * 201), "has 201 characters and may have 200"),
        ("Pause", (0.0, "\x1b[2J"), "can't be printed"),
        ("Pause", (0.0, "\u202egpj"), "can't be printed"),
        ("SetInstances", ("", 1, 0.0), "which profile"),
        ("SetInstances", ("x" * 1000, 1, 0.0), "is no profile's name"),
        ("SetInstances", ("a\nb", 1, 0.0), "is no profile's name"),
        ("SetInstances", ("a", 4_000_000_000, 0.0), "more than 9999"),
        ("SetAuto", ("",), "which profile"),
        ("Pin", ("0", 0.0), "'0' is no instance"),
        ("Pin", ("03", 0.0), "'03' is no instance"),
        ("Pin", ("³", 0.0), "is no instance"),
        ("Pin", ("3", math.nan), "no length of time"),
        ("Pin", ("-3", 0.0), "is no instance"),
        ("Pin", ("12345", 0.0), "is no instance"),
        ("Pin", ("", 0.0), "'' is no instance"),
        ("Release", ("9" * 100_000,), "is no instance"),
        ("Drain", ("scheduler", 0.0), "fleetctl restart replaces"),
        ("Restart", ("\x00",), "is no profile's name"),
    ],
)
def test_garbage_is_refused_with_a_sentence(method: str, arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(BadOrderError, match=words) as refused:
        command_of(method, list(arguments))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@as_root
def test_garbage_on_the_bus_reaches_nobody(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        for arguments in (("ds", math.nan, ""), ("ds", 1e9, ""), ("s", "x"), ("dsd", 1.0, "", 1.0), ()):
            with pytest.raises(BusCallError) as refused:
                await call(bus, *MANAGER[1:], "Pause", *arguments)
            assert refused.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
        assert daemon.orders == []
        await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        assert daemon.orders == [Resume()]

    play(bus, story)


def test_busctl_shows_every_order_with_its_arguments(bus: PrivateBus) -> None:
    async def story(_: Daemon) -> None:
        shown = [line.split() for line in (await busctl(bus, "introspect", *MANAGER)).splitlines()]
        for method in ORDERS:
            assert [f".{method}", "method", signature_of(method) or "-", "s"] in [row[:4] for row in shown]

    play(bus, story)


def test_a_daemon_that_knows_no_orders_is_an_old_one(bus: PrivateBus) -> None:
    async def story() -> None:
        older = await Connection.open(bus.address)
        try:
            await older.call_bus("RequestName", "su", "org.fleetd1", 4)
            with pytest.raises(FleetdError, match=r"does not know this order.*systemctl restart fleetd"):
                await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        finally:
            older.close()

    asyncio.run(asyncio.wait_for(story(), 90))


def test_a_stranger_is_told_what_would_help() -> None:
    said = 'Rejected send message, 1 matched rules; type="method_call", sender=":1.7" (uid=65534 pid=7 ...)'
    error = _client_error(BusCallError("org.freedesktop.DBus.Error.AccessDenied", said))
    assert str(error) == "only root and members of the group fleetd may do this: try sudo"


def test_the_bus_policy_lets_strangers_read_only() -> None:
    policy = (Path(__file__).parents[2] / "units/org.fleetd1.conf").read_text()
    strangers = policy.split('<policy context="default">')[1].split("</policy>")[0]
    assert '<deny send_destination="org.fleetd1"/>' in strangers
    assert 'send_member="Status"' in strangers
    assert not any(f'"{method}"' in strangers for method in ORDERS)
    assert '<allow send_destination="org.fleetd1"/>' not in strangers


NUMBERS: st.SearchStrategy[Number] = st.integers(1, 9999) | st.just("scheduler")
LENGTHS = st.floats(0, ORDER_SECONDS_MAX)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
REASONS = st.text(max_size=REASON_CHARACTERS_MAX).filter(str.isprintable).map(lambda t: " ".join(t.split()))


@given(
    st.builds(Pause, for_seconds=LENGTHS, reason=REASONS)
    | st.builds(SetInstances, profile=NAMES, instances=st.integers(0, INSTANCES_MAX), for_seconds=LENGTHS)
    | st.builds(SetInstances, profile=NAMES, instances=st.none())
    | st.builds(PinInstance, number=NUMBERS, for_seconds=LENGTHS)
    | st.builds(ReleaseInstance, number=NUMBERS)
    | st.builds(DrainInstance, number=st.integers(1, 9999), for_seconds=LENGTHS)
    | st.builds(Restart, profile=NAMES | st.just(""))
)
def test_there_and_back(command: Command) -> None:
    method, arguments = unpacked(command)
    assert len(arguments) == len(signature_of(method))
    assert command_of(method, arguments) == command
    assert described(command).isprintable()


@given(st.sampled_from(sorted(ORDERS)), st.data())
def test_whatever_arrives_is_an_order_or_a_sentence(method: str, data: st.DataObject) -> None:
    kinds = {"d": st.floats(), "s": st.text(), "u": st.integers(0, 2**32 - 1)}
    arguments = [data.draw(kinds[kind]) for kind in signature_of(method)]
    with contextlib.suppress(BadOrderError):
        command = command_of(method, arguments)
        assert 0 <= getattr(command, "for_seconds", 0.0) <= ORDER_SECONDS_MAX
        assert len(getattr(command, "reason", "")) <= REASON_CHARACTERS_MAX
        assert command_of(*unpacked(command)) == command


def unpacked(command: Command) -> tuple[str, list[object]]:
    method, arguments = call_of(command)
    return method, list(arguments)
