"""What fleetd found where the workers connect (adapters/database/pooler.py), kept for root and the next start.

fleetd writes it, and fleetd-render, which has no network, takes from it whether workers get names. A fleetd that was
broken into could so keep workers from starting, or from being counted; it may stop them anyway. Root takes nothing else
from the file, follows no word of it, and reads at most FOUND_BYTES_MAX.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from fleetd.adapters.host.files import read_small_file, replace_file
from fleetd.core.model.found_pooler import FoundPooler

FOUND_FILE = "pooler.json"
FOUND_BYTES_MAX = 1024


def read_found(directory: Path) -> FoundPooler | None:
    """None: nothing was found yet, or the file is not what fleetd writes."""
    try:
        return msgspec.json.decode(read_small_file(directory / FOUND_FILE, FOUND_BYTES_MAX) or b"", type=FoundPooler)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def write_found(directory: Path, found: FoundPooler) -> bool:
    """Keep it, readable for everyone; False: it was so already, or can't be written."""
    if read_found(directory) == found:
        return False
    with contextlib.suppress(OSError):
        replace_file(directory / FOUND_FILE, msgspec.json.encode(found) + b"\n", mode=0o644)
        return True
    return False
