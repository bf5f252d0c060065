"""host.json as this and other versions of fleetd write it: what can be read is remembered, what can't be is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetd import __version__
from fleetd.core.instances.host_memory import HostMemory, PeoplesOrders
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.saving import MemoryUnread
from fleetd.core.model.reasons.units import PinKind
from fleetd.daemon import kept_memory
from fleetd.words.reasons import sentence
from tests.support.world.ports import FakeStore, Rig, policy
from tests.support.world.world import World

PIN = Pin(wants=PinKind.RUN, since_seconds=10.0, until_seconds=1e6, by="fleetctl")
PINNED = HostMemory(boot_id="boot-1", people=PeoplesOrders(pins={InstanceKey(2): PIN}), boot_seconds={"all": 40.0})


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kept_memory.written(PINNED))
    return found


def read(changed: dict[str, Any]) -> tuple[HostMemory, MemoryUnread | None]:
    return kept_memory.read(json.dumps(changed).encode())


def test_its_own_file_is_read_whole() -> None:
    assert kept_memory.read(kept_memory.written(PINNED)) == (PINNED, None)
    assert kept_memory.read(None) == (HostMemory(), None)
    assert document()["written_by"] == __version__


def test_a_field_of_a_newer_version_is_named_and_the_rest_remembered() -> None:
    memory, unread = read({**document(), "written_by": "9.0.0", "leases": {"worker2": 3}})
    assert memory == PINNED
    assert unread == MemoryUnread(writer="9.0.0", fields=("leases",))
    said = sentence(unread)
    assert "fleetd 9.0.0 wrote" in said
    assert "leases" in said


@pytest.mark.parametrize(
    "people",
    [
        {"pins": {"2": {"wants": "nap", "since_seconds": 10.0, "until_seconds": 1e6, "by": "x"}}},  # in another form
        {"pins": "none"},
        17,
    ],
)
def test_what_has_another_form_is_forgotten_by_itself(people: Any) -> None:
    memory, unread = read({**document(), "people": people})
    assert memory == HostMemory(boot_id="boot-1", boot_seconds={"all": 40.0})
    assert unread == MemoryUnread(writer=__version__, fields=("people",))


def test_a_new_field_deep_inside_is_named_and_what_is_known_there_kept() -> None:
    changed = document()
    changed["people"]["pins"]["2"]["because"] = "a new release"
    assert read(changed) == (PINNED, MemoryUnread(writer=__version__, fields=("people",)))


@pytest.mark.parametrize(
    "content", [b"{}x", b"[]", b"\xff", b"", b'{"boot_id": "b", "since_seconds": -1}', b"[" * 10**5]
)
def test_what_no_fleetd_wrote_is_no_memory_and_said(content: bytes) -> None:
    memory, unread = kept_memory.read(content)
    assert memory == HostMemory()
    assert unread == MemoryUnread(writer="", fields=())


def test_it_is_said_once_in_the_log_of_the_first_tick() -> None:
    store = FakeStore()
    store.content = json.dumps({**document(), "leases": 3}).encode()
    rig = Rig(World(policy()), store=store)
    assert rig.tick().noticed[0] == MemoryUnread(writer=__version__, fields=("leases",))
    assert MemoryUnread not in {type(reason) for reason in rig.tick().noticed}
