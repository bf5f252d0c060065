"""Who may change things over org.fleetd1: root, and the members of one group.

The bus policy says so too; asked here as well, a policy file that is missing or too wide opens nothing.
"""

from __future__ import annotations

import grp

from fleetd.adapters import control_interface as offered
from fleetd.adapters.bus import Connection


async def admin_uid(connection: Connection, sender: str, group: str) -> int:
    """The uid of `sender`, who is root or in `group`; raises CallRefusedError for anybody else.

    The groups are those of the process itself, so no directory is asked. Raises BusCallError when the sender has gone.
    """
    [credentials] = await connection.call_bus("GetConnectionCredentials", "s", sender)
    uid = int(credentials["UnixUserID"].value)
    groups = credentials["UnixGroupIDs"].value if "UnixGroupIDs" in credentials else []
    try:
        admins = grp.getgrnam(group).gr_gid
    except KeyError:
        admins = None
    if uid != 0 and admins not in groups:
        raise offered.CallRefusedError(
            offered.ERROR_ACCESS_DENIED, f"only root and members of group {group} may do this"
        )
    return uid
