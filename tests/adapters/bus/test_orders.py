"""People's orders over org.fleetd1: they arrive exactly as given, from those who may give them, or not at all."""

from __future__ import annotations

import asyncio
import grp
import os

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.bus.client import _client_error, give_order
from fleetd.adapters.bus.connection import BusCallError, Connection
from fleetd.adapters.bus.orders import ORDERS, BadOrderError, call_of, described, order_of, signature_of
from fleetd.core.fleet.orders import ORDER_SECONDS_MAX
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
    Situation,
)
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.sharing.orders.counts import SetHost
from fleetd.core.sharing.orders.restarts import RestartHost
from fleetd.core.sharing.orders.to_fleet import EndMaintenance, ForgetHost, Maintenance, PauseHost, ResumeHost
from fleetd.errors import FleetdError, OrderRefusedError, SourceUnavailableError
from fleetd.words.reasons import sentence
from tests.support.builders.readings import fleet, sidekiq, snapshot, tick_of
from tests.support.project import PROJECT
from tests.support.rig.bus_daemon import ADMINS, BusDaemon, busctl, call, with_daemon
from tests.support.rig.private_bus import PrivateBus
from tests.support.world.ports import policy

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="orders need root, and strangers need another user")

MANAGER = ("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager")
PAUSE = ("call", *MANAGER, "Pause", "ds", "3600", "disk swap")
EXAMPLES: list[Order] = [
    Pause(for_seconds=7200.0, reason="disk swap – back at 3"),
    Pause(),
    Resume(),
    SetInstances(profile="default-first", instances=0, for_seconds=1.5),
    SetInstances(profile="pull", instances=9999),
    SetInstances(profile="pull", instances=None),
    PinInstance(key=InstanceKey(3), for_seconds=ORDER_SECONDS_MAX),
    PinInstance(key=SCHEDULER),
    ReleaseInstance(key=InstanceKey(9999)),
    ReleaseInstance(key=SCHEDULER),
    DrainInstance(key=InstanceKey(1)),
    Restart(),
    Restart(profile="default-first"),
    PauseHost(host="w2", for_seconds=60.0, reason="a look"),
    ResumeHost(host="w2"),
    Maintenance(host="w2", for_seconds=60.0, reason="new kernel", force=True),
    EndMaintenance(host="w2"),
    ForgetHost(host="w2"),
    SetHost(host="w2", profile="pull", instances=3, for_seconds=60.0),
    RestartHost(host="w2", profile="pull"),
]


