"""fleetd-stamp: root writes down which version of Mastodon's code is on disk, because fleetd itself can't see it.

The directory is an argument and does not come from the configuration: a configuration that can't be used must not keep
an upgrade from being noticed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.mastodon.code import read_workers_code
from fleetd.adapters.rendering.rendered_files import RenderedFiles
from fleetd.errors import FleetdError
from fleetd.words.plain import plain

#: An upgrade changes one file after the other, and systemd does not start this program again for what changes while it
#: runs. So it looks again until nothing has changed for this long.
QUIET_SECONDS = 3.0
#: An upgrade that takes longer is left to the next start. Less than TimeoutStartSec.
LOOKING_SECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.5
#: Priorities for the journal; fleetd-stamp.service drops everything below a notice.
_NOTICE, _ERROR = "<5>", "<3>"


def main(arguments: Sequence[str] | None = None) -> None:
    """Stamp and exit: 0 done, 1 the code can't be read or the stamp can't be written (the old one stays)."""
    parser = argparse.ArgumentParser(
        prog="fleetd-stamp", description="Write down which version of Mastodon's code is on disk."
    )
    parser.add_argument("directory", type=Path, help="Mastodon's directory")
    parser.add_argument("--dir", type=Path, default=SETTINGS_DIRECTORY, help="where the stamp goes")
    parser.add_argument("--root", type=Path, default=Path("/"), help="another root directory")
    options = parser.parse_args(arguments)
    files = RenderedFiles(options.root.resolve(), options.dir)
    try:
        stamp_until_quiet(options.directory, files, options.root)
    except FleetdError as error:
        _print(_ERROR, str(error))
        sys.exit(1)
    except OSError as error:
        _print(_ERROR, f"{error.filename or options.dir}: {error.strerror}. The last stamp stays.")
        sys.exit(1)


def stamp_until_quiet(directory: Path, files: RenderedFiles, root: Path = Path("/")) -> None:
    """Stamp; if the code changed, look again until it is quiet. Prints each change."""
    began = time.monotonic()
    changed: float | None = None
    while True:
        with files.locked():
            change = stamp(directory, files, root)
        now = time.monotonic()
        if change:
            _print(_NOTICE, change)
            changed = now
        if changed is None or now - changed >= QUIET_SECONDS or now - began >= LOOKING_SECONDS_MAX:
            return
        time.sleep(_PAUSE_SECONDS)


def stamp(directory: Path, files: RenderedFiles, root: Path = Path("/")) -> str | None:
    """Write which code is in Mastodon's directory; a sentence if it changed, else None."""
    code = read_workers_code(directory, root)
    if not files.write_code(code):
        return None
    if code is None:
        return f"{directory} holds no code of Mastodon's."
    return f"Mastodon's code on disk: {code.version or 'version unknown'} ({code.digest})."


def _print(priority: str, sentence: str) -> None:
    print((priority if "JOURNAL_STREAM" in os.environ else "") + plain(sentence), file=sys.stderr)


if __name__ == "__main__":
    main()
