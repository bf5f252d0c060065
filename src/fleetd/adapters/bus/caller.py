"""Who calls: the Unix user that the bus vouches for, and behind a sudo the user who had logged in.

Nothing of this is the caller's own word: SUDO_USER would be. /proc/PID/loginuid would do, but fleetd's unit hides the
processes of others (ProtectProc=). systemd-logind sees them, knows by the control group in whose login one runs, and
answers everybody. Without it, or for what was started outside of any login (cron, a service), only the Unix user is
known.
"""

from __future__ import annotations

import asyncio
import grp
import pwd
from typing import Any, NamedTuple

from fleetd.adapters.bus.connection import BusCallError, BusLostError, Connection
from fleetd.adapters.bus.interface import ERROR_ACCESS_DENIED, CallRefusedError
from fleetd.core.model.person import Person
from fleetd.words.plain import plain

#: Of logind and of the user database: an order does not wait longer to learn a name.
_NAME_DEADLINE_SECONDS = 2.0
_NAME_CHARACTERS_MAX = 64
_LOGIND, _LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
_NO_ANSWER = (BusCallError, BusLostError, TimeoutError, LookupError, TypeError, ValueError, AttributeError)


class Caller(NamedTuple):
    """A process on the bus, as the bus itself knows it. `pid` 0: unknown."""

    uid: int
    pid: int


async def admin(connection: Connection, sender: str, group: str) -> Caller:
    """The process behind `sender`, whose user is root or in `group`. Raises CallRefusedError for anybody else.

    The groups are those of the process itself, so no user database is asked. Raises BusCallError when the sender is
    gone.
    """
    [credentials] = await connection.call_bus("GetConnectionCredentials", "s", sender)
    uid = int(credentials["UnixUserID"].value)
    groups = credentials["UnixGroupIDs"].value if "UnixGroupIDs" in credentials else []
    try:
        admins = grp.getgrnam(group).gr_gid
    except KeyError:
        admins = None
    if uid != 0 and admins not in groups:
        raise CallRefusedError(ERROR_ACCESS_DENIED, f"only root and members of group {group} may do this")
    return Caller(uid, int(credentials["ProcessID"].value) if "ProcessID" in credentials else 0)


async def person_of(caller: Caller, bus_address: str | None = None) -> Person:
    """Who gives an order. Takes a few seconds at most, and raises nothing."""
    login = await _login(caller.pid, bus_address) if caller.pid else None
    if login is not None and login[0] == caller.uid:
        return Person(user=login[1])
    return Person(user=await _user_name(caller.uid), login=login[1] if login is not None else "")


async def _login(pid: int, bus_address: str | None) -> tuple[int, str] | None:
    """The uid and the name of the user in whose login this process is; None: in none, or that is unknown.

    By a connection of its own, because one on which a call times out is given up.
    """
    connection = None
    try:
        async with asyncio.timeout(_NAME_DEADLINE_SECONDS):
            connection = await Connection.open(bus_address)
            manager = f"{_LOGIND}.Manager"
            [path] = await connection.call(
                _LOGIND, _LOGIND_PATH, manager, "GetUserByPID", "u", pid, reply_signature="o"
            )
            uid = await _property(connection, path, "UID")
            name = await _property(connection, path, "Name")
            return int(uid), _shown(str(name)) or f"uid {int(uid)}"
    except _NO_ANSWER:
        return None
    finally:
        if connection is not None:
            connection.close()


async def _property(connection: Connection, path: str, name: str) -> Any:
    [value] = await connection.call(
        _LOGIND,
        path,
        "org.freedesktop.DBus.Properties",
        "Get",
        "ss",
        f"{_LOGIND}.User",
        name,
        reply_signature="v",
    )
    return value.value


async def _user_name(uid: int) -> str:
    """From the user database, which may be on another host and not answer."""
    if uid == 0:
        return "root"
    try:
        async with asyncio.timeout(_NAME_DEADLINE_SECONDS):
            found = await asyncio.to_thread(pwd.getpwuid, uid)
    except (KeyError, TimeoutError, OSError):
        return f"uid {uid}"
    return _shown(found.pw_name) or f"uid {uid}"


def _shown(name: str) -> str:
    return plain(name[:_NAME_CHARACTERS_MAX])
