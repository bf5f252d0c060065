"""Numbers in host.json and in the ledger that no fleetd wrote: the memory begins anew, and fleetd runs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from fleetd.core.instances.host_memory import HostMemory, PeoplesOrders
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.units import PinKind
from tests.support.builders.json_numbers import kinds_of_numbers, with_numbers
from tests.support.world.ports import FakeStore, Rig, policy, strict
from tests.support.world.world import World

DIGITS = "9" * 400
PIN = Pin(wants=PinKind.RUN, since_seconds=10.0, until_seconds=1e6, by="fleetctl")
PINNED = HostMemory(boot_id="boot-1", people=PeoplesOrders(pins={InstanceKey(2): PIN}))


def rig_with(content: bytes) -> Rig:
    store = FakeStore()
    store.content = content
    return Rig(World(policy(strict(numbers="1-4"))), store=store)


def saved_by_a_busy_host() -> Any:
    """What fleetd saves while it has started, drained and pinned something, and a unit has failed."""
    rig = rig_with(msgspec.json.encode(PINNED))
    rig.world.broken = {3}
    rig.world.enqueue("default", 500)
    rig.run(60.0)
    assert isinstance(rig.store, FakeStore)
    return json.loads(rig.store.content or b"")


def test_what_a_fleetd_saved_is_read_again() -> None:
    assert rig_with(msgspec.json.encode(PINNED)).ticker.host_memory == PINNED


def test_an_impossible_number_in_host_json_is_no_memory_and_fleetd_runs() -> None:
    document = saved_by_a_busy_host()
    paths = kinds_of_numbers(document)
    assert len(paths) > 10
    for number in (DIGITS, f"-{DIGITS}", "-1", "1e300", "10000000000000000000", "1e999"):
        for path in paths:
            rig = rig_with(with_numbers(document, [path], number))
            assert rig.ticker.host_memory == HostMemory(), path
        rig.tick()


@pytest.mark.parametrize("number", ["0", str(2**53), "1e-300"])
def test_no_other_number_in_host_json_ends_fleetd(number: str) -> None:
    document = saved_by_a_busy_host()
    for path in kinds_of_numbers(document):
        rig = rig_with(with_numbers(document, [path], number))
        rig.world.enqueue("default", 50)
        for _ in range(3):
            rig.status(rig.tick())
            rig.world.advance(5.0)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"x":' + b"[" * 100_000, b'{"boot_id":"\xff"}', b"null", b""])
def test_no_content_of_host_json_ends_fleetd(content: bytes) -> None:
    assert rig_with(content).ticker.host_memory == HostMemory()
