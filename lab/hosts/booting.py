"""Waits until a host's systemd has started everything that it should start."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.waiting import wait_until

if TYPE_CHECKING:
    from lab.hosts.host import Host

_ANSWER_SECONDS = 10.0
_BOOTED = ("running", "degraded")


def wait_for_systemd(host: Host, timeout: float) -> None:
    """Wait until a host has booted, for at most `timeout` seconds. LabError says what it still waits for."""
    deadline = time.monotonic() + timeout

    def answers() -> bool:
        if not host.running:
            raise LabError(f"{host.name}: systemd ended while it booted.")
        return (host.root / "run/systemd/private").exists()

    wait_until(f"systemd of {host.name} answers", answers, timeout, every=0.02)
    try:
        wait_until(f"{host.name} has booted", lambda: _has_booted(host), deadline - time.monotonic())
    except LabError as error:
        raise LabError(f"{error} It waits for: {_jobs(host)}") from None


def _has_booted(host: Host) -> bool:
    # Polled, instead of one call with --wait: on a busy machine that has hung long after the boot was over.
    if not host.running:
        raise LabError(f"{host.name}: systemd ended while it booted.")
    with contextlib.suppress(LabError):
        asked = host.run(["systemctl", "is-system-running"], timeout=_ANSWER_SECONDS, check=False)
        return asked.stdout.strip() in _BOOTED
    return False


def _jobs(host: Host) -> str:
    with contextlib.suppress(LabError):
        listed = host.run(["systemctl", "list-jobs", "--no-legend"], timeout=_ANSWER_SECONDS, check=False)
        return "; ".join(listed.stdout.splitlines()) or "no job"
    return "systemd does not answer"
