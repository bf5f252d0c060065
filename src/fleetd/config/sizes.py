"""Sizes as people write them: 1073741824, "512 MiB", "1.5 GiB"."""

from __future__ import annotations

import re

_UNITS_BYTES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([A-Za-z]{0,3})")

#: No machine has more; keeps a slip of the finger from planning without a limit.
SIZE_MAX_BYTES = 64 * 1024**4


def parse_size_bytes(value: int | str) -> int:
    """Bytes from a number of bytes or a number with KiB, MiB, GiB or TiB.

    Raises ValueError with the cure as its text. KB and MB are refused: nobody knows whether 1000 or 1024 was meant.
    """
    if isinstance(value, int):
        size_bytes = float(value)
    else:
        match = _SIZE.fullmatch(value.strip())
        if match is None or match[2] not in _UNITS_BYTES:
            raise ValueError('Write bytes as a number, or a size like "512 MiB" or "1.5 GiB"')
        size_bytes = float(match[1]) * _UNITS_BYTES[match[2]]
    if not 0 <= size_bytes <= SIZE_MAX_BYTES:
        raise ValueError("Write a size from 0 to 64 TiB")
    return int(size_bytes)
