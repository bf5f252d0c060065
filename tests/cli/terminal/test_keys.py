"""`q` ends a screen that is drawn again and again."""

from __future__ import annotations

import os
import pty
import termios
import time

import pytest

from fleetd.cli.terminal.keys import quit_key


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Our side and the program's; it counts as the one that we run on."""
    ours, programs = pty.openpty()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _file: os.getpgrp())
    return ours, programs


def never(_seconds: float) -> None:
    raise AssertionError


def test_q_ends_the_wait_and_the_terminal_is_as_before(terminal: tuple[int, int]) -> None:
    ours, programs = terminal
    before = termios.tcgetattr(programs)
    with quit_key(programs, never) as quits:
        assert not quits(0.05)
        os.write(ours, b"x")
        assert not quits(0.05)
        os.write(ours, b"q")
        begun = time.monotonic()
        assert quits(30.0)
        assert time.monotonic() - begun < 10.0
    assert termios.tcgetattr(programs) == before


def test_ctrl_c_still_interrupts(terminal: tuple[int, int]) -> None:
    _, programs = terminal
    with quit_key(programs, never):
        assert termios.tcgetattr(programs)[3] & termios.ISIG


def test_without_a_terminal_or_in_the_background_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    reading, writing = os.pipe()
    with quit_key(reading, slept.append) as quits:
        assert not quits(2.0)
    os.close(reading)
    os.close(writing)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _file: -1)
    _, programs = pty.openpty()
    with quit_key(programs, slept.append) as quits:
        assert not quits(2.0)
    assert slept == [2.0, 2.0]
