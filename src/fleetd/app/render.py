"""fleetd-render: root writes what workers are started with, and what a boot starts (law 5).

A bad configuration changes nothing: the last good files stay. No worker is started or stopped; a running one keeps the
settings it was started with until fleetd replaces it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from fleetd.adapters.host.found_file import read_found
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.mastodon.code import WATCHED, WATCHED_GIT, CodeUnreadableError
from fleetd.adapters.mastodon.env import read_env
from fleetd.adapters.mastodon.env_file import EnvFile, env_file_from, read_env_file
from fleetd.adapters.mastodon.exporter import exporter_ports
from fleetd.adapters.mastodon.sidekiq_units import booted_schedulers, other_sidekiqs
from fleetd.adapters.rendering.boot_links import BootLinks
from fleetd.adapters.rendering.rendered_files import RenderedFiles, RenderedMastodon, below
from fleetd.adapters.rendering.worker_unit import worker_dropin
from fleetd.app.daemons_view import unfit_units
from fleetd.app.route import route
from fleetd.app.stamp import stamp
from fleetd.app.worker_command import command_problem, home_of
from fleetd.config import Settings, load
from fleetd.config.access_tables import MastodonSection
from fleetd.core.model.facts import UnfitUnit
from fleetd.core.model.identity import SCHEDULER, TARGET_UNIT, InstanceKey, unit_name
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.unit_rules.judge import may_boot, unfit_of
from fleetd.core.model.worker_settings import ExporterPorts, all_settings, min_numbers
from fleetd.errors import ConfigError, ConfigProblem, FleetdError
from fleetd.words.plain import plain
from fleetd.words.units import headline


def main(arguments: Sequence[str] | None = None) -> None:
    """Render and exit: 0 done, 1 the configuration or the disk does not allow it. No file is left half written."""
    parser = argparse.ArgumentParser(prog="fleetd-render", description="Write the settings of Mastodon's workers.")
    parser.add_argument("--config", type=Path, default=Path("/etc/fleetd/fleetd.toml"), help="the configuration")
    parser.add_argument("--dir", type=Path, default=SETTINGS_DIRECTORY, help="where the settings go")
    parser.add_argument("--root", type=Path, default=Path("/"), help="another root directory (systemd is left alone)")
    options = parser.parse_args(arguments)
    root: Path = options.root.resolve()
    if root == Path("/") and os.geteuid() != 0:
        _print_error("fleetd-render writes root's files: run it as root, or `systemctl start fleetd-render`.")
        sys.exit(1)
    try:
        settings = load(options.config)
        files, boot = RenderedFiles(root, options.dir), BootLinks(root, options.dir)
        _refuse_second_mastodon(settings, files, str(options.config.resolve()))
        for sentence in render(settings, files, boot, root):
            print(plain(sentence))
    except ConfigError as error:
        _print_error(str(error))
        _print_error("Nothing was changed: the workers keep the last good settings.")
        sys.exit(1)
    except FleetdError as error:
        _print_error(str(error))
        sys.exit(1)
    except OSError as error:
        _print_error(f"{error.filename or options.dir}: {error.strerror}. Settings not yet written stay as they were.")
        sys.exit(1)


def render(settings: Settings, files: RenderedFiles, boot: BootLinks, root: Path = Path("/")) -> list[str]:
    """Bring the files and links up to date with the settings; returns what was done, as sentences."""
    sentences = [f"Warning: {warning}" for warning in settings.warnings]
    with files.locked():
        sentences += _place_workers(settings, files, root)
    read = read_env_file(settings.mastodon.env_file, root)
    with files.locked():
        stamped = _stamp(settings, files, root)  # first: the version says how Mastodon's settings are read
        env = _hand_over(read, files)
        to_postgres = route(settings, env, read_found(below(root, Path(settings.state.directory))))
        said = (env.problem, env.unit_problem, to_postgres.unnamed_reason, to_postgres.pool_sentence(settings.policy))
        sentences += [sentence for sentence in said if sentence]
        # Files before links: what a boot starts must have its settings.
        policy = to_postgres.with_pool(settings.policy)
        sentences += _write(policy, files, to_postgres.named, _exporter(settings, env))
        unfit = unfit_units(settings, root)
        hiding = [name for name, found in unfit.items() if found.foreign]
        links, linked = _link(settings, boot, unfit, booted_schedulers(settings.directory, hiding, root))
        usual = MastodonSection().env_file
        stale = [
            linked,
            files.set_directory(settings.directory, str(Path(usual).parent), WATCHED, WATCHED_GIT),
        ]
    sentences += links + stamped
    for unit, directory in other_sidekiqs(settings.directory, root).items():
        sentences.append(
            f"Warning: {unit} runs another Sidekiq on this VM, in {directory}, which fleetd leaves alone. If that is a "
            "second Mastodon: fleetd runs one on a VM, and knows nothing of the other's queues and connections; what "
            "the other takes of memory and cores is missing here. If it is the same one, set mastodon.directory."
        )
    problem = command_problem(settings, root)
    if problem:
        sentences.append(f"Warning: {problem}")
    sentences += [f"Warning: {headline(found)}: see fleetctl check-config." for found in unfit.values()]
    if any(stale) and not files.reload_systemd():
        sentences.append("Warning: `systemctl daemon-reload` failed; run it by hand.")
    if not boot.boot_starts_target() and not policy.observes:
        sentences.append(
            f"Warning: {TARGET_UNIT} is not enabled, so a boot without fleetd starts no worker: enable it."
        )
    return sentences


def _refuse_second_mastodon(settings: Settings, files: RenderedFiles, config: str) -> None:
    """Raises ConfigError where another configuration has rendered another Mastodon's workers here."""
    before = files.mastodon()
    if before is not None and before.config != config and before.directory != settings.directory:
        what = (
            f"this is for the Mastodon in {settings.directory}, but the workers of this VM are those of the one in "
            f"{before.directory}, rendered from {before.config}: fleetd runs one Mastodon on a VM"
        )
        cure = (
            f"Give the second Mastodon a VM of its own. If it takes the place of the first, change {before.config}, or "
            f"remove {files.mastodon_file}."
        )
        raise ConfigError(config, [ConfigProblem("mastodon.directory", what, cure)])
    files.write_mastodon(RenderedMastodon(directory=settings.directory, config=config))


