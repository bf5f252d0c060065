"""A unit's properties as systemd gives them over D-Bus (GetAll), the variants unpacked."""

from __future__ import annotations

from typing import Any


def unit_properties(name: str = "mastodon-sidekiq@1.service", **changed: Any) -> dict[str, Any]:
    """Of a unit that serves."""
    properties: dict[str, Any] = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "MainPID": 101,
        "NRestarts": 0,
        "InvocationID": bytes(range(16)),
        "ControlGroup": f"/system.slice/{name}",
        "NeedDaemonReload": False,
        "StateChangeTimestampMonotonic": 80_000_000,
        "ExecMainCode": 0,
        "ExecMainStatus": 0,
        "DropInPaths": [],
    }
    return properties | changed
