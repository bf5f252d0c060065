"""Calls to systemd over the bus and signals from it; connects and subscribes again after either went away.

What was feared:
- A restart of dbus-daemon loses the connection, every match rule and the subscription.
- A daemon-reexec changes systemd's unique name and answers calls under way with NoReply.
- A call while nobody owns the name must fail, not wait for an activation that never comes.
- Another user may forge signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from dbus_next.message import Message

from fleetd.adapters.bus.connection import DBUS, NAME_HAS_NO_OWNER, BusCallError, BusLostError, Connection

SYSTEMD: Final = "org.freedesktop.systemd1"
POLKIT: Final = "org.freedesktop.PolicyKit1"
SYSTEMD_PATH: Final = "/org/freedesktop/systemd1"
MANAGER: Final = "org.freedesktop.systemd1.Manager"
SERVICE: Final = "org.freedesktop.systemd1.Service"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

_ATTEMPTS = 3  # a restart of the bus fails two: the connection is lost, then systemd is not on the bus yet
_POLKIT_STARTS_SECONDS = 2.0
_FOLLOWED_PATHS_MAX = 200  # dbus-daemon allows a connection 512 match rules

#: Errors while systemd re-executes itself or the bus has only just been restarted.
SYSTEMD_GONE: Final = frozenset(
    {
        NAME_HAS_NO_OWNER,
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NoReply",
        "org.freedesktop.DBus.Error.Disconnected",
    }
)

T = TypeVar("T")


class SystemdLink:
    """One connection for both.

    `on_signal` gets JobRemoved and Reloading of the manager and PropertiesChanged of the followed paths, once they are
    known to come from systemd. `on_new_systemd` is called when signals may have been missed.
    """

    def __init__(
        self,
        bus_address: str | None,
        *,
        on_signal: Callable[[Message], None],
        on_new_systemd: Callable[[], None],
        timeout_seconds: float,
    ) -> None:
        self._bus_address = bus_address
        self._on_signal = on_signal
        self._on_new_systemd = on_new_systemd
        self._timeout_seconds = timeout_seconds
        self._paths: tuple[str, ...] = ()
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._owner: str | None = None  # systemd's unique name on the bus; None: it is not there
        self._worth_asking = (
            asyncio.Event()
        )  # systemd came, or the bus was lost, so that only a new connection can tell
        self._subscribed = False

    @property
    def systemd_present(self) -> bool:
        """Whether systemd was on the bus as far as is known."""
        return self._owner is not None

    def follow(self, unit_paths: Iterable[str]) -> None:
        """Follow these units from the next call on; beyond 200, only by JobRemoved and full readings."""
        self._paths = tuple(unit_paths)[:_FOLLOWED_PATHS_MAX]
        self.drop()  # the match rules name the paths

    def drop(self) -> None:
        """Give up the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._owner_changed(None)

    async def asking(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask; ask again if systemd or the bus goes away meanwhile, three times at most.

        For questions only: an order must not be given twice. Waits for systemd to come back, so the caller sets the
        deadline. Raises BusLostError, BusCallError.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await question()
            except BusLostError:
                continue
            except BusCallError as error:
                if error.name not in SYSTEMD_GONE:
                    raise
                await self._worth_asking.wait()
        return await question()

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: object,
        reply_signature: str | None = None,
    ) -> list[Any]:
        """One call to systemd; raises as Connection.call does."""
        connection = await self._ready()
        return await connection.call(
            SYSTEMD,
            path,
            interface,
            member,
            signature,
            *body,
            reply_signature=reply_signature,
            timeout_seconds=self._timeout_seconds,
        )

    async def polkit_runs(self, *, start: bool) -> bool:
        """Whether polkit is there for systemd to ask; while it only starts, that is taken for granted.

        `start`: have the bus start it, as it does once it is asked. Each try that fails is a line in the journal.
        """
        connection = await self._ready()
        [owned] = await connection.call_bus("NameHasOwner", "s", POLKIT)
        if owned or not start:
            return bool(owned)
        try:
            async with asyncio.timeout(_POLKIT_STARTS_SECONDS):
                await connection.call_bus("StartServiceByName", "su", POLKIT, 0)
        except BusCallError:
            return False
        except TimeoutError:
            pass
        return True

    async def _ready(self) -> Connection:
        async with self._connecting:
            connection = self._connection
            if connection is None or not connection.connected:
                connection = await self._connect()
            if self._owner is None:
                raise BusCallError(NAME_HAS_NO_OWNER, "systemd is not on the bus")
            if not self._subscribed:
                await self._subscribe(connection)
            return connection

    async def _connect(self) -> Connection:
        self.drop()
        connection = await Connection.open(
            self._bus_address,
            on_signal=self._signal_came,
            trusts=lambda sender: sender in (DBUS, self._owner),  # anybody may send what looks like systemd's
            on_lost=self._worth_asking.set,
            timeout_seconds=self._timeout_seconds,
        )
        try:
            for rule in self._match_rules():
                await connection.call_bus("AddMatch", "s", rule)
            try:
                [owner] = await connection.call_bus("GetNameOwner", "s", SYSTEMD)
                self._owner_changed(owner)
            except BusCallError as error:
                if error.name != NAME_HAS_NO_OWNER:
                    raise
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _match_rules(self) -> list[str]:
        systemd = f"type='signal',sender='{SYSTEMD}'"
        return [
            f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'",
            f"{systemd},interface='{MANAGER}',member='JobRemoved'",
            f"{systemd},interface='{MANAGER}',member='Reloading'",
            *(f"{systemd},interface='{PROPERTIES}',member='PropertiesChanged',path='{path}'" for path in self._paths),
        ]

    async def _subscribe(self, connection: Connection) -> None:
        self._subscribed = True  # before the call: an owner that changes during it sets this to False again
        try:
            await connection.call(SYSTEMD, SYSTEMD_PATH, MANAGER, "Subscribe", timeout_seconds=self._timeout_seconds)
        except BaseException as error:
            if isinstance(error, BusCallError) and error.name == "org.freedesktop.systemd1.AlreadySubscribed":
                return
            self._subscribed = False
            raise

    def _signal_came(self, message: Message) -> None:
        if message.sender == DBUS:
            if message.member == "NameOwnerChanged" and message.body[0] == SYSTEMD:
                self._owner_changed(message.body[2] or None)
        else:
            self._on_signal(message)

    def _owner_changed(self, owner: str | None) -> None:
        self._owner = owner
        self._subscribed = False
        if owner:
            self._worth_asking.set()
        else:
            self._worth_asking.clear()
        self._on_new_systemd()
