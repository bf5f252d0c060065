"""The real adapters to systemd and their fakes keep the contracts of UnitControl and ServiceManager."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.systemd.notify import SdNotify
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.identity import InstanceKey, unit_of
from tests.support.contracts.notify import ServiceCheck, service_manager_contract
from tests.support.contracts.units import UnitCheck, unit_control_contract
from tests.support.rig.fake_systemd import FakeSystemd
from tests.support.rig.private_bus import PrivateBus, private_bus
from tests.support.world.ports import FakeService, FakeUnits, policy, strict
from tests.support.world.world import World


class RealUnits:
    """SystemdUnits and a fake systemd on a private bus."""

    def __init__(self, bus: PrivateBus) -> None:
        self.systemd = FakeSystemd(bus.address)
        self.units = SystemdUnits(
            [InstanceKey(n) for n in (1, 2, 3)],
            bus_address=bus.address,
            unit_files=UnitFiles(Path("/none")),
            read_deadline_seconds=60.0,
            step_deadline_seconds=60.0,
        )

    async def serve(self, number: int) -> None:
        self.systemd.run(unit_of(InstanceKey(number)))

    async def finish_boot(self, number: int) -> None:
        self.systemd.finish_start(unit_of(InstanceKey(number)))

    async def finish_stop(self, number: int) -> None:
        self.systemd.finish_stop(unit_of(InstanceKey(number)))

    async def fail(self, number: int) -> None:
        self.systemd.fail(unit_of(InstanceKey(number)))

    def quieted(self, number: int) -> bool:
        return self.systemd.units[unit_of(InstanceKey(number))].signals == [signal.SIGTSTP]

    async def lose_systemd(self) -> None:
        self.systemd.stop()
        self._deadlines(0.5)  # short only where they must pass; otherwise a busy machine may take its time

    async def bring_systemd_back(self) -> None:
        self._deadlines(60.0)
        await self.systemd.start()

    def _deadlines(self, seconds: float) -> None:
        self.units._read_deadline_seconds = self.units._step_deadline_seconds = seconds


class FakedUnits:
    """FakeUnits on a world whose jobs take long."""

    def __init__(self) -> None:
        self.world = World(policy(strict(numbers="1-3")))
        self.world.job_seconds = (1000.0, 1000.0)
        self.units = FakeUnits(self.world)

    async def serve(self, number: int) -> None:
        self.world.start(number)
        self.world.enqueue("default", 1)
        self.world.advance(self.world.boot_seconds + 1.0)

    async def finish_boot(self, number: int) -> None:
        self.world.advance(self.world.boot_seconds)

    async def finish_stop(self, number: int) -> None:
        self.world.advance(30.0)

    async def fail(self, number: int) -> None:
        self.world.units[number].become("failed", self.world.now)

    def quieted(self, number: int) -> bool:
        process = self.world.units[number].process
        return process is not None and process.quiet

    async def lose_systemd(self) -> None:
        self.world.systemd_up = False

    async def bring_systemd_back(self) -> None:
        self.world.systemd_up = True


@pytest.mark.parametrize("check", unit_control_contract, ids=lambda check: check.__name__)
def test_real_unit_control(check: UnitCheck) -> None:
    async def run(bus: PrivateBus) -> None:
        stage = RealUnits(bus)
        await stage.systemd.start()
        try:
            await check(stage)
        finally:
            await stage.units.close()
            stage.systemd.stop()

    with private_bus() as bus:
        asyncio.run(run(bus))


@pytest.mark.parametrize("check", unit_control_contract, ids=lambda check: check.__name__)
def test_fake_unit_control(check: UnitCheck) -> None:
    asyncio.run(check(FakedUnits()))


class RealService:
    def __init__(self, receiver: socket.socket, path: Path) -> None:
        self._receiver = receiver
        self._path = path

    def open(self, watchdog_seconds: float | None) -> SdNotify:
        environ = {"NOTIFY_SOCKET": str(self._path)}
        if watchdog_seconds is not None:
            environ["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
        return SdNotify(environ)

    def heard(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self._receiver.recv(4096).decode().splitlines()
            except BlockingIOError:
                return [line.removesuffix("=1") for line in lines if not line.startswith("MONOTONIC_USEC=")]


class FakedService:
    def open(self, watchdog_seconds: float | None) -> FakeService:
        self._service = FakeService(None if watchdog_seconds is None else watchdog_seconds / 2)
        return self._service

    def heard(self) -> list[str]:
        return self._service.said


@pytest.fixture
def real_service(tmp_path: Path) -> Iterator[RealService]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(str(tmp_path / "notify"))
        yield RealService(receiver, tmp_path / "notify")


@pytest.mark.parametrize("check", service_manager_contract, ids=lambda check: check.__name__)
def test_real_service_manager(check: ServiceCheck, real_service: RealService) -> None:
    check(real_service)


@pytest.mark.parametrize("check", service_manager_contract, ids=lambda check: check.__name__)
def test_fake_service_manager(check: ServiceCheck) -> None:
    check(FakedService())
