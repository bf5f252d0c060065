"""fleetd-stamp: root writes down which code of Mastodon's lies on disk, because fleetd itself can't see it.

The directory is an argument, not read from the configuration: a configuration that can't be used must not keep an
upgrade from being noticed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fleetd.adapters.mastodon_code import read_code
from fleetd.adapters.rendered_files import SETTINGS_DIRECTORY, RenderedFiles, below
from fleetd.errors import FleetdError

#: A checkout that goes on for longer than so many readings gets its own start of fleetd-stamp.service.
READINGS_MAX = 5
#: Priorities for the journal; fleetd-stamp.service lets nothing below a notice through.
_NOTICE, _ERROR = "<5>", "<3>"


def main(arguments: Sequence[str] | None = None) -> None:
    """Stamp and exit: 0 done, 1 the code can't be read or the stamp not be written (the old one stays)."""
    parser = argparse.ArgumentParser(
        prog="fleetd-stamp", description="Write down which code of Mastodon's lies on disk."
    )
    parser.add_argument("directory", type=Path, help="Mastodon's directory")
    parser.add_argument("--dir", type=Path, default=SETTINGS_DIRECTORY, help="where the stamp goes")
    parser.add_argument("--root", type=Path, default=Path("/"), help="another root directory")
    options = parser.parse_args(arguments)
    files = RenderedFiles(options.root.resolve(), options.dir)
    try:
        with files.locked():
            said = stamp(options.directory, files, options.root)
    except FleetdError as error:
        _say(_ERROR, str(error))
        sys.exit(1)
    except OSError as error:
        _say(_ERROR, f"{error.filename or options.dir}: {error.strerror}. The last stamp stays.")
        sys.exit(1)
    if said:
        _say(_NOTICE, said)


def stamp(directory: Path, files: RenderedFiles, root: Path = Path("/")) -> str:
    """Write what lies in Mastodon's directory; a sentence when that is something else than before, else "".

    systemd starts nothing anew for what changes while this runs, so it is read until it stays as it was written.
    """
    said = ""
    for _ in range(READINGS_MAX):
        code = read_code(below(root, directory))
        if not files.write_code(code):
            break
        if code is None:
            said = f"{directory} holds no code of Mastodon's."
        else:
            said = f"Mastodon's code on disk: {code.version or 'version unknown'} ({code.digest})."
    return said


def _say(priority: str, sentence: str) -> None:
    print((priority if "JOURNAL_STREAM" in os.environ else "") + sentence, file=sys.stderr)


if __name__ == "__main__":
    main()
