"""Unit files as systemd reads them; tests/lab/systemd/test_foreign_units.py compares with systemd itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.host.unit_syntax import unit_lines


def said(content: bytes) -> list[tuple[str, str, str]]:
    return [(line.section, line.name, line.value) for line in unit_lines(content, "x.conf")]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"[Service]\nA=1\n A = 2 \n", [("A", "1"), ("A", "2")]),
        (b"\xef\xbb\xbf[Service]\nA=1\n", [("A", "1")]),
        (b"[Service]\r\nA=1\r\nB=2\r\n", [("A", "1"), ("B", "2")]),
        (b"[Service]\nA=1 \\\n  2\nB=3\n", [("A", "1  2"), ("B", "3")]),
        (b"[Service]\nA=1\\\n# not this\n;nor this\n2\n", [("A", "1 2")]),
        (b"[Service]\nA=1 \\\n\nB=3\n", [("A", "1"), ("B", "3")]),
        (b"[Service]\nA=1 \\ \nB=3\n", [("A", "1 \\"), ("B", "3")]),
        (b"[Service]\nA=1 \\\\\nB=3\n", [("A", "1 \\\\"), ("B", "3")]),
        (b"[Service]\nA=\xff\nB=3\n", [("B", "3")]),
        (b"[Service]\nA=1 # no comment\n", [("A", "1 # no comment")]),
        (b"[Service]\nA=1\n[Service\nB=2\n", [("A", "1")]),
        (b"A=0\n[Install]\nA=1\n[Service]\nno assignment\nA=2", [("A", "2")]),
        (b"[Service]\nA=1 \\", [("A", "1")]),
    ],
)  # fmt: skip
def test_what_systemd_makes_of_it(content: bytes, lines: list[tuple[str, str]]) -> None:
    assert [(name, value) for _, name, value in said(content)] == lines


def test_sections_are_told_apart() -> None:
    assert said(b"[Unit]\nA=1\n[Service]\nA=2\n[Unit]\nB=3") == [
        ("Unit", "A", "1"),
        ("Service", "A", "2"),
        ("Unit", "B", "3"),
    ]


@given(st.binary(max_size=200))
def test_nothing_breaks_it(content: bytes) -> None:
    for _, name, value in said(b"[Service]\n" + content):
        assert name == name.strip()
        assert "\n" not in value
