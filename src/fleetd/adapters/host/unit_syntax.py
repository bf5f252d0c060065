"""The syntax of unit files, as systemd 252 reads it (systemd.syntax(7); its config_parse)."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final

from fleetd.core.model.unit_rules.text import UnitLine, UnitSection

_SECTIONS: Final[dict[str, UnitSection]] = {"[Unit]": "Unit", "[Service]": "Service"}


def unit_lines(content: bytes, file: str) -> tuple[UnitLine, ...]:
    """The assignments in [Unit] and [Service]. What systemd ignores is left out."""
    found: list[UnitLine] = []
    section: UnitSection | None = None
    for raw in _whole_lines(content.removeprefix(codecs.BOM_UTF8)):
        try:
            line = raw.strip(b" \t\r\n").decode()
        except UnicodeDecodeError:  # systemd ignores it as well
            continue
        if line.startswith("["):
            if not line.endswith("]"):  # systemd reads no further
                break
            section = _SECTIONS.get(line)
        elif section is not None and "=" in line:
            name, _, value = line.partition("=")
            found.append(UnitLine(name=name.strip(), value=value.strip(), file=file, section=section))
    return tuple(found)


def _whole_lines(content: bytes) -> Iterator[bytes]:
    """Each line with those that continue it.

    An odd number of backslashes at its very end continues a line; not if a space follows. Comments in between are left
    out, and a blank line ends it.
    """
    begun: bytes | None = None
    for piece in content.replace(b"\r\n", b"\n").replace(b"\0", b"\n").split(b"\n"):
        line = piece.lstrip(b" \t\r\n")
        if line.startswith((b"#", b";")):
            continue
        line = (begun or b"") + line
        backslashes = len(line) - len(line.rstrip(b"\\"))
        if backslashes % 2:
            begun = line[:-1] + b" "
            continue
        begun = None
        yield line
    if begun is not None:
        yield begun