@as_root
def test_every_order_arrives_as_it_was_given_and_is_answered(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        for order in EXAMPLES:
            answer = await asyncio.to_thread(give_order, order, bus_address=bus.address)
            assert answer == "it is done – ünïcode too"
        assert daemon.orders == EXAMPLES

    with_daemon(bus, scenario)


def test_every_kind_of_order_has_a_method() -> None:
    assert {type(order) for order in EXAMPLES} == set(ORDERS.values())
    assert {call_of(order)[0] for order in EXAMPLES} == set(ORDERS)


@as_root
def test_a_refusal_has_the_daemons_own_sentence(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        daemon.refusal = "there is no instance 12: the configuration names 1-6"
        with pytest.raises(FleetdError, match=f"^{daemon.refusal}$") as refused:
            await asyncio.to_thread(give_order, DrainInstance(key=InstanceKey(12)), bus_address=bus.address)
        assert not isinstance(refused.value, SourceUnavailableError)
        daemon.refusal = "bug"
        with pytest.raises(FleetdError, match="its journal says why") as bug:
            await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        assert "secret" not in str(bug.value)

    with_daemon(bus, scenario)


@as_root
def test_only_root_and_the_admin_group_give_orders(bus: PrivateBus) -> None:
    admins = grp.getgrnam(ADMINS).gr_gid

    async def scenario(daemon: BusDaemon) -> None:
        assert "Access denied" in await busctl(bus, *PAUSE, groups=[])
        for method in ORDERS:
            values = {"d": "1", "s": "3", "i": "1", "b": "true"}
            given = [values[kind] for kind in signature_of(method)]
            orders = [signature_of(method), *given] if given else []
            said = await busctl(bus, "call", *MANAGER, method, *orders, groups=[])
            assert "Access denied" in said, method
        assert daemon.orders == []
        assert 's "it is done' in await busctl(bus, *PAUSE, groups=[admins])
        assert daemon.orders == [Pause(for_seconds=3600.0, reason="disk swap")]

    with_daemon(bus, scenario)


@as_root
def test_the_log_says_who_ordered_what_and_the_outcome(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        with structlog.testing.capture_logs() as lines:
            await busctl(bus, *PAUSE)
            daemon.refusal = "no profile is called x"
            await busctl(bus, "call", *MANAGER, "SetInstances", "sid", "x", "4", "0")
        assert [line["event"] for line in lines] == [
            "ordered by root: Pause for_seconds 3600 reason disk swap — it is done – ünïcode too",
            "ordered by root: SetInstances profile x instances 4 — refused: no profile is called x",
        ]

    with_daemon(bus, scenario)


@pytest.mark.parametrize("text", ["0", "03", "³", "-3", "12345", "", "mastodon-sidekiq@3", "9" * 100_000, "\x1b[2J"])
def test_a_name_that_is_no_instance_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadOrderError, match="is no instance: a number of 1 to 9999, or scheduler") as refused:
        order_of("ReleaseInstance", [text])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


@as_root
def test_garbage_on_the_bus_never_reaches_the_daemon(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        for arguments in (("s", "x"), ("dsd", 1.0, "", 1.0), ("ss", "1", ""), ()):
            with pytest.raises(BusCallError) as refused:
                await call(bus, *MANAGER[1:], "Pause", *arguments)
            assert refused.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
        assert daemon.orders == []
        await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        assert daemon.orders == [Resume()]

    with_daemon(bus, scenario)


def test_busctl_shows_every_order_with_its_arguments(bus: PrivateBus) -> None:
    async def scenario(_: BusDaemon) -> None:
        shown = [line.split() for line in (await busctl(bus, "introspect", *MANAGER)).splitlines()]
        for method in ORDERS:
            assert [f".{method}", "method", signature_of(method) or "-", "s"] in [row[:4] for row in shown]

    with_daemon(bus, scenario)


def test_a_daemon_without_orders_is_taken_for_an_old_version(bus: PrivateBus) -> None:
    async def scenario() -> None:
        older = await Connection.open(bus.address)
        try:
            await older.call_bus("RequestName", "su", "org.fleetd1", 4)
            with pytest.raises(FleetdError, match=r"does not know this order.*systemctl restart fleetd"):
                await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)
        finally:
            older.close()

    asyncio.run(asyncio.wait_for(scenario(), 90))


def test_a_user_without_rights_is_told_what_would_help() -> None:
    said = 'Rejected send message, 1 matched rules; type="method_call", sender=":1.7" (uid=65534 pid=7 ...)'
    error = _client_error(BusCallError("org.freedesktop.DBus.Error.AccessDenied", said))
    assert str(error) == "only root and members of the group fleetd may do this: try sudo"


def test_the_bus_policy_lets_other_users_only_read() -> None:
    policy = (PROJECT / "units/org.fleetd1.conf").read_text()
    strangers = policy.split('<policy context="default">')[1].split("</policy>")[0]
    assert '<deny send_destination="org.fleetd1"/>' in strangers
    assert 'send_member="Status"' in strangers
    assert not any(f'"{method}"' in strangers for method in ORDERS)
    assert '<allow send_destination="org.fleetd1"/>' not in strangers


KINDS: dict[str, st.SearchStrategy[object]] = {
    "d": st.floats(),
    "s": st.text() | st.sampled_from(["3", "scheduler", "default-first", ""]),
    "b": st.booleans(),
    "i": st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 7),
}


@given(st.sampled_from(sorted(ORDERS)), st.data())
def test_whatever_arrives_is_obeyed_or_refused_with_a_printable_sentence(method: str, data: st.DataObject) -> None:
    arguments = [data.draw(KINDS[kind]) for kind in signature_of(method)]
    units, beats = fleet(3)
    rules = policy()
    memory = HostMemory(boot_id="boot-1")
    tick = tick_of(rules, snapshot(rules, redis=sidekiq(processes=beats), units=units), memory)
    try:
        order = order_of(method, arguments)
        assert described(order).isprintable()
        assert repr(order_of(*unpacked(order))) == repr(order), "there and back"  # as text, because nan != nan
        _, reply = order.obey(Situation(tick, memory, tick.now_seconds))
        answer = sentence(reply)
    except (BadOrderError, OrderRefusedError) as refused:
        answer = str(refused)
    assert answer.isprintable()
    assert len(answer) < 600


def unpacked(order: Order) -> tuple[str, list[object]]:
    method, arguments = call_of(order)
    return method, list(arguments)
