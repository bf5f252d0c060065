"""What every ServiceManager promises, checked on the real adapter and on the fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fleetd.ports import ServiceManager


class ServiceStage(Protocol):
    """A service manager that listens."""

    def open(self, watchdog_seconds: float | None) -> ServiceManager:
        """Open it for a service with this WatchdogSec. None: no watchdog."""
        ...

    def heard(self) -> list[str]:
        """The messages it got, in order: READY, STATUS=…, WATCHDOG, RELOADING, STOPPING."""
        ...


ServiceCheck = Callable[[ServiceStage], None]


def each_word_is_heard_in_order(stage: ServiceStage) -> None:
    service = stage.open(None)
    service.status("5 of 8 instances serve")
    service.ready()
    service.watchdog()
    service.reloading()
    service.ready()
    service.stopping()
    assert stage.heard() == [
        "STATUS=5 of 8 instances serve",
        "READY",
        "WATCHDOG",
        "RELOADING",
        "READY",
        "STOPPING",
    ]


def a_watchdog_is_pinged_twice_in_its_time(stage: ServiceStage) -> None:
    assert stage.open(30.0).watchdog_interval_seconds() == 15.0
    assert stage.open(None).watchdog_interval_seconds() is None


service_manager_contract: tuple[ServiceCheck, ...] = (
    each_word_is_heard_in_order,
    a_watchdog_is_pinged_twice_in_its_time,
)