def _place_workers(settings: Settings, files: RenderedFiles, root: Path) -> list[str]:
    """Where and as whom workers run, before anything is read as they would read it.

    A drop-in would change somebody else's unit of the same name too, which is not to happen while fleetd only observes.
    """
    foreign = settings.policy.observes and any(found.foreign for found in unfit_units(settings, root).values())
    dropin = None if foreign else worker_dropin(settings, home_of(settings.mastodon.user))
    if not files.set_worker_unit(dropin):
        return []
    if not files.reload_systemd():
        return ["Warning: `systemctl daemon-reload` failed; run it by hand."]
    return ["The workers' units have a new drop-in for mastodon.user, mastodon.directory and mastodon.exec."]


def _hand_over(read: EnvFile, files: RenderedFiles) -> EnvFile:
    """Leave Mastodon's settings for fleetd's next start. While they can't be read, those of this boot stay."""
    code = files.code()
    env = structs.replace(read.or_kept(env_file_from(files.env_copy())), version=code.version if code else "")
    files.hand_over_env(msgspec.json.encode(env))
    return env


def _exporter(settings: Settings, env: EnvFile) -> ExporterPorts | None:
    """The ports of Mastodon's Prometheus exporter, if its settings switch it on in each process."""
    variables = read_env(env)
    known = {} if variables is None else variables.known()
    return exporter_ports(known, frozenset({settings.http.port} if settings.http else ()))


