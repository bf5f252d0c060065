"""fleetd on the bus: `org.fleetd1`, for `fleetctl`, `busctl` and `systemctl service-log-level`.

Only one process can own the name, which also keeps a second fleetd off the host. Everyone may read; root and the
members of the group fleetd may change things (caller.py). The bus policy in units/org.fleetd1.conf says the same, but
fleetd checks by itself, so a policy that is missing or too wide opens nothing.

Replies never carry a traceback. What an unprivileged user can cause is bounded: pending changes by _PENDING_MAX, all
else by the connection, and the status is encoded once per tick, not once per call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from dbus_next.message import Message
from dbus_next.signature import Variant

from fleetd.adapters.bus import interface as offered
from fleetd.adapters.bus import orders
from fleetd.adapters.bus.asked import Asked
from fleetd.adapters.bus.caller import Caller, admin, person_of
from fleetd.adapters.bus.connection import BusCallError, BusLostError, Connection
from fleetd.adapters.bus.incoming import CALL_BODY_BYTES_MAX, Call
from fleetd.adapters.bus.interface import CallRefusedError
from fleetd.adapters.logging.journal import LEVELS
from fleetd.core.instances.orders import Order
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.person import Person
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError
from fleetd.words.formatting import who

ADMIN_GROUP = "fleetd"

_log = structlog.get_logger(__name__)
_CONNECT_DEADLINE_SECONDS = 5.0
CHANGE_DEADLINE_SECONDS = 30.0
_PENDING_MAX = 16
_ALLOW_REPLACEMENT = 1
_REPLACE_EXISTING = 2
_DO_NOT_QUEUE = 4
_PRIMARY_OWNER = 1
_ALREADY_OWNER = 4

#: Changes something for this process; returns the answer, if there is one.
_Change = Callable[[Caller], Awaitable[str | None]]
#: What is replied with, if anything.
_Answer = Callable[[Connection], Awaitable[str | None]]


class ControlBus:
    """The service side. Call `ensure` before each tick.

    `status`: the last tick's status, None before the first. `reload`: read the configuration again; raises
    FleetdError with the reasons when it is refused. `order`: obey this person; returns the answer, raises FleetdError
    with the reason when the order is refused. `hosts`: all hosts of the fleet; raises FleetdError. `log_level`,
    `set_log_level`: one of journal.LEVELS. `admin_group`: who may change things, besides root.
    """

    def __init__(
        self,
        *,
        version: str,
        status: Callable[[], Status | None],
        reload: Callable[[], Awaitable[None]],
        order: Callable[[Order, Person], Awaitable[str]],
        hosts: Callable[[], Awaitable[FleetHosts]],
        log_level: Callable[[], str],
        set_log_level: Callable[[str], None],
        admin_group: str = ADMIN_GROUP,
        bus_address: str | None = None,
    ) -> None:
        self._status = status
        self._reload = reload
        self._order = order
        self._hosts = Asked(lambda: _encoded(hosts))
        self._set_log_level = set_log_level
        self._admin_group = admin_group
        self._bus_address = bus_address
        self._properties: dict[str, dict[str, Callable[[], str]]] = {
            offered.MANAGER: {"Version": lambda: version},
            offered.LOG_CONTROL: {
                "LogLevel": log_level,
                "LogTarget": lambda: "journal",
                "SyslogIdentifier": lambda: "fleetd",
            },
        }
        self._connection: Connection | None = None
        self._owned_as = ""  # the unique name of the connection that had the name last
        self._opening = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self._reopening: asyncio.Task[None] | None = None
        self._encoded: tuple[Status, str] | None = None

    async def ensure(self) -> None:
        """Connect and take the name, if that is not done yet.

        Raises SourceUnavailableError while the bus can't be reached (try again next tick), and FleetdError when
        fleetd must not run: another one owns the name, or the bus policy does not let this user own it.
        """
        try:
            async with asyncio.timeout(_CONNECT_DEADLINE_SECONDS), self._opening:
                if self._connection is None or not self._connection.connected:
                    self._connection = None
                    self._connection = await self._own_name()
        except TimeoutError as error:
            raise SourceUnavailableError(
                f"the system bus did not answer within {_CONNECT_DEADLINE_SECONDS:g} s; see systemctl status dbus"
            ) from error
        except BusLostError as error:
            raise SourceUnavailableError(f"{error}; see systemctl status dbus") from error
        except BusCallError as error:
            if error.name == offered.ERROR_ACCESS_DENIED:
                raise FleetdError(
                    f"the bus does not let this user own {offered.BUS_NAME}: see that org.fleetd1.conf is in"
                    " /etc/dbus-1/system.d and that fleetd runs as user fleetd (systemctl start fleetd)"
                ) from error
            raise SourceUnavailableError(f"the bus refused: {error.text} ({error.name})") from error

    async def close(self) -> None:
        """Leave the bus, and with it the name."""
        self._hosts.close()
        tasks = [*self._changes, *self._questions, *([self._reopening] if self._reopening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _lost(self) -> None:
        """Come back at once, not only with the next tick: somebody may be asking why."""
        if self._connection is not None:  # it is neither being opened nor closed
            self._reopening = asyncio.create_task(self._ensure_again())

    async def _ensure_again(self) -> None:
        with contextlib.suppress(FleetdError):  # the next tick tries again, and says what is wrong
            await self.ensure()

    async def _own_name(self) -> Connection:
        connection = await Connection.open(self._bus_address, on_call=self._call_came, on_lost=self._lost)
        try:
            who = await self._request_name(connection)
        except BaseException:
            connection.close()
            raise
        if who is None:
            self._owned_as = connection.unique_name
            return connection
        connection.close()
        raise FleetdError(
            f"another fleetd runs on this host{who}: it owns {offered.BUS_NAME} on the bus. Stop it first"
        )

    async def _request_name(self, connection: Connection) -> str | None:
        """None: it is ours now. Otherwise whose it is, as far as is known."""
        flags = _ALLOW_REPLACEMENT | _DO_NOT_QUEUE
        [reply] = await connection.call_bus("RequestName", "su", offered.BUS_NAME, flags)
        if reply in (_PRIMARY_OWNER, _ALREADY_OWNER):
            return None
        try:
            [owner] = await connection.call_bus("GetNameOwner", "s", offered.BUS_NAME)
            if owner == self._owned_as:
                # Our last connection, which is closed. While its replies are not taken, the bus does not notice.
                flags |= _REPLACE_EXISTING
                [reply] = await connection.call_bus("RequestName", "su", offered.BUS_NAME, flags)
                return None if reply == _PRIMARY_OWNER else ""
            [pid] = await connection.call_bus("GetConnectionUnixProcessID", "s", owner)
        except BusCallError:  # it has just gone
            return ""
        return f" (pid {pid})"

    def _call_came(self, call: Call) -> Message | None:
        try:
            return self._answer(call)
        except CallRefusedError as refused:
            return call.refusal(refused.name, str(refused))
        except Exception:
            _log.exception("a call on the bus could not be answered", member=call.header.member)
            return call.refusal(offered.ERROR_FAILED, "fleetd could not answer; its journal says why")

    def _answer(self, call: Call) -> Message | None:
        """The reply, or None for one that comes later."""
        header, arguments = call.header, _arguments(call)
        match header.member:
            case "Status":
                return call.answer("s", self._status_json())
            case "Hosts":
                self._tell_hosts(call)
            case "Introspect":
                return call.answer("s", offered.INTROSPECTION[header.path])
            case "GetMachineId":
                return call.answer("s", Path("/etc/machine-id").read_text().strip())
            case "Get":
                interface, name = arguments
                return call.answer("v", Variant("s", self._property(header.path, interface, name)()))
            case "GetAll":
                [interface] = arguments
                values = {
                    name: Variant("s", get()) for name, get in self._properties_of(header.path, interface).items()
                }
                return call.answer("a{sv}", values)
            case "Reload":
                self._change(call, lambda _caller: self._reload())
            case "Set":
                level = self._log_level_to_set(header.path, *arguments)
                self._change(call, lambda _caller: self._carry_out_log_level(level))
            case method if method in orders.ORDERS:
                order = self._order_of(method, arguments)
                self._change(call, lambda caller: self._carry_out_order(caller, order))
            case _:  # Ping
                return call.answer()
        return None

    def _status_json(self) -> str:
        status = self._status()
        if status is None:
            raise CallRefusedError(offered.ERROR_NOT_READY, "fleetd has just started: no tick is finished yet")
        if self._encoded is None or self._encoded[0] is not status:
            self._encoded = (status, msgspec.json.encode(status).decode())
        return self._encoded[1]

    def _properties_of(self, path: str, interface: str) -> dict[str, Callable[[], str]]:
        here = {offered.MANAGER_PATH: offered.MANAGER, offered.LOG_CONTROL_PATH: offered.LOG_CONTROL}.get(path)
        if here is None or interface not in ("", here):  # "": any; each of our objects has one with properties
            raise CallRefusedError(offered.ERROR_UNKNOWN_INTERFACE, f"{path} has no properties of {interface!r}")
        return self._properties[here]

    def _property(self, path: str, interface: str, name: str) -> Callable[[], str]:
        properties = self._properties_of(path, interface)
        if name not in properties:
            raise CallRefusedError(offered.ERROR_UNKNOWN_PROPERTY, f"{path} has no property {name!r}")
        return properties[name]

    def _log_level_to_set(self, path: str, interface: str, name: str, value: Variant) -> str:
        self._property(path, interface, name)
        if name != "LogLevel":
            raise CallRefusedError(offered.ERROR_READ_ONLY, f"{name} can't be set")
        if value.signature != "s" or value.value not in LEVELS:
            raise CallRefusedError(offered.ERROR_INVALID_ARGS, f"LogLevel is one of {', '.join(LEVELS)}")
        return str(value.value)

    def _order_of(self, method: str, arguments: list[Any]) -> Order:
        try:
            return orders.order_of(method, arguments)
        except orders.BadOrderError as error:
            raise CallRefusedError(offered.ERROR_INVALID_ARGS, str(error)) from error

    async def _carry_out_order(self, caller: Caller, order: Order) -> str:
        """Logs one line: who ordered what, and what became of it."""
        outcome, person = "not finished in time", await person_of(caller, self._bus_address)
        try:
            outcome = answer = await self._order(order, person)
        except FleetdError as refused:
            outcome = f"refused: {refused}"
            raise
        finally:
            said = f"ordered by {who(person)}: {orders.described(order)} — {outcome}"
            _log.info(said, by_uid=caller.uid)
        return answer

    async def _carry_out_log_level(self, level: str) -> None:
        self._set_log_level(level)

    def _change(self, call: Call, change: _Change) -> None:
        """Carry out a change and reply later: the bus must be asked first who sent it."""

        async def changed(connection: Connection) -> str | None:
            caller = await admin(connection, call.header.sender, self._admin_group)
            return await asyncio.wait_for(change(caller), CHANGE_DEADLINE_SECONDS)

        self._reply_later(call, self._changes, changed)

    def _tell_hosts(self, call: Call) -> None:
        """Tell anybody of the fleet's hosts, once the ledger has been read."""

        async def told(_connection: Connection) -> str:
            return await asyncio.wait_for(self._hosts.answer(), CHANGE_DEADLINE_SECONDS)

        self._reply_later(call, self._questions, told)

    def _reply_later(self, call: Call, pending: set[asyncio.Task[None]], answer: _Answer) -> None:
        if len(pending) >= _PENDING_MAX:
            raise CallRefusedError(offered.ERROR_LIMITS, "too many calls at once; try again")
        if self._connection is None:
            raise CallRefusedError(offered.ERROR_NOT_READY, "fleetd is not ready yet; try again")
        task = asyncio.create_task(self._answer_and_reply(self._connection, call, answer))
        pending.add(task)
        task.add_done_callback(pending.discard)

    async def _answer_and_reply(self, connection: Connection, call: Call, answer: _Answer) -> None:
        try:
            said = await answer(connection)
            reply = call.answer() if said is None else call.answer("s", said)
        except CallRefusedError as refused:
            reply = call.refusal(refused.name, str(refused))
        except FleetdError as refused:
            reply = call.refusal(offered.ERROR_REFUSED, str(refused))
        except (BusCallError, BusLostError):
            return  # the sender or the bus is gone: nobody waits for the reply
        except TimeoutError:
            sentence = f"not finished within {CHANGE_DEADLINE_SECONDS:g} s; the journal says how it went"
            reply = call.refusal(offered.ERROR_TIMEOUT, sentence)
        except Exception:
            _log.exception("a call on the bus failed", member=call.header.member)
            reply = call.refusal(offered.ERROR_FAILED, "fleetd could not do it; its journal says why")
        if call.header.expects_reply:
            connection.send(reply)


