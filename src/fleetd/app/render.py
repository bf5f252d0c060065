"""fleetd-render: root writes what the workers are started with, and what a boot starts (law 5).

A bad configuration changes nothing: the last good files stay. It starts and stops no worker; a running one keeps what
it was started with until fleetd replaces it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fleetd.adapters.boot_links import TARGET, BootLinks
from fleetd.adapters.mastodon_code import WATCHED, WATCHED_GIT, CodeUnreadableError
from fleetd.adapters.rendered_files import SETTINGS_DIRECTORY, RenderedFiles, unit_name
from fleetd.app.route import route
from fleetd.app.stamp import stamp
from fleetd.config import Settings, load
from fleetd.config.schema import MastodonSection
from fleetd.core.settings import Number, all_settings, min_numbers
from fleetd.errors import ConfigError, FleetdError


def main(arguments: Sequence[str] | None = None) -> None:
    """Render and exit: 0 done, 1 the configuration or the disk does not allow it (no file is half written)."""
    parser = argparse.ArgumentParser(
        prog="fleetd-render", description="Write the settings of Mastodon's workers."
    )
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/fleetd/fleetd.toml"), help="the configuration"
    )
    parser.add_argument("--dir", type=Path, default=SETTINGS_DIRECTORY, help="where the settings go")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="another root directory (systemd is left alone)"
    )
    options = parser.parse_args(arguments)
    root: Path = options.root.resolve()
    if root == Path("/") and os.geteuid() != 0:
        _complain("fleetd-render writes files of root: run it as root, or `systemctl start fleetd-render`.")
        sys.exit(1)
    try:
        settings = load(options.config)
        files, boot = RenderedFiles(root, options.dir), BootLinks(root, options.dir)
        for sentence in render(settings, files, boot, root):
            print(sentence)
    except ConfigError as error:
        _complain(str(error))
        _complain("Nothing was changed: the workers keep the last good settings.")
        sys.exit(1)
    except FleetdError as error:
        _complain(str(error))
        sys.exit(1)
    except OSError as error:
        _complain(
            f"{error.filename or options.dir}: {error.strerror}. Settings not yet written stay as they were."
        )
        sys.exit(1)


def render(settings: Settings, files: RenderedFiles, boot: BootLinks, root: Path = Path("/")) -> list[str]:
    """Make the files and links say what the settings say; returns what was done, as sentences."""
    said = [f"Warning: {warning}" for warning in settings.warnings]
    way = route(settings, files.read_env_file(settings.env_file) if settings.env_file else None)
    said += [way.unnamed_why] if way.unnamed_why else []
    with files.locked():
        # Files before links: what a boot starts must have its settings.
        said += _write(settings, files, way.named)
        links, linked = _link(settings, boot)
        usual = MastodonSection().env_file
        stale = [
            linked,
            boot.drop_old_links(),
            files.set_env_file(settings.env_file, usual),
            files.set_directory(settings.directory, str(Path(usual).parent), WATCHED, WATCHED_GIT),
        ]
        stamped = _stamp(settings, files, root)
    said += links + stamped
    if any(stale) and not files.reload_systemd():
        said.append("Warning: `systemctl daemon-reload` failed; run it by hand.")
    if not boot.boot_starts_target():
        said.append(
            f"Warning: {TARGET} is not enabled, so a boot without fleetd starts no worker: enable it."
        )
    return said


def _write(settings: Settings, files: RenderedFiles, named: bool) -> list[str]:
    """Write the settings of every configured number; remove those of numbers that are gone and don't run."""
    wanted = all_settings(settings.policy, name_connections=named)
    written = [worker.number for worker in wanted if files.write(worker.number, worker.text)]
    said = [f"Wrote the settings of {_list(written)}."] if written else ["All settings are up to date."]
    gone = [number for number in files.numbers() if number not in {worker.number for worker in wanted}]
    for number in gone:
        # A running one would fail at its next restart without them: systemd's restart is no affair of ours.
        if files.runs(number):
            said.append(
                f"Warning: instance {number} is no longer configured but runs; its settings stay until it has "
                f"stopped. Stop it with `systemctl stop mastodon-sidekiq@{number}`, then run fleetd-render again."
            )
        else:
            files.remove(number)
            said.append(f"Removed the settings of {number}, which is no longer configured.")
    return said


def _link(settings: Settings, boot: BootLinks) -> tuple[list[str], bool]:
    """Enable the scheduler, where it belongs here, and each profile's lowest `min` numbers; disable the rest.

    Returns what to say of it, and whether a link changed.

    What a person enabled or disabled since the last render stays so (law 6), but for a scheduler that does not
    belong here (law 1) and numbers that are no longer configured.
    """
    wanted, said = _wanted_at_boot(settings, boot)
    linked, listed = boot.linked(), boot.listed()
    kept_off = [number for number in wanted if number in listed and number not in linked]
    more = [number for number in wanted if number not in linked and number not in listed]
    configured = {number for profile in settings.policy.profiles for number in profile.numbers}
    less = [
        number for number in linked if number not in wanted and (number in listed or number not in configured)
    ]
    if more:
        boot.link(more)
        said.append(f"A boot starts {_list(more)} from now on.")
    if less:
        boot.unlink(less)
        said.append(f"A boot no longer starts {_list(less)}.")
    for number in kept_off:
        said.append(
            f"A boot does not start {_list([number])}, which was disabled by hand; to undo that: "
            f"systemctl enable {unit_name(number)}"
        )
    boot.write_list(wanted, settings.policy.pace.booting_max)
    return said, bool(more or less)


def _wanted_at_boot(settings: Settings, boot: BootLinks) -> tuple[list[Number], list[str]]:
    """In the order of the boot: the scheduler, then the profiles by importance."""
    instances: list[Number] = list(min_numbers(settings.policy))
    if settings.policy.scheduler.place != "here":
        return instances, []
    if boot.stock_unit_enabled():
        return instances, [
            "Warning: mastodon-sidekiq.service is enabled and serves the scheduler queue too, so a boot won't "
            "start ours beside it (law 1). Disable it: systemctl disable mastodon-sidekiq.service"
        ]
    return ["scheduler", *instances], []


def _stamp(settings: Settings, files: RenderedFiles, root: Path) -> list[str]:
    """Stamp Mastodon's code, as fleetd-stamp.service does from now on; its trouble is no reason not to render."""
    try:
        said = stamp(Path(settings.directory), files, root)
    except CodeUnreadableError as error:
        return [f"Warning: {error}"]
    return [said] if said else []


def _list(numbers: Sequence[Number]) -> str:
    names = ["the scheduler" if number == "scheduler" else str(number) for number in numbers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _complain(text: str) -> None:
    """To stderr; in the journal each line with the priority of an error."""
    prefix = "<3>" if "JOURNAL_STREAM" in os.environ else ""
    for line in text.splitlines():
        print(prefix + line, file=sys.stderr)


if __name__ == "__main__":
    main()
