"""Runs in a lab host, confined as fleetd.service is: writes what the adapters read to a file, over and over."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from fleetd.adapters.host import LinuxHost
from fleetd.adapters.systemd import SystemdUnits
from fleetd.adapters.unit_files import UnitFiles


async def main() -> None:
    folder = Path(os.environ["RUNTIME_DIRECTORY"])
    units, host = SystemdUnits([1], unit_files=UnitFiles(), read_deadline_seconds=60), LinuxHost()
    while True:
        systemd = await units.read()
        machine = await host.read(systemd)
        draft = folder / "draft"
        draft.write_bytes(msgspec.json.encode([systemd, machine]))
        draft.replace(folder / "facts.json")
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
