"""A limit of this machine that hosts share: how many inotify instances one user may have.

Each host's systemd takes one for every path unit and a few more, all of them as root. Linux allows 128, which three
labs use up; the next systemd then ends while it boots, or waits for ever.
"""

from pathlib import Path

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024


def raise_inotify(path: Path = INOTIFY) -> bool:
    """Allow enough instances until this machine's next boot. True: the limit was lower."""
    try:
        if int(path.read_text()) >= INOTIFY_INSTANCES:
            return False
        path.write_text(f"{INOTIFY_INSTANCES}\n")
    except OSError:  # a lab within a host: kernel settings are read-only there
        return False
    return True
