"""What every HostSource and Clock promises, checked on the real adapters and on the fakes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from fleetd.core.model.facts import RenderedSettings, SystemdFacts
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import instance_digest
from fleetd.errors import SourceUnavailableError
from fleetd.ports import Clock, HostSource


class HostStage(Protocol):
    """A host on which nothing is rendered and nothing runs yet."""

    @property
    def source(self) -> HostSource: ...

    @property
    def policy(self) -> Policy:
        """The policy that settings are rendered from. It has instance 1."""
        ...

    def render(self, number: int) -> None: ...

    def run(self, number: int, resident_bytes: int) -> SystemdFacts:
        """Run an instance that holds this much memory, and return what systemd says of it."""
        ...

    def hide_memory(self) -> None:
        """From now on the available memory can't be read."""
        ...


HostCheck = Callable[[HostStage], Coroutine[Any, Any, None]]


async def memory_is_what_a_reading_needs(stage: HostStage) -> None:
    facts = await stage.source.read(None)
    assert 0 < facts.memory_available_bytes <= facts.memory_total_bytes
    stage.hide_memory()
    with pytest.raises(SourceUnavailableError) as raised:
        await stage.source.read(None)
    assert "meminfo" in str(raised.value)


async def what_is_rendered_is_read(stage: HostStage) -> None:
    assert (await stage.source.read(None)).rendered == {}
    stage.render(1)
    profile = stage.policy.profiles[0]
    rendered = RenderedSettings(
        profile=profile.name, digest=instance_digest(profile), threads=profile.threads, db_pool=profile.db_pool
    )
    assert (await stage.source.read(None)).rendered == {1: rendered}


async def memory_of_instances_is_known_where_systemd_is(stage: HostStage) -> None:
    systemd = stage.run(1, 400 * 1024 * 1024)
    assert (await stage.source.read(systemd)).resident_bytes == {1: 400 * 1024 * 1024}
    assert (await stage.source.read(None)).resident_bytes == {}


async def cores_are_counted(stage: HostStage) -> None:
    cores = (await stage.source.read(None)).cores
    assert cores is not None
    assert cores >= 1


host_source_contract: tuple[HostCheck, ...] = (
    memory_is_what_a_reading_needs,
    what_is_rendered_is_read,
    memory_of_instances_is_known_where_systemd_is,
    cores_are_counted,
)

ClockCheck = Callable[[Clock], None]


def time_does_not_go_back(clock: Clock) -> None:
    times = [clock.now_seconds() for _ in range(100)]
    assert times == sorted(times)
    assert times[0] >= 0.0


def a_boot_has_one_id(clock: Clock) -> None:
    assert clock.boot_id()
    assert clock.boot_id() == clock.boot_id()


clock_contract: tuple[ClockCheck, ...] = (time_does_not_go_back, a_boot_has_one_id)
