"""A key that ends what is drawn again and again."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator

_QUIT = b"qQ"


@contextlib.contextmanager
def quit_key(file: int, sleep: Callable[[float], None]) -> Iterator[Callable[[float], bool]]:
    """Yields a function that waits for some seconds and returns whether `q` was typed on the terminal `file`.

    If that is no terminal, or another program's at the moment, it calls `sleep`. What is typed is not shown, and Ctrl-C
    works as ever.
    """
    if not _is_ours(file):

        def slept(seconds: float) -> bool:
            sleep(seconds)
            return False

        yield slept
        return
    before = termios.tcgetattr(file)
    tty.setcbreak(file)
    try:
        yield lambda seconds: _typed(file, seconds)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _is_ours(file: int) -> bool:
    """Whether it is a terminal that we may change: in the background that would stop us."""
    try:
        return os.isatty(file) and os.tcgetpgrp(file) == os.getpgrp()
    except OSError:
        return False


def _typed(file: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([file], [], [], left)
        if not readable:
            return False
        typed = os.read(file, 64)
        if not typed:  # the terminal is gone
            return True
        if any(key in _QUIT for key in typed):
            return True
    return False
