"""Who gave an order: what the bus and logind say of the caller, and what is said where they don't know."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable

import pytest
from dbus_next.message import Message
from dbus_next.signature import Variant

from fleetd.adapters.bus.caller import Caller, person_of
from fleetd.adapters.bus.client import give_order
from fleetd.adapters.bus.connection import Connection
from fleetd.adapters.bus.incoming import Call
from fleetd.core.instances.orders import Resume
from fleetd.core.model.person import Person
from fleetd.words.formatting import who
from tests.support.rig.bus_daemon import NOBODY, BusDaemon, with_daemon
from tests.support.rig.private_bus import PrivateBus

ALICE = 1000
USER = "/org/freedesktop/login1/user/_1000"


async def with_logind(
    bus: PrivateBus, logins: dict[int, tuple[int, str]], scenario: Callable[[], Awaitable[None]]
) -> None:
    """Runs `scenario` beside a logind that knows these logins: pid to uid and name. An empty name: it never answers."""
    asked = (0, "")

    def answer(call: Call) -> Message | None:
        nonlocal asked
        if call.header.member == "GetUserByPID":
            [pid] = call.arguments()
            if pid not in logins:
                return call.refusal("org.freedesktop.login1.NoUserForPID", f"PID {pid} does not belong to any user")
            asked = logins[pid]
            return call.answer("o", USER) if asked[1] else None
        _, name = call.arguments()
        return call.answer("v", Variant("u", asked[0]) if name == "UID" else Variant("s", asked[1]))

    logind = await Connection.open(bus.address, on_call=answer)
    try:
        await logind.call_bus("RequestName", "su", "org.freedesktop.login1", 0)
        await scenario()
    finally:
        logind.close()


@pytest.mark.parametrize(
    ("uid", "login", "person", "said"),
    [
        (0, (ALICE, "alice"), Person(user="root", login="alice"), "root (sudo alice)"),
        (0, (0, "root"), Person(user="root"), "root"),
        (ALICE, (ALICE, "alice"), Person(user="alice"), "alice"),
        (NOBODY, (ALICE, "alice"), Person(user="nobody", login="alice"), "nobody (sudo alice)"),
        (0, (ALICE, "al\x1b[2J"), Person(user="root", login="al\\x1b[2J"), "root (sudo al\\x1b[2J)"),
        (0, None, Person(user="root"), "root"),
        (0, (ALICE, ""), Person(user="root"), "root"),
    ],
    ids=["sudo", "root's login", "alice", "sudo -u", "control characters", "cron", "no answer"],
)
def test_the_login_behind_a_caller(
    bus: PrivateBus, uid: int, login: tuple[int, str] | None, person: Person, said: str
) -> None:
    async def scenario() -> None:
        found = await person_of(Caller(uid, 4711), bus.address)
        assert found == person
        assert who(found) == said

    asyncio.run(asyncio.wait_for(with_logind(bus, {4711: login} if login else {}, scenario), 60))


def test_without_logind_the_user_is_known(bus: PrivateBus) -> None:
    async def people() -> list[Person]:
        nameless = next(uid for uid in range(60_000, 61_000) if not _is_there(uid))
        return [await person_of(Caller(uid, 1), bus.address) for uid in (0, NOBODY, nameless)]

    found = asyncio.run(people())
    assert [person.user for person in found[:2]] == ["root", "nobody"]
    assert found[2].user.startswith("uid 60")
    assert [person.login for person in found] == ["", "", ""]


def _is_there(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@pytest.mark.skipif(os.geteuid() != 0, reason="orders need root")
def test_an_order_comes_with_the_person_behind_its_own_process(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        async def give() -> None:
            await asyncio.to_thread(give_order, Resume(), bus_address=bus.address)

        await with_logind(bus, {os.getpid(): (ALICE, "alice")}, give)
        assert daemon.people == [Person(user="root", login="alice")]

    with_daemon(bus, scenario)