async def _encoded(hosts: Callable[[], Awaitable[FleetHosts]]) -> str:
    return msgspec.json.encode(await hosts()).decode()


def _arguments(call: Call) -> list[Any]:
    """Its arguments, if this is a call of what is offered. Its body is read only then."""
    header = call.header
    interface = header.interface or offered.INTERFACE_OF_MEMBER.get(header.member, "")
    signature = offered.METHODS.get((interface, header.member))
    if header.path not in offered.INTROSPECTION:
        raise CallRefusedError(offered.ERROR_UNKNOWN_OBJECT, f"fleetd has no object {header.path}")
    if signature is None or (interface == offered.MANAGER and header.path != offered.MANAGER_PATH):
        raise CallRefusedError(offered.ERROR_UNKNOWN_METHOD, f"{header.path} has no method {interface}.{header.member}")
    if header.signature != signature:
        raise CallRefusedError(offered.ERROR_INVALID_ARGS, f"{header.member} takes ({signature})")
    if call.too_long:
        raise CallRefusedError(
            offered.ERROR_LIMITS, f"the arguments of a call may take {CALL_BODY_BYTES_MAX // 1024} KiB at most"
        )
    try:
        return call.arguments() if signature else []
    except ValueError as error:
        raise CallRefusedError(offered.ERROR_INVALID_ARGS, str(error)) from error
