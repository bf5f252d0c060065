"""How much memory this process takes at most while something happens, in C libraries too."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc/self")


class Peak:
    """`grown_mib`: from the beginning to the highest point."""

    grown_mib = 0.0


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """proc(5): writing 5 to clear_refs sets the peak (VmHWM) back to what is resident now."""
    peak = Peak()
    (_PROC / "clear_refs").write_text("5")
    before = _resident_mib("VmRSS")
    yield peak
    peak.grown_mib = _resident_mib("VmHWM") - before


def _resident_mib(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", (_PROC / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
