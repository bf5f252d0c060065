"""Runs in a lab host, confined like fleetd.service: writes what the adapters read to a file, over and over."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from fleetd.adapters.host.readings import LinuxHost
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.identity import InstanceKey


async def main() -> None:
    folder = Path(os.environ["RUNTIME_DIRECTORY"])
    units = SystemdUnits([InstanceKey(1)], unit_files=UnitFiles(), read_deadline_seconds=60)
    host = LinuxHost()
    while True:
        systemd = await units.read()
        machine = await host.read(systemd)
        draft = folder / "draft"
        draft.write_bytes(msgspec.json.encode([systemd, machine]))
        draft.replace(folder / "facts.json")
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