def _write(policy: Policy, files: RenderedFiles, named: bool, exporter: ExporterPorts | None) -> list[str]:
    """Write the settings of every configured number; remove those of numbers that are gone and do not run."""
    wanted = all_settings(policy, name_connections=named, exporter=exporter)
    written = [worker.key for worker in wanted if files.write(worker.key, worker.text)]
    sentences = [f"Wrote the settings of {_list(written)}."] if written else ["All settings are up to date."]
    for key in sorted(set(files.keys()) - {worker.key for worker in wanted}):
        # Without its settings a running one would fail when systemd restarts it, whatever we want.
        if files.runs(key):
            sentences.append(
                f"{unit_name(key)} is no longer configured but runs: fleetd drains it, and its settings stay until "
                "it has stopped."
            )
        else:
            files.remove(key)
            sentences.append(f"Removed the settings of {unit_name(key)}, which is no longer configured.")
    return sentences


def _link(
    settings: Settings, boot: BootLinks, unfit: Mapping[str, UnfitUnit], rivals: tuple[str, ...]
) -> tuple[list[str], bool]:
    """Enable the scheduler, if it belongs here, and each profile's lowest `min` numbers; disable the rest.

    What a person enabled or disabled since the last render stays so (law 6), except for a scheduler that does not
    belong here (law 1) and numbers that are no longer configured. Nor does a boot start an `unfit` unit that serves
    queues of its own, or the scheduler beside a rival. Returns sentences, and whether a link changed.
    """
    wanted, sentences = _wanted_at_boot(settings, rivals)
    wanted = [key for key in wanted if may_boot(unfit_of(key, unfit))]
    linked, listed = boot.linked(), boot.listed()
    kept_off = [key for key in wanted if key in listed and key not in linked]
    more = [key for key in wanted if key not in linked and key not in listed]
    configured = {key for profile in settings.policy.profiles for key in profile.numbers}
    less = [key for key in linked if key not in wanted and (key in listed or key not in configured)]
    if more:
        boot.link(more)
        sentences.append(f"A boot starts {_list(more)} from now on.")
    if less:
        boot.unlink(less)
        sentences.append(f"A boot no longer starts {_list(less)}.")
    for key in kept_off:
        sentences.append(
            f"A boot does not start {_list([key])}, which was disabled by hand; to undo that: "
            f"systemctl enable {unit_name(key)}"
        )
    boot.write_list(wanted, settings.policy.pace.booting_max)
    return sentences, bool(more or less)


def _wanted_at_boot(settings: Settings, rivals: tuple[str, ...]) -> tuple[list[InstanceKey], list[str]]:
    """What a boot should start, in order: the scheduler, then the profiles by importance; and warnings.

    `rivals`: other units that a boot starts and that serve the queue `scheduler`, or may.
    """
    instances: list[InstanceKey] = list(min_numbers(settings.policy))
    if settings.policy.scheduler.place != "here":
        return instances, []
    if rivals:
        names = ", ".join(rivals)
        return instances, [
            f"Warning: {names} is enabled and serves the scheduler queue too, or may, so a boot won't start ours "
            "beside it. `fleetctl migrate` puts fleetd's in its place."
        ]
    return [SCHEDULER, *instances], []


def _stamp(settings: Settings, files: RenderedFiles, root: Path) -> list[str]:
    """Stamp Mastodon's code, as fleetd-stamp.service will do from now on; a failure does not stop the rendering."""
    try:
        change = stamp(Path(settings.directory), files, root)
    except CodeUnreadableError as error:
        return [f"Warning: {error}"]
    return [change] if change else []


def _list(keys: Sequence[InstanceKey]) -> str:
    names = ["the scheduler" if key == SCHEDULER else str(key) for key in keys]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _print_error(text: str) -> None:
    """To stderr, as errors if that is the journal."""
    prefix = "<3>" if "JOURNAL_STREAM" in os.environ else ""
    for line in text.splitlines():
        print(prefix + plain(line), file=sys.stderr)


if __name__ == "__main__":
    main()
