"""Root reads files of somebody else as they would read them: with their rights, in a child process, for a bounded time.

So a symbolic link leads to nothing that its owner could not read anyway, and a file system that never answers (FUSE,
NFS) costs seconds, not the program.
"""

from __future__ import annotations

import os
import pwd
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from fleetd.adapters.host.worker_account import Account, AccountError

READ_SECONDS = 10.0
ANSWER_BYTES_MAX = 1024 * 1024
_END_SECONDS = 1.0
_STDERR = 2
_REFUSED = b"its rights can't be taken on"


def as_account(account: Account | None, read: Callable[[], bytes], seconds: float = READ_SECONDS) -> bytes:
    """What `read` returns with the rights of `account` alone; None: with our own, at once and without a deadline.

    `read` runs in a child process: nothing that it changes here stays. It must foresee its errors; what it raises is in
    the log with its traceback. Raises AccountError then, when the rights can't be taken on, and after `seconds`.
    """
    if account is None:
        return read()
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    # Not a program of its own: a process that changed its user without exec can't be traced by that user.
    child = os.fork()
    if child == 0:
        _answer(account, read, sending)
    try:
        os.close(sending)
        answer = _receive(receiving, time.monotonic() + seconds)
    except TimeoutError:
        raise AccountError(f"reading it as user {account.name} took more than {seconds:g} s") from None
    finally:
        os.close(receiving)
        _end(child)
    head, _, content = answer.partition(b"\n")
    if head != _head(content):  # its user may have killed it in the middle
        why = head.decode(errors="replace") if head.startswith(_REFUSED) else "its reader ended without an answer"
        raise AccountError(f"it could not be read as user {account.name}: {why}")
    return content


def _answer(account: Account, read: Callable[[], bytes], sending: int) -> NoReturn:
    """The child: nothing here may return to, or clean up after, the parent's code."""
    try:
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        os.closerange(_STDERR + 1, sending)  # such as the lock of the settings
        os.closerange(sending + 1, max(files_max, sending + 1))
        try:
            _become(account)
        except OSError as error:
            answer = _REFUSED + f": {error.strerror}\n".encode()
        else:
            content = read()
            answer = _head(content) + b"\n" + content
        while answer:
            answer = answer[os.write(sending, answer) :]
    except BaseException:
        os.write(_STDERR, traceback.format_exc().encode())
    finally:
        os._exit(0)


def _head(content: bytes) -> bytes:
    """The first line of a whole answer."""
    return b"%d bytes" % len(content)


def _become(account: Account) -> None:
    """Take on an account for good: without a way back, and without capabilities unless it is root.

    Its home too: libpq looks there for .pgpass and certificates, and not where the system says the home is.
    """
    with suppress(KeyError):
        os.environ["HOME"] = pwd.getpwuid(account.uid).pw_dir
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)


def _receive(receiving: int, deadline: float) -> bytes:
    """What the child writes until it ends, cut off after ANSWER_BYTES_MAX. Raises TimeoutError at the deadline."""
    poll = select.poll()
    poll.register(receiving, select.POLLIN)
    answer = b""
    while len(answer) <= ANSWER_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(receiving, 65536)
        if not chunk:
            break
        answer += chunk
    return answer[:ANSWER_BYTES_MAX]


def _end(child: int) -> None:
    """Kill what is left of it. One that can't be killed yet, in a stuck file system, is left to init or systemd."""
    deadline = time.monotonic() + _END_SECONDS
    with suppress(OSError):
        os.kill(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.005)
