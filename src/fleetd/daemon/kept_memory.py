"""What this host remembers, as the JSON of `host.json`, which another version of fleetd may have written.

Each field is read by itself: what this version does not know, or knows in another form, is left out and named, and the
rest is remembered.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fleetd import __version__
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.bounds import impossible_in
from fleetd.core.model.reasons.saving import MemoryUnread

#: The version that wrote the file. 0.1.0 did not say so.
_WRITER = "written_by"
_VERSION_CHARACTERS_MAX = 40


def written(memory: HostMemory) -> bytes:
    """JSON of a host's memory, and which fleetd wrote it."""
    return msgspec.json.encode({_WRITER: __version__, **msgspec.structs.asdict(memory)})


def read(content: bytes | None) -> tuple[HostMemory, MemoryUnread | None]:
    """The memory in `content`, and what of it could not be read; a fresh one if there is none.

    A number that no fleetd writes makes all of it untrustworthy.
    """
    if content is None:
        return HostMemory(), None
    try:
        document = msgspec.json.decode(content, type=dict[str, Any])
        if impossible_in(document, low=0):  # times since the boot, counts and sizes: nothing is below 0
            raise msgspec.ValidationError
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return HostMemory(), MemoryUnread(writer="", fields=())
    writer = document.pop(_WRITER, "")
    known, unread = {}, []
    types = {field.name: field.type for field in msgspec.structs.fields(HostMemory)}
    for name, value in document.items():
        try:
            known[name] = msgspec.convert(value, types[name], str_keys=True)
        except (KeyError, msgspec.ValidationError):
            unread.append(name)
            continue
        if _lacks(value, msgspec.to_builtins(known[name], str_keys=True)):
            unread.append(name)
    found = MemoryUnread(writer=str(writer)[:_VERSION_CHARACTERS_MAX], fields=tuple(unread))
    return HostMemory(**known), found if unread else None


def _lacks(value: Any, understood: Any) -> bool:
    """Whether `value` has a field that was not understood."""
    if isinstance(value, dict) and isinstance(understood, dict):
        return any(key not in understood or _lacks(value[key], understood[key]) for key in value)
    if isinstance(value, list) and isinstance(understood, list):
        return any(_lacks(*pair) for pair in zip(value, understood, strict=False))
    return False
