"""The client side of `org.fleetd1`, for fleetctl: blocking calls with a deadline, errors as sentences."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetd.adapters.bus import interface as offered
from fleetd.adapters.bus.connection import BusCallError, BusLostError, Connection
from fleetd.adapters.bus.orders import call_of
from fleetd.core.instances.orders import Order
from fleetd.errors import FleetdError, SourceUnavailableError

_FULL_SECONDS = 0.1
#: Of the time for a question that may be asked twice.
_FIRST_SHARE = 0.4


class _NoAnswerError(SourceUnavailableError):
    """Whether it was obeyed is unknown."""


def fetch_status(timeout_seconds: float = 10.0, *, bus_address: str | None = None) -> str:
    """The daemon's status, as JSON of core.model.status.Status.

    Raises SourceUnavailableError with the reason when it can't be had.
    """
    first_seconds = timeout_seconds * _FIRST_SHARE
    try:
        try:
            [status] = _ask_fleetd("Status", first_seconds, bus_address)
        except _NoAnswerError:  # fleetd lost the connection that the question went to, and has another one by now
            [status] = _ask_fleetd("Status", timeout_seconds - first_seconds, bus_address)
    except SourceUnavailableError:
        raise
    except FleetdError as error:
        raise SourceUnavailableError(str(error)) from error
    return str(status)


def fetch_hosts(timeout_seconds: float = 10.0, *, bus_address: str | None = None) -> str:
    """Every host of the fleet, as JSON of core.model.hosts.FleetHosts.

    Raises SourceUnavailableError when the daemon can't be reached, FleetdError with the reason when it can't tell.
    """
    [hosts] = _ask_fleetd("Hosts", timeout_seconds, bus_address)
    return str(hosts)


def give_order(order: Order, timeout_seconds: float = 35.0, *, bus_address: str | None = None) -> str:
    """Have the daemon obey an order; returns its answer, a sentence for the admin.

    Raises SourceUnavailableError when it can't be reached, FleetdError with the reason when it refuses.
    """
    method, arguments = call_of(order)
    [answer] = _ask_fleetd(method, timeout_seconds, bus_address, *arguments)
    return str(answer)


def _ask_fleetd(member: str, timeout_seconds: float, bus_address: str | None, *arguments: object) -> list[Any]:
    async def ask() -> list[Any]:
        async with asyncio.timeout(timeout_seconds):
            connection = await Connection.open(bus_address, timeout_seconds=timeout_seconds)
            try:
                while True:
                    try:
                        return await connection.call(
                            offered.BUS_NAME,
                            offered.MANAGER_PATH,
                            offered.MANAGER,
                            member,
                            offered.METHODS[offered.MANAGER, member],
                            *arguments,
                            timeout_seconds=timeout_seconds,
                        )
                    except BusCallError as error:
                        # The bus refuses what it would have to keep: somebody floods fleetd with messages of megabytes.
                        if error.name != offered.ERROR_LIMITS:
                            raise
                        await asyncio.sleep(_FULL_SECONDS)
            finally:
                connection.close()

    try:
        return asyncio.run(ask())
    except TimeoutError as error:
        raise _NoAnswerError(f"fleetd did not answer within {timeout_seconds:g} s") from error
    except BusLostError as error:
        raise SourceUnavailableError(f"{error}; see systemctl status dbus") from error
    except BusCallError as error:
        raise _client_error(error) from error


def _client_error(error: BusCallError) -> FleetdError:
    if error.name in ("org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown"):
        return SourceUnavailableError(
            f"fleetd is not on the bus: nobody owns {offered.BUS_NAME}. See systemctl status fleetd"
        )
    if error.name == "org.freedesktop.DBus.Error.NoReply":
        return _NoAnswerError("fleetd ended before it answered. See systemctl status fleetd")
    if error.name == offered.ERROR_NOT_READY:
        return SourceUnavailableError(error.text)
    if error.name == offered.ERROR_ACCESS_DENIED:  # by the bus itself, in words for programmers, or by fleetd
        return FleetdError("only root and members of the group fleetd may do this: try sudo")
    if error.name == offered.ERROR_UNKNOWN_METHOD:
        return FleetdError(
            "the fleetd that runs does not know this order, so it is not the one installed with this fleetctl:"
            " systemctl restart fleetd (workers keep running)"
        )
    return FleetdError(error.text or error.name)
