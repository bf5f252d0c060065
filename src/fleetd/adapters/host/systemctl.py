"""Asking systemd with systemctl, for root's short programs, which work before the bus is up."""

from __future__ import annotations

import subprocess

SYSTEMCTL_SECONDS = 30.0


def systemctl(*arguments: str, seconds: float = SYSTEMCTL_SECONDS) -> str | None:
    """What systemctl printed; None when it failed or did not answer in time."""
    try:
        done = subprocess.run(
            ["systemctl", "--no-ask-password", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
